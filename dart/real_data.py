"""Real questions: a data set's file in a local folder, or the Hugging Face hub at the pinned revision.

The folder is ``data.folder`` of the configuration, else the one that ``DART_DATA`` names. GSM8K's rows (``question``,
``answer`` with the rationale and ``#### n``; https://huggingface.co/datasets/openai/gsm8k) become records; the
calculator annotations (``<<48/2=24>>``) are taken out of the rationale, as they were no words of its writer.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi
from huggingface_hub.constants import HF_HUB_OFFLINE

from dart.config import Data, HubData
from dart.errors import UserError
from dart.grading import extract_answer
from dart.records import Record

FOLDER = "DART_DATA"
CALCULATOR = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True)
class RealData:
    """Disjoint training and validation questions, benchmarks by task, and where each file came from."""

    train: list[Record]
    validation: list[Record]
    benchmarks: dict[str, list[Record]]
    sources: dict[str, str]


def load(data: Data) -> RealData:
    """Return the first ``train_size`` training questions in an order drawn by ``seed``, then the validation ones.

    A training question that is also in a benchmark, or that came before, is left out.

    Raises
    ------
    UserError
        When a folder, a file, a field or the hub is missing, or there are too few questions.
    """
    wanted = {"train": data.train, **data.benchmarks}
    found = {name: _rows(name, where, data.folder) for name, where in wanted.items() if where is not None}
    if "train" not in found or len(found) < 2:
        raise UserError("data.source is real, but data.train or data.benchmarks is not set; name the data sets.")
    benchmarks = {
        task: [_record(f"{task}-{i:05d}", row, source) for i, row in enumerate(rows[: data.benchmark_size])]
        for task, (rows, source) in found.items()
        if task != "train"
    }
    empty = [source for rows, source in found.values() if not rows]
    if empty:
        raise UserError(f"{empty[0]} has no rows; fetch it again.")
    rows, source = found["train"]
    tested = {record.question for records in benchmarks.values() for record in records}
    records = [_record(f"train-{i:05d}", row, source) for i, row in enumerate(rows)]
    pool = list({record.question: record for record in reversed(records) if record.question not in tested}.values())
    pool.reverse()
    random.Random(data.seed).shuffle(pool)
    needed = data.train_size + data.validation_size
    if len(pool) < needed:
        raise UserError(
            f"{source} has {len(pool)} usable questions, but data.train_size + data.validation_size ask for {needed}; "
            "lower one of them."
        )
    sources = {name: source for name, (_, source) in found.items()}
    return RealData(pool[: data.train_size], pool[data.train_size : needed], benchmarks, sources)


def _rows(name: str, where: HubData, folder: str | None) -> tuple[list[dict[str, Any]], str]:
    """Rows of a data set, and where they came from (with the SHA-256 of a local file)."""
    local = folder or os.environ.get(FOLDER)
    if not local:
        return _from_hub(where), f"hub {where.repo} {where.config} {where.split} at {where.revision}"
    setting = "data.folder" if folder else FOLDER
    if not Path(local).is_dir():
        raise UserError(f"{setting} names {local}, which is no folder; point it at the data files, or unset it.")
    path = Path(local) / where.file
    if not path.is_file():
        raise UserError(f"{setting} names {local}, which lacks {where.file} ({name}); add it, or unset {setting}.")
    text = path.read_bytes()
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()], f"{path} sha256 {_sha256(text)}"
    except ValueError as error:
        raise UserError(f"{path} is not JSON lines ({error}); fetch it again.") from None


def _from_hub(where: HubData) -> list[dict[str, Any]]:
    from datasets import load_dataset

    try:
        _check_network(where)
        return list(load_dataset(where.repo, where.config, split=where.split, revision=where.revision))
    except (httpx.TransportError, OSError, ValueError, RuntimeError) as error:  # network, name or revision
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where.repo} at {where.revision[:8]} cannot be had from the Hugging Face hub ({reason}); check network "
            f"and name, or set {FOLDER} to a folder with {where.file} (HF_HUB_OFFLINE=1: take the cache's copy)."
        ) from None


def _check_network(where: HubData) -> None:
    """Fail at once without a network: ``load_dataset`` would try again for half a minute."""
    if not HF_HUB_OFFLINE:
        HfApi().dataset_info(where.repo, revision=where.revision, timeout=10)


def _record(record_id: str, row: dict[str, Any], source: str) -> Record:
    missing = [n for n in ("question", "answer") if not isinstance(row, dict) or not isinstance(row.get(n), str)]
    if missing:
        raise UserError(f"{source}: the row of {record_id} has no text {missing[0]!r}; this is no data set like GSM8K.")
    cot = CALCULATOR.sub("", row["answer"]).strip()
    answer = extract_answer(cot)
    if answer is None:
        raise UserError(f"{source}: the row of {record_id} states no final answer (#### n); leave it out of the file.")
    return Record(record_id, "math", row["question"].strip(), answer, cot=cot)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
