"""Problems of the nano world: chains of small-integer operations told as stories, expressions or programs.

A problem is drawn by ``sample(family, rng)``; its question text decides its split, so that no question of a benchmark
is ever a training question (``split_of``). Values stay within 0..99 so that a model of a million parameters can learn
the arithmetic.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

from dart.records import Record

Operator = Literal["+", "-", "*", "/"]
Split = Literal["benchmark", "validation", "train", "zoo"]
LIMIT = 99

# Which benchmark each family is (the analogue of the paper's, see docs/nano_world.md), and its number of steps.
FAMILIES: dict[str, tuple[str, tuple[int, int]]] = {
    "story": ("nano_gsm8k", (2, 3)),
    "long": ("nano_math", (4, 5)),
    "distractor": ("nano_svamp", (2, 3)),
    "symbolic": ("nano_multiarith", (2, 3)),
    "complete": ("nano_humaneval", (3, 5)),
    "write": ("nano_mbpp", (3, 5)),
}

NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gita", "Hugo")
THINGS = ("apples", "books", "coins", "shells", "stamps", "cards", "pens", "marbles")
PHRASES: dict[Operator, tuple[str, ...]] = {
    "+": ("buys {n} more", "finds {n} more", "gets {n} as a gift", "wins {n} in a game"),
    "-": ("loses {n}", "sells {n}", "gives {n} to a friend", "drops {n}"),
    "*": ("then has {n} times as many", "makes it {n} times as many"),
    "/": ("splits them into {n} equal piles and keeps one", "keeps one part in {n}"),
}
DISTRACTORS = (
    "{other} has {n} {thing}",
    "A shop nearby sells {n} {thing}",
    "Last year {name} had {n} {thing}",
    "{name} is {n} years old",
)
COMMANDS: dict[Operator, str] = {"+": "add {n}", "-": "subtract {n}", "*": "multiply by {n}", "/": "divide by {n}"}


@dataclass(frozen=True)
class Step:
    """One operation of a chain: ``before operator operand = after``."""

    before: int
    operator: Operator
    operand: int
    after: int


@dataclass(frozen=True)
class Problem:
    """A question with its chain of steps; for programs the chain is what the function does to ``x``."""

    family: str
    question: str
    start: int
    steps: tuple[Step, ...]
    setup: str = ""
    tests: tuple[str, ...] = ()

    @property
    def answer(self) -> int:
        """The value after the last step."""
        return self.steps[-1].after

    @property
    def is_code(self) -> bool:
        """Whether the answer is a program."""
        return bool(self.tests)

    def record(self, identity: str, cot: str = "") -> Record:
        """Return the problem as a record, with ``cot`` if it is a demonstration."""
        return Record(
            id=identity,
            kind="code" if self.is_code else "math",
            question=self.question,
            answer="" if self.is_code else str(self.answer),
            tests=self.tests,
            setup=self.setup,
            cot=cot,
            meta={"family": self.family, "steps": len(self.steps)},
        )


def split_of(question: str) -> Split:
    """Assign a question to a split by the hash of its text: 5 % benchmark, 5 % validation, 20 % train, 70 % zoo."""
    bucket = int.from_bytes(hashlib.sha256(question.encode()).digest()[:4], "big") % 20
    return "benchmark" if bucket == 0 else "validation" if bucket == 1 else "train" if bucket < 6 else "zoo"


def sample(family: str, rng: random.Random, split: Split) -> Problem:
    """Draw a problem of ``family`` whose question belongs to ``split``."""
    maker = {"complete": _program, "write": _program, "symbolic": _symbolic}.get(family, _story)
    while True:
        problem = maker(family, rng)
        if split_of(problem.question) == split:
            return problem


def apply(value: int, operator: Operator, operand: int) -> int:
    """Integer arithmetic of one step; division is exact by construction in stories, floored in programs."""
    match operator:
        case "+":
            return value + operand
        case "-":
            return value - operand
        case "*":
            return value * operand
        case "/":
            return value // operand


def _chain(rng: random.Random, length: int) -> tuple[int, tuple[Step, ...]]:
    start = value = rng.randint(2, 40)
    steps = []
    for _ in range(length):
        operator, operand = rng.choice(_possible(rng, value))
        steps.append(Step(value, operator, operand, apply(value, operator, operand)))
        value = steps[-1].after
    return start, tuple(steps)


def _possible(rng: random.Random, value: int) -> list[tuple[Operator, int]]:
    """Operations that keep ``value`` within 1..LIMIT; addition and subtraction twice as likely."""
    factors = [k for k in (2, 3, 4) if value * k <= LIMIT]
    divisors = [k for k in (2, 3, 4) if value % k == 0 and value > k]
    options: list[tuple[Operator, int]] = []
    if value < LIMIT - 1:
        options += [("+", rng.randint(2, min(9, LIMIT - value)))] * 2 if LIMIT - value >= 2 else []
    if value > 3:
        options += [("-", rng.randint(2, min(9, value - 1)))] * 2
    options += [("*", rng.choice(factors))] if factors else []
    options += [("/", rng.choice(divisors))] if divisors else []
    return options


def _story(family: str, rng: random.Random) -> Problem:
    start, steps = _chain(rng, rng.randint(*FAMILIES[family][1]))
    name, other = rng.sample(NAMES, 2)
    thing, elsewhere = rng.sample(THINGS, 2)
    sentences = [f"{name} has {start} {thing}."]
    sentences += [f"{name} {rng.choice(PHRASES[s.operator]).format(n=s.operand)}." for s in steps]
    if family == "distractor":
        extra = rng.choice(DISTRACTORS).format(name=name, other=other, n=rng.randint(2, 40), thing=elsewhere)
        sentences.insert(rng.randint(1, len(sentences)), extra + ".")
    return Problem(family, " ".join(sentences) + f" How many {thing} does {name} have?", start, steps)


def _symbolic(family: str, rng: random.Random) -> Problem:
    start, steps = _chain(rng, rng.randint(*FAMILIES[family][1]))
    return Problem(family, f"Compute {nested(str(start), steps)}.", start, steps)


def nested(start: str, steps: tuple[Step, ...], division: str = "/") -> str:
    """Write a chain as one expression in full brackets: ``((12 + 5) * 2) - 4``."""
    text = start
    for index, step in enumerate(steps):
        left = f"({text})" if index else text
        text = f"{left} {division if step.operator == '/' else step.operator} {step.operand}"
    return text


def _program(family: str, rng: random.Random) -> Problem:
    """A function of one integer; the recorded values are those of its first test."""
    name = rng.choice(("f", "g", "h"))
    start, steps = _chain(rng, rng.randint(*FAMILIES[family][1]))
    what = ", then ".join(COMMANDS[s.operator].format(n=s.operand) for s in steps)
    inputs = [start, *rng.sample(range(1, 60), 3)]
    tests = tuple(f"assert {name}({x}) == {_run(x, steps)}" for x in inputs)
    if family == "write":
        return Problem(family, f"Write a function {name}(x) for: {what}.", start, steps, "", tests)
    setup = f'def {name}(x):\n    """Take x, {what}."""\n    '
    return Problem(family, f"def {name}(x): # Take x, {what}.", start, steps, setup, tests)


def _run(value: int, steps: tuple[Step, ...]) -> int:
    for step in steps:
        value = apply(value, step.operator, step.operand)
    return value
