"""Rows of the public data sets as records: one function for each way in which a set writes its questions.

Rationales are the data's own words. What no writer of a rationale wrote is left out (GSM8K's calculator annotations,
``<<48/2=24>>``), and each ends in the form that the prompts ask for: ``#### n`` (MATH's are given that line after their
box), or one block of Python code. Code questions state the tests, as is usual for MBPP; the words are our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dart.errors import UserError
from dart.grading import extract_answer
from dart.grading.answers import normal_form
from dart.records import Record
from dart.sources import Form

CALCULATOR = re.compile(r"<<[^<>]*>>")


def record(form: Form, identity: str, row: Any, source: str) -> Record:
    """Return a row as a record; one that is not of the form is a :class:`UserError` that names ``source``."""
    try:
        return FORMS[form](identity, row)
    except (KeyError, TypeError, AttributeError) as error:
        lack = f"has no text {error}" if isinstance(error, KeyError) else "holds something else than texts"
        raise UserError(f"{source}: the row of {identity} {lack}; this is no data set like {form}.") from None
    except ValueError as error:
        raise UserError(f"{source}: the row of {identity} {error}; leave it out of the file.") from None


def gsm8k(identity: str, row: dict[str, Any]) -> Record:
    """``question``, ``answer`` with the rationale and ``#### n`` (also GSM8K-Platinum)."""
    cot = CALCULATOR.sub("", row["answer"]).strip()
    answer = extract_answer(cot)
    if answer is None:
        raise ValueError("states no final answer (#### n)")
    return _math(identity, row["question"], answer, cot)


def math(identity: str, row: dict[str, Any]) -> Record:
    """``problem``, ``solution`` with its answer in a box (MATH)."""
    solution = row["solution"].strip()
    answer = extract_answer(solution)
    if answer is None:
        raise ValueError("states no final answer in a box")
    return _math(identity, row["problem"], answer, f"{solution}\n#### {answer}")


def math500(identity: str, row: dict[str, Any]) -> Record:
    """``problem``, ``solution``, ``answer`` (MATH-500)."""
    return _math(identity, row["problem"], row["answer"].strip(), row["solution"].strip())


def svamp(identity: str, row: dict[str, Any]) -> Record:
    """``Body``, ``Question``, ``Answer`` (SVAMP); some bodies lack their full stop."""
    body = row["Body"].strip()
    body += "" if body.endswith((".", "?", "!", ",")) else "."
    return _math(identity, f"{body} {row['Question'].strip()}", normal_form(str(row["Answer"])))


def multiarith(identity: str, row: dict[str, Any]) -> Record:
    """``question``, ``final_ans`` (MultiArith)."""
    return _math(identity, row["question"], normal_form(str(row["final_ans"])))


def mawps(identity: str, row: dict[str, Any]) -> Record:
    """``question``, ``result`` (MAWPS as Calc-X has it, whose numbers may hold underscores)."""
    return _math(identity, row["question"], normal_form(row["result"].replace("_", "")))


def mbpp(identity: str, row: dict[str, Any]) -> Record:
    """``text``, ``code``, ``test_list``, ``test_setup_code`` (MBPP); the rationale is the code.

    The set-up code uses classes that the program defines, so that it belongs to the tests.
    """
    setup = [_unix(row["test_setup_code"])] if row["test_setup_code"].strip() else []
    tests = (*setup, *map(_unix, row["test_list"]))
    question = f"{row['text'].strip()}\nThe program has to pass these tests:\n" + "\n".join(tests)
    return _code(identity, question, tests, "", _unix(row["code"]))


def humaneval(identity: str, row: dict[str, Any]) -> Record:
    """``prompt``, ``canonical_solution``, ``test``, ``entry_point`` (HumanEval)."""
    prompt, name = row["prompt"], row["entry_point"]
    question = f"Complete the Python function {name}:\n```python\n{prompt.strip()}\n```"
    tests = (row["test"], f"check({name})")
    return _code(identity, question, tests, prompt, prompt + row["canonical_solution"])


FORMS: dict[Form, Callable[[str, Any], Record]] = {
    "gsm8k": gsm8k,
    "math": math,
    "math500": math500,
    "svamp": svamp,
    "multiarith": multiarith,
    "mawps": mawps,
    "mbpp": mbpp,
    "humaneval": humaneval,
}


def _math(identity: str, question: str, answer: str, cot: str = "") -> Record:
    if not answer:
        raise ValueError("has an empty answer")
    return Record(identity, "math", question.strip(), answer, cot=cot)


def _code(identity: str, question: str, tests: tuple[str, ...], setup: str, program: str) -> Record:
    cot = f"```python\n{program.strip(chr(10))}\n```"
    return Record(identity, "code", question, tests=tests, setup=setup, cot=cot)


def _unix(text: str) -> str:
    """The text with the line ends of Unix; MBPP's are those of DOS."""
    return text.replace("\r\n", "\n").rstrip()
