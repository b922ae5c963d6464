"""A finished study made up from known truth: manifests, metrics, scores, samples and rewrites of every stage.

``python -m tests.analysis_fixture FOLDER`` writes it, with ``view.json``, to look at the figures by hand.
"""

from __future__ import annotations

import itertools
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.study import SweepView, View
from dart.manifest import Manifest, fingerprint, write_manifest
from dart.records import Record, write_records

TASKS = ("nano_gsm8k", "nano_math", "nano_svamp", "nano_multiarith", "nano_humaneval", "nano_mbpp")
TITLES = {
    "base": "Base model",
    "sft": "SFT on original CoT",
    "dart": "DART: SFT on adapted CoT",
    "rl": "Direct RL",
}
# True accuracy by arm and task; the samples are drawn from it.
TRUTH = {
    "base": (0.66, 0.33, 0.70, 0.58, 0.50, 0.42),
    "sft": (0.70, 0.08, 0.60, 0.44, 0.48, 0.40),
    "dart": (0.76, 0.40, 0.73, 0.62, 0.50, 0.43),
    "rl": (0.72, 0.36, 0.71, 0.60, 0.50, 0.42),
}
DETECTORS = (
    "answer_first", "length", "repetition", "question_copy", "solution_reference", "missing_answer", "false_equation",
    "hard_coded",
)  # fmt: skip
SECONDS = {"make_data": 5.0, "train_zoo": 100.0, "generate_cot": 20.0, "train_mapper": 60.0, "adapt_data": 15.0,
           "train_sft": 10.0, "train_rl": 90.0, "evaluate": 8.0}  # fmt: skip
TOKENS_TRAINED = {"train_zoo": 900_000, "train_mapper": 300_000, "train_sft": 120_000, "train_rl": 500_000}
STEPS = {"train_mapper": 60, "train_sft": 40, "train_rl": 80}
EXPORTS = {"train_sft": (10, 20), "train_rl": (20, 40, 60)}


class Tree:
    """Writes stages below ``root``, one after another in time; ``paths`` are the manifests."""

    def __init__(self, root: Path, targets: tuple[str, ...], seeds: tuple[int, ...], questions: int) -> None:
        self.root, self.targets, self.seeds, self.questions = root, targets, seeds, questions
        self.paths: list[Path] = []
        self.clock = 1_700_000_000.0

    def stage(
        self, stage: str, folder: str, labels: dict[str, Any], inputs: dict[str, str], **spec: Any
    ) -> tuple[Path, np.random.Generator]:
        """Write the manifest of a stage; returns its folder and a generator of its own."""
        out = self.root / folder
        out.mkdir(parents=True)
        values = {"labels": labels, "seed": labels.get("seed", 0), **spec}
        prints = {name: json.loads((self.root / made / "manifest.json").read_text())["fingerprint"]
                  for name, made in inputs.items()}  # fmt: skip
        root, seconds, trained = self.root, SECONDS[stage], TOKENS_TRAINED.get(stage, 0)
        manifest = Manifest(
            stage=stage, stage_version=1, fingerprint=fingerprint(stage, 1, values, prints), spec=values,
            inputs={name: {"path": str(root / made), "fingerprint": prints[name]} for name, made in inputs.items()},
            result={}, started_at=self.clock, finished_at=self.clock + seconds, seconds=seconds, device_seconds=seconds,
            world_size=1, resumed=0, tokens_generated=40_000 if stage not in ("make_data", "train_sft") else 0,
            tokens_scored=50_000 if stage in ("train_mapper", "adapt_data") else 0, tokens_trained=trained,
            flops=6e6 * trained + 1e9, peak_memory_bytes=900_000_000 + len(self.paths),
            hardware={"machine": "x86_64", "cores": 2, "device": "cpu", "threads": 1},
            versions={"python": "3.11.9", "torch": "2.13.0", "trl": "1.16.0"}, git={"commit": "c" * 40, "dirty": False},
        )  # fmt: skip
        self.clock += seconds
        self.paths.append(write_manifest(out, manifest))
        if stage in STEPS:
            rng = np.random.default_rng(zlib.crc32(folder.encode()))
            self.metrics(out, manifest, rng)
        return out, np.random.default_rng(zlib.crc32(folder.encode()))

    def metrics(self, out: Path, manifest: Manifest, rng: np.random.Generator) -> None:
        """Costs grow evenly to the manifest's; the mapper's reward rises from 0.6 to 0.9."""
        last = STEPS[manifest.stage]
        rows = []
        for step in range(1, last + 1):
            share = step / last
            row = {
                name: getattr(manifest, name) * share
                for name in ("device_seconds", "tokens_generated", "tokens_scored", "tokens_trained", "flops")
            }
            row |= {"step": step, "loss": 2 - share, "grad_norm": 1.0}
            if manifest.stage == "train_mapper":
                rise = 1 - np.exp(-3 * share)
                start = dict(zip(DETECTORS, (0.06, 0.12, 0.05, 0.02, 0.0, 0.04, 0.16, 0.0), strict=True))
                cheats = {f"cheat_{name}": float(np.clip(rng.normal(low * (1 - 0.8 * rise), 0.02), 0, 1))
                          for name, low in start.items()}  # fmt: skip
                row |= {"align": 0.7 + 0.24 * rise + rng.normal(0, 0.02), "correct": 0.85 + 0.1 * rise, **cheats}
                row |= {"penalty": 0.5 * sum(cheats.values()) / 3, "reward": 0.6 + 0.3 * rise + rng.normal(0, 0.03)}
            rows.append(row)
        (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def evaluate(
        self, run: str, folder: str, labels: dict[str, Any], steps: tuple[int, ...],
        truth: dict[str, float] | None = None,
    ) -> None:  # fmt: skip
        """Draw answers: early checkpoints lie between base and the arm's own accuracy (or ``truth``, by task)."""
        truth = truth or dict(zip(TASKS, TRUTH[labels["arm"]], strict=True))
        base = dict(zip(TASKS, TRUTH["base"], strict=True))
        out, rng = self.stage("evaluate", folder, labels, {"run": run, "data": "data"})
        names = [*(f"step-{step:06d}" for step in steps), "model"]
        scores, answers = [], []
        for place, name in enumerate(names):
            share = (place + 1) / len(names)
            for task, after in truth.items():
                before = base.get(task, after)
                chance = before + (after - before) * share
                same = np.random.default_rng(zlib.crc32(task.encode()))  # a question is as hard for every arm
                hard = same.uniform(size=self.questions)
                noisy = hard + rng.normal(0, 0.1, self.questions)
                correct = noisy < chance
                step = None if name == "model" else steps[place]
                scores.append({"checkpoint": name, "step": step, "task": task, "n": self.questions,
                               "accuracy": float(correct.mean()), "truncated": 0.0, "mean_tokens": 30.0})  # fmt: skip
                answers += [
                    {"checkpoint": name, "task": task, "id": f"{task}-{i}", "doc_hash": f"h{i}", "correct": bool(right),
                     "answer": "1", "completion": "#### 1", "tokens": 30, "truncated": False}
                    for i, right in enumerate(correct)
                ]  # fmt: skip
        (out / "scores.json").write_text(json.dumps(scores))
        pd.DataFrame(answers).to_parquet(out / "samples.parquet")


def demonstration(number: int) -> Record:
    """A two-step story with an original CoT in the expert's style."""
    first, second = 12 + number, 3 + number
    total = (first + second) * 2
    return Record(
        id=f"train-{number:04d}", kind="math", answer=str(total),
        question=f"Tom has {first} apples. He buys {second} more and then doubles what he has. How many apples has he?",
        cot=f"Let a = {first}. Let b = a + {second} = {first + second}. Let c = b * 2 = {total}. #### {total}",
    )  # fmt: skip


def rewrites(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Two samples of every demonstration; the first is chosen, and lies closer to the target than the original."""
    rows = []
    for number in range(count):
        record, before = demonstration(number), float(rng.normal(-1.4, 0.25))
        first, second = 12 + number, 3 + number
        for sample in (0, 1):
            after = min(before + float(rng.normal(1.0 - 0.3 * sample, 0.15)), -0.05)
            middle = first + second
            text = f"{first} + {second} = {middle}. {middle} * 2 = {record.answer}. #### {record.answer}"
            rows.append({
                "id": record.id, "sample": sample, "text": text, "correct": True, "truncated": False,
                "align": float(np.exp(after)), "reward": float(np.exp(after)), "chosen": sample == 0,
                **{f"cheat_{name}": 0.0 for name in DETECTORS},
                "tokens": 22, "tokens_original": 30, "length_ratio": 0.7, "copy_ratio": 0.1,
                "logprob_original": before, "logprob_rewrite": after,
            })  # fmt: skip
    return pd.DataFrame(rows)


def write_tree(
    root: Path, targets: tuple[str, ...] = ("ash", "birch"), seeds: tuple[int, ...] = (1, 2, 3), questions: int = 60
) -> list[Path]:
    """Write the study below ``root`` and return all its manifests."""
    tree = Tree(root, targets, seeds, questions)
    tree.stage("make_data", "data", {}, {})
    for model in (*targets, "expert", "mapper"):
        tree.stage("train_zoo", f"models/{model}", {"model": model}, {"data": "data"})
    out, _ = tree.stage("generate_cot", "cot", {}, {"data": "data", "model": "models/expert"})
    write_records(out / "demonstrations.jsonl", [demonstration(number) for number in range(40)])
    weights = {name: 0.0 if name == "hard_coded" else 0.5 for name in DETECTORS}
    for target in targets:
        start = f"models/{target}"
        labels = {"arm": "base", "target": target, "seed": 0}
        tree.evaluate(start, f"scores/{target}-base", labels, ())
        for seed in seeds:
            name, labels = f"{target}-s{seed}", {"target": target, "seed": seed}
            frozen = {"cot": "cot", "target": start}
            reward = {"penalties": weights}
            tree.stage("train_mapper", f"mapper/{name}", labels, {**frozen, "mapper": "models/mapper"},
                       mapper={"reward": reward})  # fmt: skip
            out, rng = tree.stage("adapt_data", f"adapted/{name}", labels, {**frozen, "mapper": f"mapper/{name}"},
                                  reward=reward)  # fmt: skip
            rewrites(rng, 40).to_parquet(out / "rewrites.parquet")
            for arm, trainer, data in (("sft", "train_sft", "cot"), ("dart", "train_sft", f"adapted/{name}"),
                                       ("rl", "train_rl", "cot")):  # fmt: skip
                run, labels = f"{target}-{arm}-s{seed}", {"arm": arm, "target": target, "seed": seed}
                source = "questions" if trainer == "train_rl" else "data"
                tree.stage(trainer, f"runs/{run}", labels, {"model": start, source: data})
                tree.evaluate(f"runs/{run}", f"scores/{run}", labels, EXPORTS[trainer])
    return tree.paths


# True accuracy, on every task, of the swept arms by sweep, arm and value of the knob; None: the arm itself, at the
# configuration's value. At its best learning rate SFT is ahead of DART, at the common one it is behind.
SWEPT: dict[str, dict[str, dict[float, float | None]]] = {
    "mapper_steps": {"dart": {15: 0.52, 60: None, 120: 0.63}},
    "data_size": {"sft": {375: 0.58, 750: 0.52, 1500: None}, "dart": {375: 0.55, 750: 0.57, 1500: None}},
    "learning_rate": {
        "sft": {5e-5: 0.75, 2e-4: None, 8e-4: 0.30},
        "dart": {5e-5: 0.56, 2e-4: None, 8e-4: 0.45},
        "rl": {5e-6: 0.54, 2e-5: None, 8e-5: 0.35},
    },
}
KNOBS = {
    "mapper_steps": ("mapper RL steps", "mapper.grpo.steps"),
    "data_size": ("demonstrations", "sft.examples"),
    "learning_rate": ("learning rate", "{trainer}.learning_rate"),
}


def swept(sweep: str, arm: str, value: float) -> str:
    """The name of a swept arm."""
    return arm if SWEPT[sweep][arm][value] is None else f"{arm}_{sweep}_{value:g}"


def write_sweeps(
    root: Path, targets: tuple[str, ...] = ("ash", "birch"), seeds: tuple[int, ...] = (1, 2), questions: int = 60
) -> tuple[list[Path], list[Path]]:
    """Add the swept arms and ``best_of_n`` to a study; returns their manifests and those of the validation runs."""
    tree, validated = Tree(root, targets, seeds, questions), Tree(root, targets, seeds, questions)
    cells = [(key, arm, value) for key, arms in SWEPT.items() for arm, values in arms.items() for value in values]
    for target, seed, (key, arm, value) in itertools.product(targets, seeds, [*cells, ("", "best_of_n", 0)]):
        true = SWEPT[key][arm][value] if key else 0.5
        name = swept(key, arm, value) if key else arm
        run, labels = f"{target}-{name}-s{seed}", {"arm": name, "target": target, "seed": seed}
        if true is not None:
            inputs = {
                "model": f"models/{target}",
                "data": "cot" if arm in ("sft", "rl") else f"adapted/{target}-s{seed}",
            }
            tree.stage("train_rl" if arm == "rl" else "train_sft", f"runs/{run}", labels, inputs)
            tree.evaluate(f"runs/{run}", f"scores/{run}", labels, (), dict.fromkeys(TASKS, true))
        if key == "learning_rate":
            true = true or float(np.mean(TRUTH[arm]))
            labels = {**labels, "split": "validation"}
            validated.evaluate(f"runs/{run}", f"validation/{run}", labels, (), {"validation": true})
    return tree.paths, validated.paths


def sweep_view(**changes: Any) -> View:
    """The view that goes with :func:`write_sweeps`."""
    sweeps = {
        key: SweepView(
            title=title, knob=knob, choose=key == "learning_rate",
            points=(
                *([("dart", 0, "best_of_n")] if key == "mapper_steps" else []),
                *((arm, value, swept(key, arm, value)) for arm in SWEPT[key] for value in SWEPT[key][arm]),
            ),
        )
        for key, (title, knob) in KNOBS.items()
    }  # fmt: skip
    names = [name for sweep in sweeps.values() for _, _, name in sweep.points if name not in (*TITLES, "best_of_n")]
    arms = (*TITLES, "best_of_n", *names)
    groups = {arm: "main" for arm in TITLES} | {"best_of_n": "baselines"} | dict.fromkeys(names, "sweeps")
    titles = {arm: TITLES.get(arm, arm) for arm in arms}
    return view(**{"arms": arms, "titles": titles, "groups": groups, "sweeps": sweeps, **changes})


def view(targets: tuple[str, ...] = ("ash", "birch"), **changes: Any) -> View:
    """The view that goes with :func:`write_tree`."""
    values: dict[str, Any] = {
        "scale": "nano", "arms": tuple(TITLES), "titles": TITLES, "targets": targets, "tasks": TASKS,
        "comparisons": (("dart", "sft"), ("dart", "rl"), ("dart", "base"), ("sft", "base"), ("rl", "base")),
        "bootstrap": 500, "confidence": 0.95, "seed": 0,
    }  # fmt: skip
    return View(**{**values, **changes})


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]), questions=200)
    write_sweeps(Path(sys.argv[1]), questions=200)
    (Path(sys.argv[1]) / "view.json").write_text(sweep_view(bootstrap=2000).model_dump_json())
