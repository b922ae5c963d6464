"""PEAR's and DFT's losses against loops over their formulas."""

from __future__ import annotations

import json
import math

import pyarrow
import pyarrow.parquet
import pytest
import torch
from training_fixture import (
    PEAR,
    PROMPTS,
    arguments,
    data_input,
    demonstrations,
    metric_rows,
    model_input,
    sft_spec,
    weights,
)

from dart.errors import UserError
from dart.sections import Pear
from dart.stage import run_stage
from dart.stages import score_data, train_sft
from dart.training import pear

LEVELS = ("sequence", "block", "token")


def knobs(**changes):
    return Pear(**{**PEAR, **changes})


def brute_force(theta, beta, pear_):
    """Log G of the tokens of one completion, by the formulas as they are written."""
    low, high = pear_.delta_clip
    delta = [min(max(t - b, low), high) for t, b in zip(theta, beta, strict=True)]
    length = len(delta)
    logs = []
    for t in range(1, length + 1):
        if pear_.level == "sequence":
            value = sum(delta)
        elif pear_.level == "token":
            value = (length - t) * math.log(pear_.gamma) + sum(delta[j - 1] for j in range(t + 1, length + 1))
        else:
            blocks = [range(s, min(s + pear_.block, length + 1)) for s in range(1, length + 1, pear_.block)]
            mine = next(k for k, block in enumerate(blocks) if t in block)
            rho = [sum(delta[j - 1] for j in block) for block in blocks]
            value = (length - blocks[mine][-1]) * math.log(pear_.gamma) + sum(rho[mine + 1 :])
        logs.append(min(max(value, pear_.log_weight_clip[0]), pear_.log_weight_clip[1]))
    return logs


def batch(lengths=(1, 3, 4, 9, 30), before=(2, 0, 5, 1, 3), seed=0):
    """Random log-probabilities of completions of these lengths, after prompts, right-padded."""
    generator = torch.Generator().manual_seed(seed)
    width = max(b + n for b, n in zip(before, lengths, strict=True)) + 2
    theta, beta = (-3 * torch.rand(len(lengths), width, generator=generator) for _ in range(2))
    mask = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, (start, length) in enumerate(zip(before, lengths, strict=True)):
        mask[row, start : start + length] = True
    return theta, beta, mask


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("changes", [{}, {"delta_clip": [-9.0, 9.0]}, {"block": 3, "gamma": 0.9}, {"block": 100}])
def test_weights_are_those_of_a_loop_over_the_formula(level, changes):
    theta, beta, mask = batch()
    found, _ = pear.log_weights(theta, beta, mask, knobs(level=level, **changes))
    for row in range(len(mask)):
        inside = mask[row]
        expected = brute_force(theta[row][inside].tolist(), beta[row][inside].tolist(), knobs(level=level, **changes))
        assert found[row][inside].tolist() == pytest.approx(expected, abs=1e-5)
        assert found[row][~inside].abs().sum() == 0


@pytest.mark.parametrize("level", LEVELS)
def test_equal_policies_without_discount_are_sft(level):
    theta, _, mask = batch()
    logs, clipped = pear.log_weights(theta, theta.clone(), mask, knobs(level=level, gamma=1.0))
    assert torch.equal(pear.weights(logs, mask, knobs(level=level)), mask.float()) and not clipped.any()


def test_blocks_of_one_are_tokens_and_blocks_of_all_are_sft():
    theta, beta, mask = batch()
    ones, _ = pear.log_weights(theta, beta, mask, knobs(level="block", block=1))
    tokens, _ = pear.log_weights(theta, beta, mask, knobs(level="token"))
    assert torch.allclose(ones, tokens, atol=1e-6)
    whole, _ = pear.log_weights(theta, beta, mask, knobs(level="block", block=30))
    assert whole.abs().max() < 1e-6


def test_the_floor_is_reached_at_the_known_distance_from_the_end():
    """At a constant delta of -0.08 and gamma 0.999, log G falls to -10 some 123 tokens before the end."""
    mask = torch.ones(1, 200, dtype=torch.bool)
    logs, _ = pear.log_weights(torch.full((1, 200), -5.0), torch.full((1, 200), -1.0), mask, knobs())
    assert int((logs[0] == -10).sum()) == 200 - 124  # 124 * 0.081 > 10 > 123 * 0.081


def test_weights_do_not_carry_gradients():
    theta, beta, mask = batch()
    theta.requires_grad_()
    logs, _ = pear.log_weights(theta, beta, mask, knobs())
    assert not logs.requires_grad


def test_mean1_gives_every_completion_the_mean_one():
    theta, beta, mask = batch()
    logs, _ = pear.log_weights(theta, beta, mask, knobs())
    found = pear.weights(logs, mask, knobs(normalise="mean1"))
    assert torch.allclose(found.sum(1) / mask.sum(1), torch.ones(len(mask)))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_model_dir):
    """A target, its data, and the data's scores under another model, the behaviour policy."""
    folder = tmp_path_factory.mktemp("pear")
    found = {"model": model_input(folder / "ash", tiny_model_dir)}
    found["data"] = data_input(folder / "cot", demonstrations())
    spec = {"labels": {"target": "ash"}, "prompts": PROMPTS, "scoring_batch": 4}
    scored = {"data": found["data"], "model": found["model"], "target": found["model"]}
    run_stage(score_data.STAGE, arguments(spec, folder / "same", folder / "scratch", **scored))
    table = pyarrow.parquet.read_table(folder / "same/scores.parquet").to_pydict()
    noise = torch.Generator().manual_seed(1)
    table["logps"] = [
        (torch.tensor(row) + 0.5 * torch.randn(len(row), generator=noise)).tolist() for row in table["logps"]
    ]
    found["same"], found["behaviour"] = folder / "same", data_input(folder / "other", [])
    pyarrow.parquet.write_table(pyarrow.table(table), found["behaviour"] / "scores.parquet")
    return found


def train(tmp_path, inputs, name, behaviour="behaviour", **changes):
    folders = {"model": inputs["model"], "data": inputs["data"]} | (
        {"behaviour": inputs[behaviour]} if behaviour else {}
    )
    run_stage(train_sft.STAGE, arguments(sft_spec(**changes), tmp_path / name, tmp_path / "scratch", **folders))
    return tmp_path / name


def test_the_first_update_under_one_s_own_policy_is_sft(tmp_path, inputs):
    changes = {"batch_size": 12, "pear": {**PEAR, "level": "sequence"}}
    own = train(tmp_path, inputs, "own", "same", loss="pear", **changes)
    plain = train(tmp_path, inputs, "plain", None, **changes)
    [one], [other] = metric_rows(own), metric_rows(plain)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5) == pytest.approx(one["nll"], rel=1e-5)
    assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    assert one["effective_tokens"] == pytest.approx(1.0, rel=1e-5) and one["delta_clipped"] == 0


@pytest.mark.parametrize("level", LEVELS)
def test_accumulated_parts_equal_one_batch(tmp_path, inputs, level):
    changes = {"loss": "pear", "pear": {**PEAR, "level": level}, "batch_size": 12, "epochs": 2}
    whole = train(tmp_path, inputs, "whole", **changes)
    parts = train(tmp_path, inputs, "parts", **changes, gradient_accumulation=4)
    for one, other in zip(metric_rows(whole), metric_rows(parts), strict=True):
        for name in ("loss", "nll", "effective_tokens", "last_tenth", "delta_clipped"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name
    left, right, start = weights(whole), weights(parts), weights(inputs["model"])
    assert max((left[name] - start[name]).abs().max() for name in start) > 1e-3
    assert all(torch.allclose(left[name], right[name], atol=1e-5) for name in start)


def test_the_loss_is_the_weighted_sum_over_all_tokens(tmp_path, inputs):
    out = train(tmp_path, inputs, "out", loss="pear", batch_size=12)
    theta = pyarrow.parquet.read_table(inputs["same"] / "scores.parquet")["logps"].to_pylist()
    beta = pyarrow.parquet.read_table(inputs["behaviour"] / "scores.parquet")["logps"].to_pylist()
    total = sum(
        -math.exp(log) * logp
        for one, other in zip(theta, beta, strict=True)
        for log, logp in zip(brute_force(one, other, knobs()), one, strict=True)
    )
    [row] = metric_rows(out)
    assert row["loss"] == pytest.approx(total / sum(map(len, theta)), rel=1e-4)


def test_dft_scales_every_token_by_its_own_probability(tmp_path, inputs):
    out = train(tmp_path, inputs, "out", None, loss="dft", batch_size=12)
    logps = [
        value
        for row in pyarrow.parquet.read_table(inputs["same"] / "scores.parquet")["logps"].to_pylist()
        for value in row
    ]
    [row] = metric_rows(out)
    assert row["loss"] == pytest.approx(-sum(math.exp(v) * v for v in logps) / len(logps), rel=1e-5)


def test_scores_of_other_data_are_refused(tmp_path, inputs):
    with pytest.raises(UserError, match="score the very file that is trained on"):
        train(tmp_path, {**inputs, "data": data_input(tmp_path / "d", demonstrations(13))}, "out", loss="pear")


def test_token_probabilities_are_those_of_the_model(inputs):
    manifest = json.loads((inputs["same"] / "manifest.json").read_text())
    rows = pyarrow.parquet.read_table(inputs["same"] / "scores.parquet").to_pylist()
    assert manifest["result"]["demonstrations"] == len(rows) == 12 and manifest["tokens_scored"] > 0
    assert all(row["tokens"] == len(row["logps"]) and max(row["logps"]) <= 0 for row in rows)
    assert rows[0]["mean_logprob"] == pytest.approx(sum(rows[0]["logps"]) / rows[0]["tokens"], rel=1e-5)
