"""Final answers in free text: where one is stated, its normal form, and whether two are equal.

A final answer is stated by a marker. Three kinds are known, in order of precedence: ``#### n`` (GSM8K), ``\\boxed{n}``
(MATH), ``the answer is n``. Of the first kind that occurs the *last* marker with a value wins; a number without a
marker is no answer, or a truncated chain of thought would be right by accident.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

# The number alone when a calculation follows it ("#### 9 22 / 2 = 11."), else the rest of the sentence.
HASHES = re.compile(
    r"####[ \t:]*(?P<value>[-+]?\$?[0-9](?:[0-9,.]*[0-9])?(?=[ \t]+[0-9(][^\n#]*=)"
    r"|[^\n#]*?[^\s#](?=\.(?:\s|$)|[ \t]*(?:\n|#|$)))"
)
BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
SAID = re.compile(
    r"(?:\b(?:so|thus|hence|therefore),?\s+)?(?:\bthe\s+)?(?:\bfinal\s+)?\banswer\s*(?:is\b|[:=])[\s:*]*"
    r"(?P<value>[^\n]+?)(?=\.(?:\s|\*|$)|,\s+[a-z]|;|\s(?:because|since|as)\s|####|\n|$)",
    re.IGNORECASE,
)
DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,100})"
# A number, then perhaps a unit in words of two letters or more ("18 dollars", but neither "5 x" nor "2 or more").
NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?P<value>{DIGITS}(?:\.[0-9]{{0,100}})?|\.[0-9]{{1,100}})(?P<below>/[0-9]{{1,100}})?"
    r"(?:\s*%|(?:\s+(?!(?:or|and)\b)[A-Za-z]{2,})*)"
)
LATEX_NOISE = re.compile(r"\\(?:left|right|displaystyle|,|!|;|:|\s)|\\?\$|\^\{?\\circ\}?|\\?%$")
TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}")


@dataclass(frozen=True)
class Statement:
    """A final answer as stated: ``text[start:end]`` is marker and value."""

    start: int
    end: int
    value: str


def extract_answer(text: str) -> str | None:
    """Return the final answer stated in ``text`` in normal form, or None."""
    found = _last_statement(text)
    return None if found is None else normal_form(found.value)


def answer_span(text: str) -> tuple[int, int] | None:
    """Return where the final answer is stated, marker included, as (start, end) in characters."""
    found = _last_statement(text)
    return None if found is None else (found.start, found.end)


def has_marker(text: str) -> bool:
    """Whether the answer is stated in the form that the prompts ask for, ``#### n``."""
    return HASHES.search(text) is not None


def normal_form(value: str) -> str:
    """Strip currency, thousands separators, units, emphasis and LaTeX noise: ``$1,000.0`` and ``1000`` are equal."""
    text = value.strip().strip("*").replace("\u2212", "-").replace("{,}", ",")
    text = TEXT_COMMAND.sub(r" \1", LATEX_NOISE.sub("", text)).strip().rstrip(".").strip("*` ")
    boxes = _by_box(text)
    if boxes and (boxes[0].start, boxes[0].end) == (0, len(text)):  # "#### \\boxed{5}"
        return normal_form(boxes[0].value)
    text = re.sub(r"^([-+]?)[\u20ac\u00a3]\s*", r"\1", text)
    number = NUMBER.fullmatch(text)
    if number is None:
        return re.sub(r"\s+", " ", text)
    whole, _, decimals = number["value"].replace(",", "").partition(".")
    digits = (whole.lstrip("0") or "0") + (f".{decimals.rstrip('0')}" if decimals.rstrip("0") else "")
    return ("-" if number["sign"] == "-" and digits != "0" else "") + digits + (number["below"] or "")


def as_number(normal: str) -> Fraction | None:
    """The exact value of a normal form that is a plain number or fraction, else None."""
    if not re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?|-?[0-9]+/[0-9]+", normal):
        return None
    try:
        return Fraction(normal)
    except ZeroDivisionError:
        return None


def compare(answer: str, gold: str) -> bool | None:
    """Whether an answer equals the gold one; None when only algebra can tell (see ``dart.grading.latex``)."""
    found, wanted = normal_form(answer), normal_form(gold)
    if found == wanted:
        return True
    number = as_number(wanted)
    if number is not None:
        return as_number(found) == number
    return True if found.replace(" ", "") == wanted.replace(" ", "") else None


def answers_equal(answer: str, gold: str) -> bool:
    """Whether an answer equals the gold one: numbers by value, other golds as text, then by algebra."""
    equal = compare(answer, gold)
    if equal is None:
        from dart.grading.latex import equivalent

        (equal,) = equivalent([(answer, gold)])
    return equal


def _last_statement(text: str) -> Statement | None:
    for find in (_by_hashes, _by_box, _by_word):
        found = find(text)
        if found:
            return found[-1]
    return None


def _by_hashes(text: str) -> list[Statement]:
    return [Statement(*match.span(), match["value"]) for match in HASHES.finditer(text)]


def _by_word(text: str) -> list[Statement]:
    return [Statement(*match.span(), match["value"]) for match in SAID.finditer(text)]


def _by_box(text: str) -> list[Statement]:
    """Boxes with balanced braces and something inside; a box cut off by the token limit is none."""
    found = []
    for match in BOXED.finditer(text):
        depth = 1
        for end in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                value = text[match.end() : end]
                found += [Statement(match.start(), end + 1, value)] if value.strip() else []
                break
    return found
