"""Inputs of the training stages for tests: folders with manifests, demonstrations, specs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from conftest import nano_prompts
from safetensors.torch import load_file

from dart.manifest import Manifest, write_manifest
from dart.records import Record, write_records
from dart.stage import Context

PROMPTS = nano_prompts().model_dump()
PENALTIES = ("answer_first", "length", "repetition", "question_copy", "solution_reference")
PENALTIES += ("missing_answer", "false_equation", "hard_coded")
PEAR = {
    "level": "token",
    "block": 4,
    "gamma": 0.999,
    "delta_clip": [-0.08, 0.3],
    "log_weight_clip": [-10.0, 5.0],
    "normalise": "none",
}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 12}


def demonstrations(count: int = 12) -> list[Record]:
    """Sums with worked solutions of unequal length, in the nano tokenizer's words."""
    return [
        Record(
            id=f"sum-{i}",
            kind="math",
            question=f"{i} + {2 * i} = ?",
            answer=str(3 * i),
            cot=" ".join([f"{i} + {2 * i} = {3 * i} ."] * (1 + i % 3)) + f" #### {3 * i}",
        )
        for i in range(1, count + 1)
    ]


def input_folder(folder: Path, name: str) -> Path:
    """A finished stage's folder: one with a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = dict.fromkeys(("started_at", "finished_at", "seconds", "device_seconds", "flops"), 0.0)
    counts = dict.fromkeys(("tokens_generated", "tokens_scored", "tokens_trained", "resumed", "peak_memory_bytes"), 0)
    empty = {"spec": {}, "inputs": {}, "result": {}, "hardware": {}, "versions": {}, "git": {}}
    write_manifest(folder, Manifest(name, 1, f"{name:0<64}", **empty, **numbers, **counts, world_size=1))
    return folder


def model_input(folder: Path, model: Path) -> Path:
    """A folder whose ``model/`` is a copy of ``model``."""
    shutil.copytree(model, folder / "model")
    return input_folder(folder, folder.name)


def data_input(folder: Path, records: list[Record]) -> Path:
    """A folder with ``demonstrations.jsonl``."""
    write_records(folder / "demonstrations.jsonl", records)
    return input_folder(folder, folder.name)


def sft_spec(**changes: object) -> dict:
    """Spec of ``train_sft``."""
    sft = {
        "loss": "nll",
        "pear": PEAR,
        "examples": 1000,
        "epochs": 1,
        "batch_size": 4,
        "gradient_accumulation": 1,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "save_steps": 1000,
        "export_at": [],
    }
    labels = {"arm": "sft", "target": "ash", "seed": 1}
    return {"labels": labels, "seed": 1, "prompts": PROMPTS, "file": "demonstrations.jsonl", "sft": sft | changes}


def grpo_knobs(**changes: object) -> dict:
    """Knobs of GRPO, few and short rollouts."""
    return {
        "steps": 3,
        "prompts_per_step": 2,
        "completions_per_prompt": 4,
        "gradient_accumulation": 1,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "beta": 0.0,
        "epsilon": 0.2,
        "sampling": SAMPLING,
        "save_steps": 1000,
        "export_at": [],
    } | changes


def mapper_spec(**changes: object) -> dict:
    """Spec of ``train_mapper`` whose reward an untrained mapper can move: no gate, no penalties."""
    reward = {
        "align": "mean_prob",
        "normalise": "none",
        "gate": "none",
        "gate_weight": 0.0,
        "penalties": dict.fromkeys(PENALTIES, 0.0),
        "thresholds": {
            "length_band": [0.33, 3.0],
            "repetition_ngram": 4,
            "repetition_share": 0.5,
            "copy_ngram": 8,
            "copy_share": 0.5,
            "reasoning_tokens": 4,
        },
    }
    mapper = {
        "start": "mapper",
        "trained_for": "own",
        "grpo": grpo_knobs(**changes),
        "reward": reward,
        "scoring_batch": 8,
    }
    return {"labels": {"target": "ash", "seed": 1}, "seed": 1, "prompts": PROMPTS, "mapper": mapper}


def arguments(spec: dict, out: Path, scratch: Path, **inputs: Path) -> list[str]:
    """Command line of a stage."""
    pairs = [("config", json.dumps(spec)), ("out", str(out)), ("scratch", str(scratch))]
    pairs += [(name, str(path)) for name, path in inputs.items()]
    return [part for name, value in pairs for part in (f"--{name}", value)]


def new_context(folder: Path) -> Context:
    """A context with empty folders."""
    for name in ("out", "scratch"):
        (folder / name).mkdir()
    return Context("test", folder / "out", folder / "scratch", {})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of ``folder/model``."""
    return load_file(folder / "model" / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    """Whether two folders hold bit-identical models."""
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def metric_rows(folder: Path) -> list[dict]:
    """Rows of ``metrics.jsonl``."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
