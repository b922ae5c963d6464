"""The one grader: is a completion right? It serves rejection, the reward's gate, RL and the benchmarks.

``verify(record, completion)`` for one, ``verify_many`` for a batch (programs then share one sandbox process).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dart.grading.answers import answer_span, answers_equal, compare, extract_answer, has_marker
from dart.grading.latex import equivalent
from dart.grading.programs import assemble
from dart.grading.sandbox import Outcome, Program, run_programs
from dart.records import Record

__all__ = [
    "Outcome",
    "Program",
    "Verdict",
    "answer_span",
    "answers_equal",
    "extract_answer",
    "has_marker",
    "run_programs",
    "verify",
    "verify_many",
]


@dataclass(frozen=True)
class Verdict:
    """Whether a completion is right, the answer found in it (math), and why not."""

    correct: bool
    answer: str | None
    reason: str


def verify(record: Record, completion: str) -> Verdict:
    """Grade one completion against the record's answer or tests."""
    return verify_many([record], [completion])[0]


def verify_many(records: Sequence[Record], completions: Sequence[str]) -> list[Verdict]:
    """Grade completions, one a record, in order.

    Raises
    ------
    UserError
        When programs are to be run and this machine cannot isolate them.
    """
    pairs = list(zip(records, completions, strict=True))
    verdicts: dict[int, Verdict] = {}
    algebra: list[tuple[int, str]] = []
    for index, (record, completion) in enumerate(pairs):
        if record.kind == "math":
            verdicts[index] = _by_answer(record, completion)
            if verdicts[index].reason == "undecided":
                algebra.append((index, verdicts[index].answer or ""))
    settled = equivalent([(answer, records[index].answer) for index, answer in algebra])
    for (index, answer), equal in zip(algebra, settled, strict=True):
        verdicts[index] = Verdict(equal, answer, "equal by algebra" if equal else "another answer")
    code = [index for index in range(len(pairs)) if index not in verdicts]
    outcomes = run_programs([Program(assemble(*pairs[index]), "\n".join(pairs[index][0].tests)) for index in code])
    for index, outcome in zip(code, outcomes, strict=True):
        verdicts[index] = Verdict(outcome.passed, None, outcome.reason)
    return [verdicts[index] for index in range(len(pairs))]


def _by_answer(record: Record, completion: str) -> Verdict:
    answer = extract_answer(completion)
    if answer is None:
        return Verdict(False, None, "no final answer")
    equal = compare(answer, record.answer)
    return Verdict(bool(equal), answer, {True: "equal", False: "another answer", None: "undecided"}[equal])
