"""Select what to train on: own verified completions, the best-liked or random demonstrations, learnable questions.

    python -m dart.stages.select_data --config SPEC --questions results/nano/cot \
        --rollouts results/nano/rollouts/ash-s1 --out results/nano/selected/ash-rft-s1 --scratch SCRATCH

Writes ``demonstrations.jsonl``. The rules:

- ``verified``: of every question the first rollout whose answer verifies (RFT, STaR); others are left out.
- ``learnable``: the questions of which at least one rollout verifies; RL learns nothing from the others.
- ``preferred``: the ``share`` of the demonstrations with the highest mean log-probability under the target.
- ``random``: demonstrations in random order, as many as do not hold more tokens than ``preferred`` would.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet

from dart.errors import UserError
from dart.records import Record, read_records, write_records
from dart.sections import Select
from dart.stage import Context, Spec, Stage, stage_main
from dart.stages.pass_rate import Row, pass_rates, read_rollouts


class SelectDataSpec(Spec):
    """Values of a run; ``rule`` is one of the module's."""

    select: Select
    rule: Literal["verified", "learnable", "preferred", "random"]


def run(spec: SelectDataSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Select; returns how many were there and how many are kept."""
    source = inputs["questions" if spec.rule in ("verified", "learnable") else "data"]
    records = read_records(source / "demonstrations.jsonl")
    if spec.rule in ("verified", "learnable"):
        rollouts = read_rollouts(inputs["rollouts"])
        kept = verified(records, rollouts) if spec.rule == "verified" else learnable(records, rollouts)
    else:
        scores = pyarrow.parquet.read_table(inputs["scores"] / "scores.parquet").to_pylist()
        kept = preferred(records, scores, spec.select.share)
        kept = kept if spec.rule == "preferred" else token_matched(records, scores, kept, spec.seed)
    empty = not kept
    if empty and spec.select.on_empty == "refuse":
        raise UserError(
            f"The rule {spec.rule} keeps none of {len(records)} demonstrations; raise pass_rate.samples or "
            "select.share, take a better model, or set select.on_empty to keep_all."
        )
    kept = kept or records
    write_records(context.out / "demonstrations.jsonl", kept)
    return {"asked": len(records), "kept": len(kept), "empty": empty}


def verified(records: Sequence[Record], rollouts: Sequence[Row]) -> list[Record]:
    """Return the questions with the model's own first verified completion as their CoT."""
    first = {row["id"]: row["text"] for row in reversed(rollouts) if row["correct"]}
    return [replace(record, cot=first[record.id]) for record in records if record.id in first]


def learnable(records: Sequence[Record], rollouts: Sequence[Row]) -> list[Record]:
    """Return the questions that were ever solved."""
    rates = pass_rates(rollouts)
    return [record for record in records if rates[record.id] > 0]


def preferred(records: Sequence[Record], scores: Sequence[Row], share: float) -> list[Record]:
    """Return the ``share`` of highest ``mean_logprob``, in their own order; the first of equals."""
    ranked = sorted(scores, key=lambda row: -row["mean_logprob"])
    kept = {row["id"] for row in ranked[: round(share * len(records))]}
    return [record for record in records if record.id in kept]


def token_matched(
    records: Sequence[Record], scores: Sequence[Row], matched: Sequence[Record], seed: int
) -> list[Record]:
    """Return random records, in their own order, that hold no more completion tokens than ``matched``."""
    tokens = {row["id"]: row["tokens"] for row in scores}
    budget = sum(tokens[record.id] for record in matched)
    kept: set[str] = set()
    for record in random.Random(seed).sample(list(records), len(records)):
        if tokens[record.id] > budget:
            break
        budget -= tokens[record.id]
        kept.add(record.id)
    return [record for record in records if record.id in kept]


STAGE = Stage(
    name="select_data",
    version=1,
    spec=SelectDataSpec,
    inputs={
        "data": "folder with the demonstrations (preferred, random)",
        "scores": "folder of score_data under the target (preferred, random)",
        "questions": "folder with the questions (verified, learnable)",
        "rollouts": "folder of pass_rate (verified, learnable)",
    },
    run=run,
    optional=frozenset({"data", "scores", "questions", "rollouts"}),
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
