"""Make the questions: training pool, validation set, benchmarks, native-style controls and the zoo's tokenizer.

``python -m dart.stages.make_data --config SPEC --out DIR --scratch DIR``

Nano questions come from ``dart.world``; real ones from a local folder or the hub (``dart.real_data``). Splits are
disjoint by question text. The nano pool is in-domain only, so that the other benchmarks measure generalisation; real
ones mix the training sets of the configuration.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from dart import real_data
from dart.records import Record, write_records
from dart.sections import Prompts
from dart.sources import Data
from dart.stage import Context, Spec, Stage, stage_main

IN_DOMAIN = "story"


class MakeDataSpec(Spec):
    """``styles`` maps a model to its native style: one control set ``native_<model>.jsonl`` each (nano only).

    ``tokenizer`` is that of models trained from scratch; None where all come from the hub with theirs.
    """

    data: Data
    prompts: Prompts
    tokenizer: Literal["words", "bpe"] | None
    vocabulary: int
    expert: str
    styles: dict[str, str]


def run(spec: MakeDataSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Write ``train.jsonl``, ``validation.jsonl``, ``benchmarks/<task>.jsonl``, ``native_*.jsonl``, ``tokenizer/``."""
    files, sources = (world_files(spec), {}) if spec.data.source == "world" else real_files(spec)
    for name, records in files.items():
        write_records(context.out / name, records)
    result: dict[str, Any] = {name: len(records) for name, records in files.items()}
    result |= {f"source {name}": said for name, said in sources.items()}
    if spec.tokenizer is not None:
        tokenizer = _tokenizer(spec, files["train.jsonl"])
        tokenizer.save_pretrained(context.out / "tokenizer")
        result["tokenizer_size"] = len(tokenizer)
    return result


def world_files(spec: MakeDataSpec) -> dict[str, list[Record]]:
    """Questions of the nano world; a record's reference CoT is in the expert's style, a control's in its own."""
    from dart.world.problems import FAMILIES
    from dart.world.styles import render

    data = spec.data
    assert data.train_size is not None  # dart.checks refuses a world without it
    train = list(_unique(IN_DOMAIN, "train", data.train_size, random.Random(f"{data.seed} train")))
    files = {
        f"native_{model}.jsonl": [p.record(f"train-{i:05d}", render(p, style)) for i, p in enumerate(train)]
        for model, style in spec.styles.items()
    }
    files["train.jsonl"] = files[f"native_{spec.expert}.jsonl"]
    validation = [
        (family, i, problem)
        for family in FAMILIES
        for i, problem in enumerate(
            _unique(family, "validation", data.validation_size, random.Random(f"{data.seed} validation {family}"))
        )
    ]
    files["validation.jsonl"] = [p.record(f"validation-{family}-{i:05d}") for family, i, p in validation]
    for family, (task, _) in FAMILIES.items():
        rng = random.Random(f"{data.seed} benchmark {family}")
        problems = _unique(family, "benchmark", data.benchmark_size, rng)
        files[f"benchmarks/{task}.jsonl"] = [p.record(f"{task}-{i:05d}") for i, p in enumerate(problems)]
    return files


def real_files(spec: MakeDataSpec) -> tuple[dict[str, list[Record]], dict[str, str]]:
    """Real questions, and where they came from; there are no native-style controls, as nobody wrote any."""
    found = real_data.load(spec.data)
    benchmarks = {f"benchmarks/{task}.jsonl": records for task, records in found.benchmarks.items()}
    return {"train.jsonl": found.train, "validation.jsonl": found.validation, **benchmarks}, found.sources


def _unique(family: str, split: Any, count: int, rng: random.Random) -> Iterator[Any]:
    from dart.world.problems import sample

    seen: set[str] = set()
    while len(seen) < count:
        problem = sample(family, rng, split)
        if problem.question not in seen:
            seen.add(problem.question)
            yield problem


def _tokenizer(spec: MakeDataSpec, train: list[Record]) -> Any:
    from dart.world.tokenizer import bpe_tokenizer, word_tokenizer

    if spec.tokenizer == "words":
        return word_tokenizer(spec.prompts)
    return bpe_tokenizer((f"{record.question}\n{record.cot}" for record in train), spec.vocabulary)


STAGE = Stage("make_data", 1, MakeDataSpec, {}, run)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
