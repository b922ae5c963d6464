"""What ``configs/tasks/*.yaml`` call: documents made of records, and responses graded by ``dart.grading``.

A task reads ``benchmarks/<task>.jsonl`` of the data stage, the task ``validation`` its validation questions; folder and
prompts come with the task manager's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from lm_eval.tasks import TaskManager

from dart import chat
from dart.errors import UserError
from dart.grading import has_marker, verify_many
from dart.records import Record, read_records
from dart.sections import Prompts

VALIDATION = "validation"
FOLDER = Path(__file__).parents[1] / "configs" / "tasks"


def task_manager(data: Path, prompts: Prompts) -> TaskManager:
    """Return a manager of this repository's tasks alone, reading the questions from the folder ``data``."""
    metadata = {"data": str(data), "prompts": prompts.model_dump()}
    return TaskManager(include_path=str(FOLDER), include_defaults=False, metadata=metadata)


def check_tasks(tasks: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a task that has no YAML file."""
    for task in tasks:
        if task not in known:
            raise UserError(
                f"evaluate.tasks names {task!r}, which configs/tasks lacks; it has {', '.join(sorted(known))}."
            )


def benchmark(data: Path, task: str) -> list[Record]:
    """Return the questions of a task."""
    folder = data if task == VALIDATION else data / "benchmarks"
    return read_records(folder / f"{task}.jsonl")


def load(data: str, prompts: dict[str, str], task: str, **metadata: Any) -> dict[str, Dataset]:
    """Return the test split of ``task``; called by lm-eval (``custom_dataset``)."""
    records = benchmark(Path(data), task)
    return {"test": Dataset.from_list([_document(record, Prompts(**prompts)) for record in records])}


def grade(responses: Sequence[Sequence[str]], documents: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """Turn the first response to each document into its outcome, all at once; lm-eval's filter ``graded``."""
    texts = [first for first, *_ in responses]
    verdicts = verify_many([_record(document) for document in documents], texts)
    return [
        [{"correct": verdict.correct, "answer": verdict.answer, "reason": verdict.reason, "marked": has_marker(text)}]
        for verdict, text in zip(verdicts, texts, strict=True)
    ]


def outcome(document: Mapping[str, Any], results: Sequence[Sequence[dict[str, Any]]]) -> dict[str, float]:
    """Return a document's metrics; called by lm-eval (``process_results``) with what :func:`grade` made."""
    ((found,),) = results
    exact = {"exact": float(found["correct"])}
    return exact if document["kind"] == "code" else exact | {"strict": float(found["correct"] and found["marked"])}


def _document(record: Record, prompts: Prompts) -> dict[str, Any]:
    (message,) = chat.solve_messages(prompts, record)
    return {
        "id": record.id,
        "kind": record.kind,
        "question": record.question,
        "answer": record.answer,
        "tests": list(record.tests),
        "setup": record.setup,
        "prompt": message["content"],
    }


def _record(document: Mapping[str, Any]) -> Record:
    fields = {name: document[name] for name in ("id", "kind", "question", "answer", "setup")}
    return Record(**fields, tests=tuple(document["tests"]))
