"""What the training stages share: loading, checkpoints, metrics, settings."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from training_fixture import new_context

from dart.errors import UserError
from dart.training.arguments import shared_arguments
from dart.training.callbacks import MetricsCallback
from dart.training.checkpoints import latest_checkpoint
from dart.training.loading import load_model, load_tokenizer, parameters
from dart.training.mirror import wandb_run
from dart.training.steps import export_steps


class Mirror:
    """Stands in for a wandb run."""

    def __init__(self):
        self.rows = []

    def log(self, values, step):
        self.rows.append((step, values))


def log(callback, step, **values):
    callback.on_log(None, SimpleNamespace(global_step=step, max_steps=10), None, values)


def checkpoint(folder, step, state):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    complete = checkpoint(tmp_path, 9, json.dumps({"global_step": 9}))
    checkpoint(tmp_path, 8, json.dumps({"global_step": 8}))
    checkpoint(tmp_path, 10, None)  # killed while the weights were written
    checkpoint(tmp_path, 11, '{"global_step": 1')  # killed while the state was written
    assert latest_checkpoint(tmp_path) == complete


def test_exports_fall_on_shares_of_the_steps_before_the_last():
    assert export_steps([0.25, 0.5, 1.0], 40) == {10, 20}
    assert export_steps([0.01], 40) == {1}
    assert export_steps([0.5], 1) == frozenset()


def test_models_load_in_float32_and_evaluation_mode(tmp_path, tiny_model_dir):
    model = load_model(tiny_model_dir)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32} and not loaded.training


def test_tied_weights_count_once(tiny_model_dir):
    model = load_model(tiny_model_dir)
    assert (
        parameters(model) == sum(value.numel() for value in model.state_dict().values()) - model.lm_head.weight.numel()
    )


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        load_model(tmp_path)


def test_padding_that_hides_the_turn_end_is_refused(tmp_path, tiny_model_dir):
    tokenizer = load_tokenizer(tiny_model_dir)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="pad token other than it"):
        load_tokenizer(tmp_path)


def test_metrics_go_to_file_and_mirror_alike(tmp_path):
    context, mirror, extra = new_context(tmp_path), Mirror(), {"align": 0.5}
    callback = MetricsCallback(context, mirror, extra)
    log(callback, 1, loss=2.0, unknown=1.0, **{"completions/clipped_ratio": 0.1})
    log(callback, 2, loss=1.0)
    log(callback, 2, train_runtime=3.0)
    rows = [json.loads(line) for line in (context.scratch / "metrics.jsonl").read_text().splitlines()]
    assert mirror.rows == [(1, {"loss": 2.0, "clipped_ratio": 0.1, "align": 0.5}), (2, {"loss": 1.0})]
    assert [(row["step"], row["loss"], row.get("align")) for row in rows] == [(1, 2.0, 0.5), (2, 1.0, None)]


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_a_step_that_is_not_finite_stops(tmp_path, name):
    callback = MetricsCallback(new_context(tmp_path), Mirror(), {})
    with pytest.raises(UserError, match=f"{name} is nan at step 4"):
        log(callback, 4, **({"loss": 1.0} | {name: math.nan}))
    assert not (tmp_path / "scratch" / "metrics.jsonl").exists()


def test_alarms_sound_once_above_their_limits(tmp_path, capsys):
    callback = MetricsCallback(new_context(tmp_path), Mirror(), {})
    for clipped, dead in ((0.3, 0.5), (0.31, 0.5), (0.9, 0.51)):
        log(callback, 1, loss=0.0, frac_reward_zero_std=dead, **{"completions/clipped_ratio": clipped})
    said = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(said) == 2 and "clipped_ratio 0.31" in said[0] and "frac_reward_zero_std 0.51" in said[1]


def test_settings_leave_nothing_to_a_moving_default(tmp_path):
    values = shared_arguments(
        new_context(tmp_path),
        steps=4,
        seed=3,
        learning_rate=1e-4,
        schedule="cosine",
        warmup_steps=1,
        decay_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        save_steps=2,
    )
    assert values["gradient_checkpointing"] is False and values["logging_nan_inf_filter"] is False
    assert values["data_seed"] == values["seed"] == 3 and values["report_to"] == "none"


def test_wandb_is_offline_unless_the_user_says_otherwise(tmp_path, monkeypatch):
    context = new_context(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with wandb_run(context, {"batch_size": 2}) as run:
        run.log({"loss": 1.0}, step=1)
    assert len(list((context.out / "wandb").glob("offline-run-*/run-*.wandb"))) == 1
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with wandb_run(context, {}) as run:
        assert run.disabled
