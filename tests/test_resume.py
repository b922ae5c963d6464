"""A stage killed in the middle and run again ends with bit-identical weights; strangers' scratch is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_fixture import (
    arguments,
    data_input,
    demonstrations,
    mapper_spec,
    metric_rows,
    model_input,
    same_weights,
    sft_spec,
)

from dart.errors import UserError
from dart.manifest import read_manifest
from dart.stage import run_stage
from dart.stages import train_mapper, train_sft
from dart.training.checkpoints import latest_checkpoint

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model_dir):
    folder = tmp_path_factory.mktemp("inputs")
    model, data = model_input(folder / "ash", tiny_model_dir), data_input(folder / "cot", demonstrations())
    return {
        "train_sft": {"model": model, "data": data},
        "train_mapper": {"mapper": model, "target": model, "cot": data},
    }


def kill_in_the_middle(stage: str, argv: list[str], scratch: Path, seconds: float = 120) -> None:
    """Run a stage as its own process and SIGKILL it once a complete checkpoint is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"dart.stages.{stage}", *argv], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + seconds
    try:
        while not any(latest_checkpoint(run) for run in scratch.glob("*")):
            assert process.poll() is None, "the stage ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint in time"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(
    ("stage", "spec"),
    [
        (train_sft.STAGE, sft_spec(epochs=40, save_steps=7, export_at=[0.05, 0.5])),
        (train_mapper.STAGE, mapper_spec(steps=24, save_steps=5, gradient_accumulation=2)),
    ],
    ids=["train_sft", "train_mapper"],
)
def test_killed_and_resumed_equals_undisturbed(tmp_path, folders, stage, spec):
    inputs, whole, broken = folders[stage.name], tmp_path / "whole", tmp_path / "broken"
    run_stage(stage, arguments(spec, whole, tmp_path / "scratch-1", **inputs))
    argv = arguments(spec, broken, tmp_path / "scratch-2", **inputs)
    kill_in_the_middle(stage.name, argv, tmp_path / "scratch-2")
    assert not (broken / "manifest.json").exists(), "the stage had finished before it was killed"
    run_stage(stage, argv)

    assert same_weights(whole, broken)
    assert not same_weights(whole, next(iter(inputs.values())))
    for exported in (whole / "checkpoints").glob("*"):
        assert (exported / "model.safetensors").read_bytes() == (
            broken / "checkpoints" / exported.name / "model.safetensors"
        ).read_bytes()
    rows, again = metric_rows(whole), metric_rows(broken)
    for row in rows + again:
        del row["device_seconds"]
    assert again == rows
    first, second = read_manifest(whole), read_manifest(broken)
    assert (first.resumed, second.resumed) == (0, 1)
    assert first.tokens_trained == second.tokens_trained and first.flops == second.flops
    assert not list((tmp_path / "scratch-2").iterdir())


def test_scratch_of_another_run_is_refused(tmp_path, folders):
    scratch = tmp_path / "scratch"
    argv = arguments(sft_spec(), tmp_path / "out", scratch, **folders["train_sft"])
    run_stage(train_sft.STAGE, argv)
    name = f"train_sft-{read_manifest(tmp_path / 'out').fingerprint[:16]}"
    (scratch / name).mkdir()
    (scratch / name / "fingerprint").write_text("another")
    with pytest.raises(UserError, match="holds checkpoints of another run"):
        run_stage(train_sft.STAGE, argv)
    assert os.listdir(scratch) == [name]


def test_rows_of_an_attempt_without_checkpoint_are_dropped(tmp_path, folders):
    argv = arguments(sft_spec(), tmp_path / "out", tmp_path / "scratch", **folders["train_sft"])
    run_stage(train_sft.STAGE, argv)
    rows = len(metric_rows(tmp_path / "out"))
    scratch = tmp_path / "scratch" / f"train_sft-{read_manifest(tmp_path / 'out').fingerprint[:16]}"
    scratch.mkdir()
    (scratch / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    run_stage(train_sft.STAGE, argv)
    assert len(metric_rows(tmp_path / "out")) == rows
