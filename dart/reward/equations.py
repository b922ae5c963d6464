"""Finds the equations that a text states and says which are false: ``12 + 5 = 18`` is, ``half of 10 + 2 = 7`` is not.

Understood are numbers, ``+ - * / ^``, brackets, chains (``a + b = c - d = e``), run-on chains (``3 + 4 = 7 - 2 = 5``),
currency, percent and unit words, ``plus/minus/times/divided by``, ``is/gives/makes/equals``, a two-sentence form
(``12 + 5. It is 17``), spoken steps (``now add 5 to get 17``), variables introduced by ``let``, GSM8K's ``<<48/2=24>>``
and simple LaTeX. What is not understood for certain is left out: a detector that fines good reasoning is worse than
one that misses a slip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dart.reward.arithmetic import readings, rounds
from dart.reward.spelling import spell

MAX_TOKENS = 60  # of one side; longer ones are not understood
UNIT_WORDS = 3  # words that may stand between a number and the next operator

NUMBER = r"\d+(?:\.\d+)?|(?<![\w.])\.\d+"
# Words that change what the number beside them means.
SCALING = set(
    """half halves third thirds quarter quarters fourth fifth twice thrice double triple quadruple dozen dozens pair
    pairs hundred thousand million billion percent of times remainder mod r k squared cubed less more than off
    and""".split()  # noqa: SIM905 (read better as a sentence)
)
TOKEN = re.compile(
    r"(?P<opaque>\d+:\d+|\d+\.\\\w+|\)[A-Za-z]\w*|\d[\d.]*[A-Za-z_]\w*|[A-Za-z_]\w*\(|//|<=|>=|!=|=>|->|[≈~<>√π½¼¾⅓⅔{}\\|_\[\]@±^]|\.\.+)"
    rf"|(?P<number>{NUMBER})"
    r"|(?P<word>[A-Za-z][\w'\u2019]*(?:[-/][A-Za-z][\w'\u2019]*)*)"
    r"|(?P<operator>\*\*|[-+*/])|(?P<weak>§)|(?P<equals>==?)|(?P<open>\()|(?P<close>\))"
    r"|(?P<currency>[$€£])|(?P<percent>%)|(?P<space>[ \t°`]+)|(?P<end>.|\n)",
)
ANNOTATION = re.compile(r"<<([^<>]*)>>")
VERB = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
SPOKEN = re.compile(
    rf"\b(?P<verb>add|subtract|multiply|divide)(?: by)? \$?(?P<operand>{NUMBER})"
    rf" (?:to get|and get|which gives) \$?(?P<result>{NUMBER})(?![\d.]*[\d/*+-]| [-+*/=])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Equation:
    """One equation found: its text as understood, and whether it holds."""

    text: str
    holds: bool


@dataclass(frozen=True)
class _Side:
    """One side of an equation: tokens of an expression, the units met, and how it met its surroundings."""

    tokens: tuple[str, ...]
    units: frozenset[str]
    first: str = ""  # its leading number, for run-on chains
    whole: bool = False  # fills the space between two equals signs
    loose_minus: bool = False  # starts with a minus that may be a bullet
    trailed: bool = False  # a word follows: 60 minutes, but also 24 in May

    @property
    def bare(self) -> bool:
        """A single number."""
        return len([t for t in self.tokens if t not in "-%"]) == 1

    @property
    def decimals(self) -> int:
        """Decimals of a bare number: how finely it may have been rounded."""
        return len("".join(self.tokens).rstrip("%").partition(".")[2]) if self.bare else 0


def equations(text: str) -> list[Equation]:
    """Return every equation of ``text`` that is understood, in no particular order; never raises on any text."""
    found = [equation for part in ANNOTATION.findall(text) for equation in _written(spell(part))]
    spelt = spell(text)
    return [*found, *_written(spelt), *_spoken(spelt)]


def false_equations(text: str) -> list[str]:
    """Return the equations of ``text`` that do not hold."""
    return [equation.text for equation in equations(text) if not equation.holds]


def _spoken(text: str) -> Iterator[Equation]:
    """``Start with 12. Now add 5 to get 17``: the step works on the last number before it."""
    for match in SPOKEN.finditer(text):
        before = re.findall(rf"(?<![\w.])(?:{NUMBER})(?![\w%])", text[: match.start()])
        if before:
            left = (before[-1], VERB[match["verb"].lower()], match["operand"])
            yield from _compare(_Side(left, frozenset()), _Side((match["result"],), frozenset()), False)


def _written(text: str) -> Iterator[Equation]:
    segments: list[list[tuple[str, str]]] = [[]]
    signs: list[str] = []
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or "end"
        if kind in ("equals", "weak"):
            signs.append(kind)
            segments.append([])
        elif kind != "space":
            segments[-1].append((kind, match[0]))
    known: dict[str, str] = {}
    named = ""
    for index, sign in enumerate(signs):
        before, after = segments[index], segments[index + 1]
        named = _let(before) or (named if index and _right(before, known, True) else "")
        left = _left(before, known, index > 0)
        right = _right(after, known, index + 1 < len(signs))
        if named and right is not None and (value := readings(right.tokens)[0]) is not None:
            known[named] = f"({value})"
        if left and right and (sign == "equals" or (right.bare and not left.bare)):
            yield from _compare(left, right, index + 1 < len(signs))


def _let(segment: list[tuple[str, str]]) -> str:
    """The variable that ``let v =`` introduces."""
    words = [token for kind, token in segment[-2:] if kind == "word"]
    return words[1] if len(words) == 2 and words[0].lower() == "let" else ""


def _operands(segment: list[tuple[str, str]], known: dict[str, str], closed: bool) -> list[tuple[str, str]]:
    """Replace known variables by values and unit words by unit tokens; ``closed``: an equals sign follows."""
    tokens = [
        ("number", known[token])
        if kind == "word" and token in known and _beside_operator(segment, i)
        else (kind, token)
        for i, (kind, token) in enumerate(segment)
    ]
    out: list[tuple[str, str]] = []
    i = 0
    while i < len(tokens):
        j = i
        while j < len(tokens) and tokens[j][0] == "word":
            j += 1
        follows = tokens[j][0] if j < len(tokens) else ("operator" if closed else "end")
        words = [token.lower() for _, token in tokens[i:j]]
        unit = out and out[-1][0] in ("number", "close", "percent") and follows in ("operator", "close")
        if words and unit and len(words) <= UNIT_WORDS and all(len(w) > 1 and w not in SCALING for w in words):
            out.append(("unit", words[0].removesuffix("s")))
            i = j
        elif words:
            out += [("word", word) for word in words]
            i = j
        else:
            out.append(tokens[i])
            i += 1
    return out


def _beside_operator(segment: list[tuple[str, str]], i: int) -> bool:
    near = [segment[j][0] for j in (i - 1, i + 1) if 0 <= j < len(segment)]
    return "operator" in near


def _left(segment: list[tuple[str, str]], known: dict[str, str], chained: bool) -> _Side | None:
    """The expression that ends at the equals sign, or None."""
    tokens = _operands(segment, known, closed=True)
    start, depth = len(tokens), 0
    while start > 0:
        kind = tokens[start - 1][0]
        depth += (kind == "close") - (kind == "open")
        if kind in ("end", "opaque", "word") or depth < 0 or (start < len(tokens) and _adjacent(tokens, start)):
            break
        start -= 1
    before = tokens[start - 1] if start else ("end" if not chained else "equals", "")
    body = tokens[start:]
    if not body or depth > 0 or before[0] == "number" or before[1] in SCALING:
        return None
    if before[0] == "open" and tokens[start - 2 : start - 1] and tokens[start - 2][0] == "operator":
        return None  # a bracket that was never closed
    if before[0] == "opaque":
        return None  # an exponent, a root, a function of the bracket
    loose = body[0] == ("operator", "-") and before[0] in ("end", "open")
    if body[0][0] == "operator" and not loose and not (before[0] == "equals" and body[0][1] == "-"):
        return None
    side = _side(body, whole=start == 0 and chained, loose_minus=loose)
    return None if side and side.bare and (before[0] == "word" or side.units - {"dollar"}) else side


def _right(segment: list[tuple[str, str]], known: dict[str, str], chained: bool) -> _Side | None:
    """The expression that starts at the equals sign, or None."""
    tokens = _operands(segment, known, closed=chained)
    stop, depth = 0, 0
    while stop < len(tokens):
        kind = tokens[stop][0]
        depth += (kind == "open") - (kind == "close")
        if kind in ("end", "opaque", "word") or depth < 0 or (stop > 0 and _adjacent(tokens, stop)):
            break
        stop += 1
    rest = tokens[stop:]
    if depth > 0 or (rest and (rest[0][0] in ("opaque", "number", "open") or rest[0][1] in SCALING)):
        return None
    if rest and rest[0][0] == "word" and len(rest[0][1]) == 1:
        return None  # a variable
    words = next((i for i, (kind, _) in enumerate(rest) if kind != "word"), len(rest))
    if words and words < len(rest) and (rest[words][0] == "operator" or (words <= 2 and rest[words][0] == "number")):
        return None  # "24 of them + 3", "3 feet 4 inches"
    return _side(tokens[:stop], whole=not rest and chained, trailed=bool(words) or rest[:1] == [("end", "!")])


def _adjacent(tokens: list[tuple[str, str]], i: int) -> bool:
    """Two operands meet without an operator between tokens i - 1 and i."""
    return tokens[i - 1][0] in ("number", "close", "unit", "percent") and tokens[i][0] in ("number", "open", "currency")


def _side(body: list[tuple[str, str]], whole: bool, loose_minus: bool = False, trailed: bool = False) -> _Side | None:
    units = {token for kind, token in body if kind == "unit"}
    units |= {"dollar" for kind, _ in body if kind == "currency"}
    tokens = tuple(token for kind, token in body if kind not in ("unit", "currency"))
    adds = any(token in "+-" for kind, token in body[1:] if kind == "operator")
    percents = [i for i, token in enumerate(tokens) if token == "%"]
    numbers = [token for kind, token in body if kind == "number"]
    if not numbers or len(tokens) > MAX_TOKENS or body[-1][0] == "operator":
        return None
    if adds and (len(units) > 1 or 0 < len(percents) < len(numbers)):
        return None  # hours and minutes, percentages off: the figures do not add up as they stand
    return _Side(tokens, frozenset(units), numbers[0], whole, loose_minus, trailed)


def _compare(left: _Side, right: _Side, followed: bool) -> Iterator[Equation]:
    """Judge ``left = right``; nothing is yielded when it is a bare statement or cannot be computed."""
    if left.bare and right.bare and (not left.whole or right.trailed or left.units or right.units):
        return  # "Week 3 = 5 hours", "60 = 1 hour"; but the end of a chain, "5 * 2 = 10 = 11", is judged
    if left.units and right.units and not right.units <= left.units:
        return
    rights = [right.tokens]
    if followed and right.whole and not right.bare and right.tokens[0] == right.first:
        rights.append((right.first,))  # run-on chain: the result is carried on
    lefts = [left.tokens] + ([left.tokens[1:]] if left.loose_minus else [])
    pairs = [(readings(a), readings(b)) for a in lefts for b in rights]
    values = [(a, b) for a_all, b_all in pairs for a in a_all for b in b_all if a is not None and b is not None]
    if len(values) < sum(len(a_all) * len(b_all) for a_all, b_all in pairs):
        return  # some reading cannot be computed
    holds = any(a == b or rounds(a, b, right.decimals) or rounds(b, a, left.decimals) for a, b in values)
    yield Equation(f"{' '.join(left.tokens)} = {' '.join(right.tokens)}", holds)
