"""On a GPU: weights stay float32 while the forward pass is bfloat16, steps are finite, scores are close.

``make test-gpu``; without a GPU every test is skipped and says why.
"""

from __future__ import annotations

import math
import random

import pytest
import torch
from training_fixture import (
    arguments,
    data_input,
    demonstrations,
    mapper_spec,
    metric_rows,
    model_input,
    new_context,
    sft_spec,
    weights,
)

from dart import launch
from dart.bench_gpu import main
from dart.bench_inputs import TRUE, tokenizer_of
from dart.scoring import score
from dart.stage import run_stage
from dart.stages import train_mapper, train_sft
from dart.training.arguments import shared_arguments
from dart.training.loading import load_model
from dart.zoo_model import build_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason=f"PyTorch {torch.__version__} sees no GPU on this machine"
    ),
]
# Stated error of scoring in bfloat16, in nats, of a completion's mean log-probability.
BFLOAT16_ERROR = 1e-2


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model_dir):
    folder = tmp_path_factory.mktemp("inputs")
    model, data = model_input(folder / "ash", tiny_model_dir), data_input(folder / "cot", demonstrations())
    return {
        "train_sft": {"model": model, "data": data},
        "train_mapper": {"mapper": model, "target": model, "cot": data},
    }


@pytest.fixture(scope="module")
def true_model():
    return build_model(TRUE.architecture, tokenizer_of(TRUE), seed=0).cuda().eval()


def test_weights_are_float32_and_the_forward_pass_is_bfloat16(tmp_path, tiny_model_dir):
    model = load_model(tiny_model_dir)
    assert {(value.dtype, value.device.type) for value in model.parameters()} == {(torch.float32, "cuda")}
    values = shared_arguments(
        new_context(tmp_path),
        steps=1,
        seed=0,
        learning_rate=1e-4,
        schedule="constant",
        warmup_steps=0,
        decay_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        save_steps=1,
    )
    assert values["bf16"] is True and values["use_cpu"] is False


@pytest.mark.parametrize(
    ("stage", "spec"), [(train_sft.STAGE, sft_spec()), (train_mapper.STAGE, mapper_spec())], ids=["sft", "mapper"]
)
def test_steps_are_finite_and_leave_float32_weights(tmp_path, folders, stage, spec):
    run_stage(stage, arguments(spec, tmp_path / "out", tmp_path / "scratch", **folders[stage.name]))
    rows = metric_rows(tmp_path / "out")
    assert len(rows) == 3 and all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in rows)
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.float32}


def test_scores_in_bfloat16_are_close_to_those_in_float32(true_model):
    rng = random.Random(0)
    rows = [[rng.randrange(10, TRUE.vocabulary) for _ in range(256)] for _ in range(8)]
    exact = score(true_model, 0, [row[:64] for row in rows], [row[64:] for row in rows], 8)
    with torch.autocast("cuda", torch.bfloat16):
        rough = score(true_model, 0, [row[:64] for row in rows], [row[64:] for row in rows], 8)
    worst = max((one.mean() - two.mean()).abs().item() for one, two in zip(exact, rough, strict=True))
    print(f"greatest difference of a mean log-probability: {worst:.1e} nats")
    assert worst < BFLOAT16_ERROR


def test_scores_on_the_gpu_are_those_of_the_cpu(tiny_model_dir):
    model, rows = load_model(tiny_model_dir), [[10 + i, 11, 12 + i, 13] for i in range(6)]
    there = score(model, 0, [row[:1] for row in rows], [row[1:] for row in rows], 4)
    here = score(model.cpu(), 0, [row[:1] for row in rows], [row[1:] for row in rows], 4)
    assert all(torch.allclose(one, two, atol=1e-4) for one, two in zip(here, there, strict=True))


def test_one_gpu_is_enough_for_a_rule_with_one():
    launch.check_gpus(1, "dart.stages.train_rl")


def test_the_benchmark_runs(tmp_path):
    assert main(["--tiny", "--repetitions", "2", "--out", str(tmp_path)]) == 0
