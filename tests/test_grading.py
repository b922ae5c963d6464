"""The one grader: what is an answer, which are equal, what program is run; right and wrong on every benchmark."""

from __future__ import annotations

import json
import os
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dart.grading import answer_span, answers_equal, extract_answer, has_marker, verify, verify_many
from dart.grading.latex import equivalent
from dart.grading.programs import assemble
from dart.records import Record
from dart.world import problems, styles

ANSWERS = {
    "48 + 24 = 72. #### 72": "72",
    "####72": "72",
    "#### 72.": "72",
    "so 4. #### 72. And more, 5.": "72",
    "#### -3": "-3",
    "#### \u22123": "-3",
    "#### $1,234,567.50": "1234567.5",
    "#### 007": "7",
    "#### -0.0": "0",
    "#### 18 dollars": "18",
    "#### 18 blue eggs.\nThat was 20.": "18",
    "#### 50%": "50",
    "#### \u20ac5": "5",
    "#### **18**": "18",
    "#### (1, 2)": "(1, 2)",
    "#### (1, 2).": "(1, 2)",
    "#### 12,34": "12,34",
    "#### 9 22 / 2 = 11.": "9",
    "#### 9 (22 / 2) = 11": "9",
    "#### 3 1/2": "3 1/2",
    "#### 3/4": "3/4",
    "#### 5 x": "5 x",
    "#### 2 or more": "2 or more",
    "#### 1 #### 2": "2",
    "#### 72\n#### ": "72",
    "#### \\boxed{18}": "18",
    "#### $\\boxed{18}$.": "18",
    "#### \\boxed{1} + \\boxed{2}": "\\boxed{1} + \\boxed{2}",
    "\\boxed{\\frac{1}{2}}": "\\frac{1}{2}",
    "\\boxed{\\{1, \\{2\\}\\}}": "\\{1, \\{2\\}\\}",
    "\\fbox {7}": "7",
    "\\boxed{3} and so \\boxed{4}.": "4",
    "\\boxed{3} and so \\boxed{4": "3",
    "\\boxed{3} and so \\boxed{}": "3",
    "\\boxed{90^\\circ}": "90",
    "\\boxed{10\\text{ cm}}": "10",
    "\\boxed{\\$5{,}000}": "5000",
    "\\boxed{5\\%}": "5",
    "So the answer is 12.": "12",
    "the answer is 3.5. Good": "3.5",
    "The final answer is: **12**.": "12",
    "Answer: $7 because x": "7",
    "answer is 5, since 3": "5",
    "The answer is 4. No, the answer is 6.": "6",
    "#### 5\nor \\boxed{6}\nthe answer is 7": "5",
    "the answer is 7, \\boxed{6} #### 5": "5",
    "\\boxed{6} the answer is 7": "6",
}


@pytest.mark.parametrize(("text", "answer"), ANSWERS.items())
def test_the_answer_of_a_text(text: str, answer: str) -> None:
    assert extract_answer(text) == answer
    assert has_marker(text) == ("####" in text)


@pytest.mark.parametrize("text", ["", "72", "48 + 24 = 72", "so it is 72", "####", "#### \n72", "\\boxed{7", "## 72"])
def test_a_number_without_a_marker_is_no_answer(text: str) -> None:
    assert extract_answer(text) is None and answer_span(text) is None and not has_marker(text)
    assert verify(Record("a", "math", "?", "72"), text).reason == "no final answer"


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("1 #### 2. It is #### 72 eggs. End 3", "#### 72 eggs"),
        ("#### 9 22 / 2 = 11.", "#### 9"),
        ("first \\boxed{1}, \\boxed{\\frac{1}{2}} done", "\\boxed{\\frac{1}{2}}"),
        ("Thus, the final answer is **12**. Bye", "Thus, the final answer is **12**"),
    ],
)
def test_the_span_holds_marker_and_value(text: str, stated: str) -> None:
    start, end = answer_span(text) or (0, 0)
    assert text[start:end] == stated


EQUAL = [("1,000", "1000.0"), ("1/2", "0.5"), ("2/4", "1/2"), ("$18", "18 dollars"), ("\\text{Evelyn}", "Evelyn")]
EQUAL += [("(1,2)", "(1, 2)"), ("\\left( 1, 2 \\right)", "(1,2)"), ("\\boxed{7}", "7"), ("3.0", "3")]
UNEQUAL = [("72", "73"), ("3.14", "\\pi"), ("18.5", "18"), ("1/0", "1"), ("", "0"), ("5 x", "5"), ("12,34", "1234")]
UNEQUAL += [("3 1/2", "31/2"), ("-3", "3"), ("18 19", "18")]
BY_ALGEBRA = [("\\frac12", "\\frac{1}{2}", True), ("0.5", "\\frac{1}{2}", True), ("1+x", "x+1", True)]
BY_ALGEBRA += [("2\\sqrt{2}", "\\sqrt{8}", True), ("3.5", "3\\frac{1}{2}", True), ("\\{2,1\\}", "\\{1,2\\}", True)]
BY_ALGEBRA += [("x+2", "x+1", False), ("(2,1)", "(1,2)", False), ("[0,1]", "(0,1)", False), ("\\sqrt{3}", "3i", False)]


def test_equality_of_numbers_and_texts() -> None:
    assert all(answers_equal(answer, gold) for answer, gold in EQUAL)
    assert not any(answers_equal(answer, gold) for answer, gold in UNEQUAL)


def test_equality_by_algebra_survives_a_formula_that_hangs() -> None:
    hangs = ("5^{5^{5^{5^5}}}", "3", False)
    cases = [*BY_ALGEBRA, hangs, ("\\frac{", "x", False), *BY_ALGEBRA[:3]]
    assert equivalent([(answer, gold) for answer, gold, _ in cases], seconds=3.0) == [equal for *_, equal in cases]
    assert equivalent([("1+x", "x+1")], seconds=0.0) == [False]  # no time, no verdict
    assert answers_equal("x^2 + x", "x(x+1)") and not answers_equal("x^2", "x(x+1)")


WHOLE = Record("w", "code", "?", tests=("assert f(2) == 14", "assert f(0) == 10"))
BODY = replace(WHOLE, setup='def f(x):\n    """Doc."""\n    ')
HUMANEVAL = replace(BODY, setup='import math\n\ndef g(x):\n    return x\n\ndef f(x):\n    """Doc."""\n')


@pytest.mark.parametrize("record", [BODY, HUMANEVAL])
@pytest.mark.parametrize(
    "completion",
    [
        "return (x + 5) * 2",
        "    return (x + 5) * 2",
        "x = x + 5\nreturn x * 2",
        "x = x + 5\n    return x * 2",  # the first line's indentation stripped by decoding
        "    x = x + 5\n    return x * 2\n",
        "  if x:\n    x = x + 0\n  return (x + 5) * 2",
        "def f(x):\n    return (x + 5) * 2",
        "def helper(x):\n    return x + 5\n\ndef f(x):\n    return helper(x) * 2",
        "Here it is:\n```python\ndef f(x):\n    return (x + 5) * 2\n```\nDone.",
        "```\ndef g(x):\n    return 1\n```\nbetter\n```py\ndef f(x): return (x + 5) * 2\n```",
        "```python\nreturn (x + 5) * 2\n```",
        "```python\ndef f(x):\n    return (x + 5) * 2",  # cut off after the program
    ],
)
def test_a_body_or_a_function_completes_the_setup(record: Record, completion: str) -> None:
    assert verify(record, completion).correct
    assert not verify(record, completion.replace("* 2", "* 3")).correct


def test_the_setup_is_kept_up_to_the_function_that_is_defined_anew() -> None:
    program = assemble(HUMANEVAL, "def f(x):\n    return g(x)")
    assert program == "import math\n\ndef g(x):\n    return x\n\ndef f(x):\n    return g(x)"
    assert assemble(HUMANEVAL, "return 1") == HUMANEVAL.setup + "    return 1"
    assert assemble(WHOLE, "def f(x): return 1") == "\ndef f(x): return 1"
    nested = "def inner(y):\n        return y\n    return inner((x + 5) * 2)"  # a helper inside, not f itself
    assert verify(HUMANEVAL, nested).correct


def test_a_batch_of_math_and_code_keeps_its_order() -> None:
    number, formula = Record("n", "math", "?", "72"), Record("x", "math", "?", "x+1")
    cases = [
        (WHOLE, "def f(x): return (x + 5) * 2", True, None, "passed"),
        (number, "#### 72", True, "72", "equal"),
        (formula, "\\boxed{1+x}", True, "1+x", "equal by algebra"),
        (WHOLE, "def f(x): return 14", False, None, "AssertionError"),
        (number, "72", False, None, "no final answer"),
        (formula, "\\boxed{1-x}", False, "1-x", "another answer"),
        (number, "#### 73", False, "73", "another answer"),
        (BODY, "return 2 * x + 10", True, None, "passed"),
    ]
    found = verify_many([record for record, *_ in cases], [completion for _, completion, *_ in cases])
    assert [(one.correct, one.answer, one.reason) for one in found] == [tuple(case[2:]) for case in cases]
    with pytest.raises(ValueError, match="zip"):
        verify_many([number], [])


@pytest.mark.parametrize("family", problems.FAMILIES)
def test_every_nano_benchmark_takes_the_gold_in_every_style_and_nothing_wrong(family: str) -> None:
    rng = random.Random(1)
    records, right, wrong = [], [], []
    for problem in (problems.sample(family, rng, "benchmark") for _ in range(15)):
        for style in styles.STYLES:
            gold = styles.render(problem, style)
            broken = re.sub(r"return .*", "return x - 1000", gold)
            broken = broken if problem.is_code else re.sub(r"#### .*", f"#### {problem.answer + 1}", gold)
            assert broken != gold
            records.append(problem.record("p"))
            right.append(gold)
            wrong.append(broken)
    assert all(verdict.correct for verdict in verify_many(records, right))
    assert not any(verdict.correct for verdict in verify_many(records, wrong))


GSM8K = Path(os.environ.get("DART_DATA") or "absent") / "gsm8k_test.jsonl"


@pytest.mark.skipif(not GSM8K.is_file(), reason="needs gsm8k_test.jsonl in the folder that DART_DATA names")
def test_every_rationale_of_gsm8k_is_right_and_one_more_is_wrong() -> None:
    rationales = [json.loads(line)["answer"] for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    golds = [int(text.split("####")[1].replace(",", "")) for text in rationales]
    records = [Record(str(i), "math", "?", str(gold)) for i, gold in enumerate(golds)]
    assert len(records) == 1319 and all(verdict.correct for verdict in verify_many(records, rationales))
    more = [re.sub(r"####.*", f"#### {gold + 1}", text) for gold, text in zip(golds, rationales, strict=True)]
    assert not any(verdict.correct for verdict in verify_many(records, more))
    boxed = [text.split("####")[0] + f"\\boxed{{{gold:,}}}." for gold, text in zip(golds, rationales, strict=True)]
    assert all(verdict.correct for verdict in verify_many(records, boxed))
