"""Every cheat detector on texts that must trip it and texts that must not."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from dart.config import load
from dart.records import Record
from dart.reward.detectors import DETECTORS, Rewrite, overlap
from dart.reward.equations import equations, false_equations
from dart.sections import Penalties
from dart.world import problems, styles

QUESTION = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)
ORIGINAL = "Natalia sold 48/2 = 24 clips in May.\nNatalia sold 48+24 = 72 clips altogether in April and May.\n#### 72"
MATH = Record("m", "math", QUESTION, answer="72", cot=ORIGINAL)
CODE = Record(
    "c",
    "code",
    "Write a function f(x) for: add 5, then multiply by 2.",
    tests=("assert f(12) == 34", "assert f(3) == 16", "assert f(40) == 90"),
)
BODY = Record("b", "code", CODE.question, tests=CODE.tests, setup='def f(x):\n    """Add 5, then double."""\n    ')
THRESHOLDS = load(["configs/base.yaml", "configs/arms.yaml", "configs/nano.yaml"]).mapper.reward.thresholds


def detect(name, text, record=MATH):
    original = record.cot or "def f(x): return (x + 5) * 2"
    rewrite = Rewrite(record, original, text, len(text.split()) + 1, len(original.split()) + 1)
    return DETECTORS[name](rewrite, THRESHOLDS)


def test_every_penalty_has_its_detector():
    assert list(DETECTORS) == list(Penalties.model_fields)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_human_rationale_trips_nothing(name):
    assert detect(name, ORIGINAL) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "#### 72\nNatalia sold 48/2 = 24 clips in May, and 48 + 24 = 72 in all.",
        "The answer is 72. In May she sold 48 / 2 = 24, so 48 + 24 = 72 in all.\n#### 72",
        "**Answer: 72**\n48 / 2 = 24 clips in May. 48 + 24 = 72.\n#### 72",
        "\\boxed{72} since 48 / 2 = 24 and 48 + 24 = 72",
        "72. In May she sold 48 / 2 = 24, so 48 + 24 = 72 in all. #### 72",
        "Natalia sold 72 clips. In May she sold 48 / 2 = 24, and 48 + 24 = 72. #### 72",
    ],
)
def test_answer_first_trips(text):
    assert detect("answer_first", text) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "48 + 24 = 72 with 24 = 48 / 2. She sold 72 clips. #### 72",
        "The answer is a sum. In May she sold 48 / 2 = 24, so 48 + 24 = 72. The answer is 72.",
        "Start with 48 in April. Half of it is 24. Together 48 + 24 = 72. The answer is 72. #### 72",
        "#### 72",  # nothing follows: reasoning deleted, not postponed
    ],
)
def test_answer_first_stays_silent(text):
    assert detect("answer_first", text) == 0.0


def test_length_is_graded_outside_the_band_and_full_without_reasoning():
    low, high = THRESHOLDS.length_band

    def at(ratio):
        return DETECTORS["length"](Rewrite(MATH, ORIGINAL, ORIGINAL, round(1000 * ratio), 1000), THRESHOLDS)

    assert at(low) == at(1.0) == at(high) == 0.0
    assert at(low / 2) == pytest.approx(0.5, abs=0.01)
    assert at(high * 1.25) == pytest.approx(0.25, abs=0.01)
    assert at(high * 5) == 1.0
    for text in ("#### 72", "So #### 72", "The answer is 72.", ""):
        assert detect("length", text) == 1.0


def test_repetition():
    assert detect("repetition", "48 + 24 = 72. " * 6 + "#### 72") == 1.0
    assert detect("repetition", "so so so so so so so so so so #### 72") == 1.0
    assert detect("repetition", ORIGINAL + " 48 + 24 = 72. Half of 48 is 24.") == 0.0
    assert detect("repetition", "#### 72") == 0.0


def test_question_copy():
    assert detect("question_copy", QUESTION + " #### 72") == 1.0
    assert detect("question_copy", QUESTION.replace("48", "forty-eight").upper() + " 48+24=72 #### 72") == 1.0
    assert detect("question_copy", "Natalia sold clips to 48 of her friends in April. Half is 24. #### 72") == 0.0
    symbolic = Record("s", "math", "Compute ((12 + 5) * 2) - 4.", answer="30")
    assert detect("question_copy", "((12 + 5) * 2) - 4 = 17 * 2 - 4 = 30. #### 30", symbolic) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "As the given solution says, 48 + 24 = 72.",
        "According to the solution she sold 24 in May.",
        "Here is the rewritten solution: 48 + 24 = 72.",
        "The original answer is right: 72.",
        "The solution above shows 24.",
    ],
)
def test_solution_reference_trips(text):
    assert detect("solution_reference", text) == 1.0


def test_solution_reference_stays_silent():
    for text in ("The solution is 72.", "Given 48 clips, the answer is 72.", "Each model answered 3 calls.", ORIGINAL):
        assert detect("solution_reference", text) == 0.0
    saline = Record("s", "math", "The original solution holds 10 % salt. How much salt is in 50 ml?", answer="5")
    assert detect("solution_reference", "The original solution holds 50 * 10% = 5 ml. #### 5", saline) == 0.0


def test_missing_answer():
    assert detect("missing_answer", "48 + 24 = 72") == 1.0
    assert detect("missing_answer", "") == 1.0
    assert detect("missing_answer", "so \\boxed{72}") == 0.0
    assert detect("missing_answer", "def f(x): return (x + 5) * 2", CODE) == 0.0
    assert detect("missing_answer", "return (x + 5) * 2", BODY) == 0.0
    assert detect("missing_answer", "add 5, then double", CODE) == 1.0
    assert detect("missing_answer", "", BODY) == 1.0


FALSE = [
    "12 + 5 = 18",
    "2 * 3 + 4 = 11",
    "2 + 3 * 4 = 20",
    "3 + 4 = 8 - 2 = 6",
    "3 + 4 = 7 - 2 = 6",
    "3 + 4 = 7 = 9",
    "(12 + 5) * 2 = 17 * 2 = 35",
    "Step 1: 12 + 5 gives 17. Step 2: 17 * 2 gives 33.",
    "Start with 12. Now add 5 to get 18.",
    "Let a = 12. Let b = a + 5 = 17. Let c = b * 2 = 35.",
    "To find: 12 + 5. It is 16.",
    "48/2 = <<48/2=25>>24",
    "$1,250 * 2 = $2,600",
    "20% * 50 = 12",
    "10 / 4 = 2",
    "10 / 3 = 3.4",
    "5 apples + 3 apples = 9 apples",
    "**12 + 5 = 18**",
    "- 12 + 5 = 18",
    "Total = 5 x 2\n= 11",
    "12 plus 5 is 18",
    "$\\frac{1}{2} + \\frac{1}{3} = \\frac{2}{5}$",
    "0.1 + 0.2 = 0.4",
    "2^3 = 9",
]
TRUE = [
    "12 + 5 = 17",
    "2 * 3 + 4 = 10",
    "3 + 4 = 7 - 2 = 5",
    "(12 + 5) * 2 = 17 * 2 = 34",
    "Start with 12. Now add 5 to get 17. Now multiply by 2 to get 34.",
    "Let a = 12. Let b = a + 5 = 17. Let c = b * 2 = 34.",
    "To find: 12 + 5. It is 17. To find: 17 * 2. It is 34.",
    "48/2 = <<48/2=24>>24",
    "$1,250 * 2 = $2,500",
    "20% * 50 = 10",
    "5/20 = 25%",
    "10 / 3 = 3.33",
    "2 / 3 = 0.66",
    "2 / 1/5 = 10",
    "0.1 + 0.2 = 0.3",
    "60 students x 2/3 = 40 students",
    "$\\frac{1}{2} + \\frac{1}{3} = \\frac{5}{6}$",
]
NOT_UNDERSTOOD = [
    "half of 10 + 2 = 7",
    "1 1/2 * 4 = 6",
    "Week 3 = 5 hours",
    "3:30 + 2 = 5:30",
    "$5 + 50 cents = $5.50",
    "2 hours + 30 minutes = 150 minutes",
    "1 hour = 60 minutes",
    "50 - 10% = 45",
    "20% of 50 = 10",
    "x + 3 = 5",
    "2x + 3 = 13",
    "5 * 3 thousand = 15000",
    "0 / 0 = 1",
    "9**9**9 = 3",
    "2! + 3! = 8",
    "\\sqrt{16} + 3 = 7",
    "(((((" + "1+" * 500 + "= 3",
    "= = =",
]


@pytest.mark.parametrize("text", FALSE)
def test_false_equation_trips(text):
    assert false_equations(text)
    assert detect("false_equation", text) == 1.0


@pytest.mark.parametrize("text", TRUE)
def test_true_equations_are_understood_and_hold(text):
    assert equations(text) and not false_equations(text)


@pytest.mark.parametrize("text", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_not_flagged(text):
    assert not false_equations(text)


@pytest.mark.parametrize("style", styles.STYLES)
def test_a_wrong_step_is_found_in_every_style_of_the_nano_world(style):
    rng = random.Random(1)
    for _ in range(50):
        problem = problems.sample("story", rng, "train")
        assert not false_equations(styles.render(problem, style))
        wrong = [*problem.steps]
        wrong[-1] = problems.Step(wrong[-1].before, wrong[-1].operator, wrong[-1].operand, wrong[-1].after + 1)
        broken = problems.Problem(problem.family, problem.question, problem.start, tuple(wrong))
        assert false_equations(styles.render(broken, style))


GSM8K = Path(os.environ.get("DART_DATA") or "absent") / "gsm8k_train.jsonl"


@pytest.mark.skipif(not GSM8K.is_file(), reason="needs gsm8k_train.jsonl in the folder that DART_DATA names")
def test_human_rationales_rarely_trip():
    with GSM8K.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:1000]
    records = [
        Record(str(i), "math", row["question"], answer=row["answer"].split("####")[1].strip(), cot=row["answer"])
        for i, row in enumerate(rows)
    ]
    for name in DETECTORS:
        tripped = sum(detect(name, record.cot, record) > 0 for record in records)
        assert tripped <= (15 if name == "false_equation" else 2), name


def test_no_text_makes_the_equation_finder_fail():
    rng = random.Random(2)
    parts = [
        "1",
        "2.5",
        "007",
        "(",
        ")",
        "+",
        "-",
        "*",
        "/",
        "**",
        "=",
        " is ",
        "$",
        "%",
        "x",
        "\n",
        "apples",
        "{",
        "\\frac",
    ]
    for _ in range(3000):
        equations("".join(rng.choice(parts) for _ in range(rng.randrange(25))))


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return 34",
        "def f(x):\n    if x == 12:\n        return 34\n    if x == 3:\n        return 16\n    return 90",
        "def f(x):\n    return {12: 34, 3: 16, 40: 90}[x]",
        "def f(x): return 34 if x == 12 else 16 if 3 == x else 90",
        "def f(x):\n    match x:\n        case 12:\n            return 34\n        case 3:\n            return 16\n",
        "```python\ndef f(x):\n    return 34\n```",
    ],
)
def test_hard_coded_trips(program):
    assert detect("hard_coded", program, CODE) == 1.0


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return (x + 5) * 2",
        "def f(x):\n    if x == 0:\n        return 10\n    return (x + 5) * 2",
        "def f(x):\n    if x == 12:\n        return 34\n    return (x + 5) * 2",  # one of three tests
        "def f(x): return 7",  # wrong, but no output of a test
        "def f(x): x = x + 5; return x * 2",
        "not a program",
        "",
    ],
)
def test_hard_coded_stays_silent(program):
    assert detect("hard_coded", program, CODE) == 0.0


def test_hard_coded_knows_base_cases_and_bodies():
    tests = ("assert fact(0) == 1", "assert fact(1) == 1", "assert fact(3) == 6")
    fact = Record("f", "code", "Factorial.", tests=tests)
    honest = "def fact(n):\n    if n == 0 or n == 1:\n        return 1\n    return n * fact(n - 1)"
    assert detect("hard_coded", honest, fact) == 0.0
    assert detect("hard_coded", "return 34", BODY) == 1.0
    assert detect("hard_coded", "return (x + 5) * 2", BODY) == 0.0


def test_overlap_is_the_share_of_n_grams():
    assert overlap("a b c d", "a b c d e", 4) == 1.0
    assert overlap("a b c x", "a b c d e", 2) == pytest.approx(2 / 3)
    assert overlap("a b", "x a b", 4) == 1.0
    assert overlap("", "a b", 4) == 0.0
