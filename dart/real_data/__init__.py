"""Real questions: training and validation questions drawn from several data sets, and the benchmarks.

``rows`` fetches a data set from a local folder or the hub, ``forms`` turns its rows into records.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from dart.errors import UserError
from dart.real_data import forms, rows
from dart.records import Record
from dart.sources import Data, HubData, TrainSet


@dataclass(frozen=True)
class RealData:
    """Disjoint training and validation questions, benchmarks by task, and where each file came from."""

    train: list[Record]
    validation: list[Record]
    benchmarks: dict[str, list[Record]]
    sources: dict[str, str]


def load(data: Data) -> RealData:
    """Draw each set's ``size`` training questions and ``validation_size`` more by ``seed``; mix those of all sets.

    A training question that is also in a benchmark, in an earlier set, or came before in its own is left out. Texts
    are compared without regard to case and white space.

    Raises
    ------
    UserError
        When a folder, a file, a field or the hub is missing, or there are too few questions.
    """
    if not data.train or not data.benchmarks:
        raise UserError("data.source is real, but data.train or data.benchmarks is not set; name the data sets.")
    sources: dict[str, str] = {}
    seen: set[str] = set()
    benchmarks = {}
    for task, where in data.benchmarks.items():
        records, sources[task] = _records(task, task, where, data.folder)
        seen |= {_text(record) for record in records}
        benchmarks[task] = records[: data.benchmark_size]
    train, validation = [], []
    for name, where in data.train.items():
        records, source = _records(f"train {name}", f"train-{name}", where, data.folder)
        sources[f"train {name}"] = source
        pool = _new(records, seen)
        random.Random(f"{data.seed} {name}").shuffle(pool)
        _check_size(name, where, len(pool), data.validation_size, source)
        train += pool[: where.size]
        validation += pool[where.size : where.size + data.validation_size]
    random.Random(data.seed).shuffle(train)
    return RealData(train, validation, benchmarks, sources)


def _records(called: str, prefix: str, where: HubData, folder: str | None) -> tuple[list[Record], str]:
    found, source = rows.read(called, where, folder)
    if not found:
        raise UserError(f"{source} has no rows; fetch it again.")
    return [forms.record(where.form, f"{prefix}-{i:05d}", row, source) for i, row in enumerate(found)], source


def _new(records: list[Record], seen: set[str]) -> list[Record]:
    """Records whose question is not in ``seen``, each question once; they are added to it."""
    found = []
    for record in records:
        if _text(record) not in seen:
            seen.add(_text(record))
            found.append(record)
    return found


def _text(record: Record) -> str:
    return " ".join(record.question.lower().split())


def _check_size(name: str, where: TrainSet, usable: int, validation: int, source: str) -> None:
    if usable < where.size + validation:
        raise UserError(
            f"{source} has {usable} usable questions, but data.train.{name}.size + data.validation_size ask for "
            f"{where.size + validation}; lower one of them."
        )
