"""SFT: what is trained on, how batches are split and counted, what is left behind."""

from __future__ import annotations

import json
import math

import pytest
import torch
from training_fixture import (
    arguments,
    data_input,
    demonstrations,
    metric_rows,
    model_input,
    new_context,
    sft_spec,
    weights,
)

from dart import chat
from dart.errors import UserError
from dart.stage import run_stage
from dart.stages import train_sft
from dart.training.loading import load_model, load_tokenizer, parameters
from dart.training.supervised import CountingSFTTrainer, Example, Settings, fine_tune


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_model_dir):
    folder = tmp_path_factory.mktemp("inputs")
    model, data = model_input(folder / "ash", tiny_model_dir), data_input(folder / "cot", demonstrations())
    return {"model": model, "data": data}


def train(tmp_path, inputs, name, **changes):
    run_stage(train_sft.STAGE, arguments(sft_spec(**changes), tmp_path / name, tmp_path / "scratch", **inputs))
    return tmp_path / name


def test_loss_is_the_mean_over_completion_tokens_of_the_batch(tmp_path, inputs):
    out = train(tmp_path, inputs, "out", batch_size=12)
    tokenizer, model = load_tokenizer(inputs["model"] / "model"), load_model(inputs["model"] / "model")
    total, count = 0.0, 0
    for record in demonstrations():
        messages = chat.solve_messages(train_sft.TrainSftSpec(**sft_spec()).prompts, record)
        prompt = chat.prompt_ids(tokenizer, messages)
        completion = chat.completion_ids(tokenizer, messages, record.cot)
        logps = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        total -= sum(logps[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion))
        count += len(completion)
    [row] = metric_rows(out)
    assert row["loss"] == pytest.approx(total / count, rel=1e-5)


def test_accumulated_parts_equal_one_batch(tmp_path, inputs):
    whole = train(tmp_path, inputs, "whole", batch_size=12, epochs=3)
    parts = train(tmp_path, inputs, "parts", batch_size=12, epochs=3, gradient_accumulation=4)
    for one, other in zip(metric_rows(whole), metric_rows(parts), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert one["tokens_trained"] == other["tokens_trained"]
    start, one, other = weights(inputs["model"]), weights(whole), weights(parts)
    assert max((one[name] - start[name]).abs().max() for name in start) > 1e-3
    for name in start:
        assert torch.allclose(one[name], other[name], atol=1e-5)


def test_steps_tokens_and_flops_are_counted(tmp_path, inputs):
    out = train(tmp_path, inputs, "out", batch_size=8, epochs=2)
    manifest = json.loads((out / "manifest.json").read_text())
    tokenizer = load_tokenizer(inputs["model"] / "model")
    prompts = train_sft.TrainSftSpec(**sft_spec()).prompts
    tokens = 2 * sum(
        len(example) for example in train_sft.ordered_examples(demonstrations(), prompts, tokenizer, 1, 0, {})
    )
    assert manifest["result"]["steps"] == 3
    assert [row["step"] for row in metric_rows(out)] == [1, 2, 3]
    assert manifest["tokens_trained"] == tokens
    assert manifest["flops"] == 6 * tokens * parameters(load_model(out / "model"))
    assert {"loss", "grad_norm", "learning_rate", "epoch"} <= metric_rows(out)[0].keys()


def test_exported_checkpoints_are_loadable_models_before_the_last_step(tmp_path, inputs):
    out = train(tmp_path, inputs, "out", export_at=[0.3, 0.7, 1.0])
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-000001", "step-000002"]
    load_tokenizer(out / "checkpoints" / "step-000001")
    early, final = load_model(out / "checkpoints" / "step-000001"), load_model(out / "model")
    assert not torch.equal(early.lm_head.weight, final.lm_head.weight)


def test_every_epoch_sees_every_example_in_a_new_order(inputs):
    tokenizer = load_tokenizer(inputs["model"] / "model")
    prompts = train_sft.TrainSftSpec(**sft_spec()).prompts
    examples = train_sft.ordered_examples(demonstrations(), prompts, tokenizer, 2, 5, {})
    first, second = [[tuple(e.prompt) for e in part] for part in (examples[:12], examples[12:])]
    assert first != second and sorted(first) == sorted(second) and len(set(first)) == 12


def test_batches_are_the_callers(tmp_path, inputs, monkeypatch):
    """A batch holds the rows it was given: only their order inside a batch may change."""
    tokenizer, model = load_tokenizer(inputs["model"] / "model"), load_model(inputs["model"] / "model")
    examples = [Example([9] * (1 + 3 * (i % 2)), [10 + i, 1]) for i in range(6)]
    seen = []
    step = CountingSFTTrainer.training_step

    def spy(self, model, inputs, *args, **values):
        seen.append(inputs["input_ids"])
        return step(self, model, inputs, *args, **values)

    monkeypatch.setattr(CountingSFTTrainer, "training_step", spy)
    settings = Settings(2, 1, 1e-3, "constant", 0, 0.0, 1.0, 1000, 0)
    fine_tune(model, tokenizer, examples, settings, new_context(tmp_path))
    found = [{int(token) for token in batch.flatten() if token >= 10} for batch in seen]
    assert found == [{10, 11}, {12, 13}, {14, 15}]


def test_warmup_stable_decay_follows_its_shape(tmp_path, inputs):
    tokenizer, model = load_tokenizer(inputs["model"] / "model"), load_model(inputs["model"] / "model")
    settings = Settings(1, 1, 1e-3, "warmup_stable_decay", 2, 0.0, 1.0, 1000, 0, decay_steps=4)
    fine_tune(model, tokenizer, [Example([9], [10, 1])] * 10, settings, new_context(tmp_path))
    rows = (tmp_path / "scratch" / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(row)["learning_rate"] for row in rows]
    assert rates[0] == 0 and rates[1] == pytest.approx(5e-4)
    assert rates[2:7] == pytest.approx([1e-3] * 5)
    assert 0 < rates[9] < rates[8] < rates[7] < 1e-3


def test_a_batch_that_cannot_be_split_is_refused(tmp_path, inputs):
    with pytest.raises(UserError, match="gradient_accumulation 3 does not divide batch_size 4"):
        train(tmp_path, inputs, "out", gradient_accumulation=3)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, inputs, tiny_model_dir):
    broken = model_input(tmp_path / "broken", tiny_model_dir)
    model = load_model(broken / "model")
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    model.save_pretrained(broken / "model")
    with pytest.raises(UserError, match="loss is nan at step 1"):
        train(tmp_path, {"model": broken, "data": inputs["data"]}, "out")
    assert not (tmp_path / "out" / "manifest.json").exists() and not (tmp_path / "out" / "model").exists()
