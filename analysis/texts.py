"""What a text states and how far two texts lie apart: numbers, sentences, edit distance, compressibility.

Pure functions for ``analysis.fidelity``. Numbers are found by form alone, so that a rewrite's numbers are a bound on
its steps and no proof of them: ``48 / 2`` for ``half of 48`` brings in a 2 (spelled-out numbers and a few such words
are therefore understood where a number may have come from).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from decimal import Decimal

from dart.reward.detectors import SENTENCE_END

# A minus is a sign where neither an operand nor a word stands before it: "= -3", but not "5 - 3", "5 -3" or "top-3".
NUMBER = re.compile(
    r"(?P<sign>(?<![\w)%])(?<![\d)%]\s)[-\u2212])?\$?(?<![A-Za-z_\d.])"
    r"(?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
)
LABEL = re.compile(r"\bstep\s+[0-9]+\b|^\s*[0-9]{1,2}[.)]\s", re.IGNORECASE | re.MULTILINE)  # "Step 2:", "2. "
WORD = re.compile(r"[a-z]+")
SPELLED = {
    name: Decimal(value)
    for value, names in {
        0: "zero", 1: "one", 2: "two half twice double doubled doubles pair", 4: "four quarter quarters",
        3: "three third thirds thrice triple tripled", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine",
        10: "ten", 11: "eleven",
        12: "twelve dozen dozens", 13: "thirteen", 14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen",
        18: "eighteen", 19: "nineteen", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty",
        70: "seventy", 80: "eighty", 90: "ninety", 100: "hundred", 1000: "thousand",
    }.items()
    for name in names.split()
}  # fmt: skip


def numbers(text: str) -> set[Decimal]:
    """Return the distinct numbers written in figures: ``1,200``, ``$3.50`` and ``-4``; step labels are left out."""
    text = LABEL.sub(" ", text.replace("{,}", ","))
    return {
        Decimal(("-" if match["sign"] else "") + match["digits"].replace(",", "")) for match in NUMBER.finditer(text)
    }


def named_numbers(text: str) -> set[Decimal]:
    """Return the numbers written in figures or in words (``twelve``, ``half`` and ``twice`` for 2, ...)."""
    return numbers(text) | {SPELLED[word] for word in WORD.findall(text.lower()) if word in SPELLED}


def sentences(text: str) -> int:
    """Return the number of sentences, at least 1: ended by ``.``, ``!`` or ``?`` before a space, or by a line end."""
    return max(1, sum(bool(part.strip()) for part in SENTENCE_END.split(text)))


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many words must be inserted, deleted or replaced to turn one text into the other (Levenshtein).

    Myers (1999) in Hyyrö's form (2003): a column of the dynamic programme is kept as the bits of two integers, which
    is some thirty times as fast as cell by cell; a study compares hundreds of thousands of pairs.
    """
    if not first:
        return len(second)
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | (1 << i)
    every, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    rises, falls, distance = every, 0, len(first)  # bit i: the column rises or falls by one from row i to i + 1
    for word in second:
        here = places.get(word, 0) | falls
        diagonal = ((rises + (here & rises)) ^ rises) | here
        along_rises, along_falls = falls | (every & ~(rises | diagonal)), rises & diagonal
        distance += bool(along_rises & last) - bool(along_falls & last)
        above = (along_rises << 1) | 1
        rises, falls = ((along_falls << 1) | ~(above | diagonal)) & every, above & diagonal & every
    return distance


def distance(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the edit distance as a share of the longer text's words: 0 for equal texts, 1 for nothing in common."""
    longer = max(len(first), len(second))
    return edit_distance(first, second) / longer if longer else 0.0


def compressed_share(texts: Sequence[str]) -> float:
    """Return compressed bytes per byte of all texts together, one a line.

    Together, because in a single short text zlib's header outweighs what repeats.
    """
    joined = "\n".join(texts).encode()
    return len(zlib.compress(joined, 9)) / len(joined)
