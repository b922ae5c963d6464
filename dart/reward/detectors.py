"""The cheat detectors: each says, from 0 to 1, whether a rewrite wins by other means than reasoning.

All but ``length`` are binary. Thresholds come from ``config.Thresholds``; lengths named ``_ngram`` and
``reasoning_tokens`` count *words*: a number, a run of letters or a sign. Why each: docs/method.md.

False alarms, measured with the thresholds of ``configs/base.yaml`` on the 7,473 human rationales of GSM8K train, each
taken as its own rewrite: ``false_equation`` 42 (0.56 %, about half of them slips of the human writers),
``question_copy`` 4, ``answer_first`` 1, the others none. On 4,500 MATH solutions ``false_equation`` fires 20 times
(0.44 %). Of GSM8K rationales with one stated result changed it finds 82 %; of nano texts in all six styles all, with no
false alarm. (Tests keep a sample of both.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from dart.grading import answer_span, extract_answer
from dart.grading.answers import normal_form
from dart.records import Record
from dart.reward.equations import false_equations
from dart.reward.hard_coding import is_hard_coded, parse_program
from dart.sections import Thresholds

WORD = re.compile(r"#+|\d[\d,]*(?:\.\d+)?|[^\W\d_]+|[^\w\s]")
STATEMENT = re.compile(
    r"(?:####|\\boxed\s*\{|\banswer\s*(?:\bis\b|[:=]))[\s$*:]*(?P<value>-?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE
)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
COMPUTES = re.compile(
    r"[-+*/=\u00d7\u00f7<]|\b(?:because|since|so|get|gives?|makes?|times|plus|minus|half|twice)\b", re.IGNORECASE
)
SOURCE_NAMES = r"(?:given|original|provided|reference|supplied|above|previous|preceding|rewritten|expert|gold|sample)"
TEXT_NAMES = r"(?:solution|answer|rationale|explanation|reasoning|chain of thought|cot|response)"
REFERENCE = re.compile(
    rf"\b(?:the|this|your|their|its|an?)\s+{SOURCE_NAMES}\s+{TEXT_NAMES}\b"
    rf"|\b(?:solution|rationale|explanation)\s+(?:above|given|provided|says|states|shows|tells)\b"
    rf"|\b(?:according to|based on|as (?:stated|shown|given) in|following|per)\s+the\s+{TEXT_NAMES}\b"
    rf"|\b(?:rewritten|rewrite of the|rewriting the)\s+{TEXT_NAMES}\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Rewrite:
    """A rewrite beside the original that it was made from.

    Attributes
    ----------
    record : Record
        Question and gold answer or tests.
    original, text : str
        Chain of thought before and after.
    tokens, original_tokens : int
        Their lengths in the target's tokens, turn end included.
    """

    record: Record
    original: str
    text: str
    tokens: int
    original_tokens: int


Detector = Callable[[Rewrite, Thresholds], float]


def words(text: str) -> list[str]:
    """Lower-case words: numbers, runs of letters, single signs."""
    return WORD.findall(text.lower())


def overlap(text: str, source: str, size: int) -> float:
    """Share (0..1) of the n-grams of ``text`` that ``source`` holds; n is ``size``, or less for shorter texts."""
    own, other = words(text), words(source)
    size = max(1, min(size, len(own)))
    known = set(_ngrams(other, size))
    grams = _ngrams(own, size)
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def answer_first(rewrite: Rewrite, thresholds: Thresholds) -> float:
    """1 when the final answer is stated before the reasoning (math).

    Either a marked answer (``#### 5``, ``\\boxed{5}``, ``the answer is 5``) with fewer than ``reasoning_tokens`` words
    before it and at least as many after it, or an opening sentence that gives the final number, which the question does
    not hold, without computing anything.
    """
    if rewrite.record.kind == "code":
        return 0.0
    text, enough = rewrite.text, thresholds.reasoning_tokens
    finals = {extract_answer(text), normal_form(rewrite.record.answer)}
    statement = next((m for m in STATEMENT.finditer(text) if normal_form(m["value"]) in finals), None)
    if statement and len(words(text[: statement.start()])) < enough <= len(words(text[statement.end() :])):
        return 1.0
    end = SENTENCE_END.search(text)
    if end is None or len(_reasoning_words(text[end.end() :])) < max(1, enough):
        return 0.0
    opening = text[: end.start()]
    told = _numbers(opening) & finals - _numbers(rewrite.record.question)
    return float(bool(told) and not COMPUTES.search(opening))


def length(rewrite: Rewrite, thresholds: Thresholds) -> float:
    """How far the length leaves the band around the original's: 0 inside, 1 when the reasoning is gone. Graded.

    Below the band ``1 - ratio / low``, above it ``ratio / high - 1`` (at most 1); ratio = tokens / original tokens.
    1 when fewer than ``reasoning_tokens`` words are left beside the final answer (math).
    """
    low, high = thresholds.length_band
    ratio = rewrite.tokens / rewrite.original_tokens
    if rewrite.record.kind == "math" and len(_reasoning_words(rewrite.text)) < thresholds.reasoning_tokens:
        return 1.0
    if ratio < low:
        return 1.0 - ratio / low
    return min(1.0, max(0.0, ratio / high - 1.0))


def repetition(rewrite: Rewrite, thresholds: Thresholds) -> float:
    """1 when more than ``repetition_share`` of the word n-grams are repeats of earlier ones."""
    grams = _ngrams(words(rewrite.text), thresholds.repetition_ngram)
    return float(bool(grams) and 1.0 - len(set(grams)) / len(grams) > thresholds.repetition_share)


def question_copy(rewrite: Rewrite, thresholds: Thresholds) -> float:
    """1 when more than ``copy_share`` of the question's n-grams return (of letters: a formula may be repeated)."""
    size = thresholds.copy_ngram
    question = _ngrams([w for w in words(rewrite.record.question) if w.isalpha()], size)
    text = set(_ngrams([w for w in words(rewrite.text) if w.isalpha()], size))
    return float(bool(question) and sum(gram in text for gram in question) / len(question) > thresholds.copy_share)


def solution_reference(rewrite: Rewrite, thresholds: Thresholds) -> float:
    """1 when the text speaks of the solution it was made from ("the given solution"), in words the question lacks."""
    question = rewrite.record.question.lower()
    return float(any(match[0].lower() not in question for match in REFERENCE.finditer(rewrite.text)))


def missing_answer(rewrite: Rewrite, thresholds: Thresholds) -> float:
    """1 when no final answer can be extracted (math), or no program that returns a value can be parsed (code)."""
    if rewrite.record.kind == "code":
        return float(parse_program(rewrite.record, rewrite.text) is None)
    return float(extract_answer(rewrite.text) is None)


def false_equation(rewrite: Rewrite, thresholds: Thresholds) -> float:
    """1 when a stated equation is false (math); see ``dart.reward.equations`` for what is understood."""
    return float(rewrite.record.kind == "math" and bool(false_equations(rewrite.text)))


def hard_coded(rewrite: Rewrite, thresholds: Thresholds) -> float:
    """1 when a program gives its tests' outputs literally (code)."""
    return float(rewrite.record.kind == "code" and is_hard_coded(rewrite.record, rewrite.text))


DETECTORS: dict[str, Detector] = {
    "answer_first": answer_first,
    "length": length,
    "repetition": repetition,
    "question_copy": question_copy,
    "solution_reference": solution_reference,
    "missing_answer": missing_answer,
    "false_equation": false_equation,
    "hard_coded": hard_coded,
}


def _ngrams(tokens: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]


def _reasoning_words(text: str) -> list[str]:
    """Words beside the final-answer statement."""
    span = answer_span(text)
    return words(text if span is None else text[: span[0]] + " " + text[span[1] :])


def _numbers(text: str) -> set[str | None]:
    return {normal_form(number) for number in NUMBER.findall(text)}
