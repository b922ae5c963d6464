"""Rows that travel between stages: questions, demonstrations and graded completions, as JSON lines.

A *record* is a question with its gold answer (or tests); a *demonstration* is a record with a chain of thought.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from dart.errors import UserError

Kind = Literal["math", "code"]


@dataclass(frozen=True)
class Record:
    """One question and what decides whether a response to it is right.

    Attributes
    ----------
    id : str
        Unique within its file; pairs outcomes of different arms on the same question.
    kind : "math" | "code"
        Graded by final answer, or by running ``tests``.
    question : str
        The text put into the ``solve`` prompt.
    answer : str
        Gold final answer (``math``); empty for ``code``.
    tests : tuple of str
        Python ``assert`` statements run after the program (``code``).
    setup : str
        Python source that precedes the response: imports, or a signature and docstring to be completed (``code``).
    cot : str
        Chain of thought *including* its final answer; empty for a bare question.
    attempt : str
        A wrong solution that the assistant is to criticise: the record is then put by the ``critique`` prompt.
    meta : dict
        Free facts for analysis (family, steps, style); no stage decides on them.
    """

    id: str
    kind: Kind
    question: str
    answer: str = ""
    tests: tuple[str, ...] = ()
    setup: str = ""
    cot: str = ""
    attempt: str = ""
    meta: dict[str, str | int | float | bool] = field(default_factory=dict)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines (UTF-8), creating the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")


def read_records(path: Path) -> list[Record]:
    """Read records; a malformed line is a :class:`UserError` that names file and line."""
    return list(_parse(path))


def _parse(path: Path) -> Iterator[Record]:
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage that makes it first.")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                yield Record(**{**row, "tests": tuple(row.get("tests", ()))})
            except (ValueError, TypeError) as error:
                raise UserError(f"{path}, line {number}: no record ({error}); delete the file and re-run.") from None
