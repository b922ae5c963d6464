"""Mapper RL and direct RL: what is asked, rewarded, learnt, logged and refused."""

from __future__ import annotations

import json
import math

import pyarrow.parquet
import pytest
import torch
from training_fixture import (
    PENALTIES,
    PROMPTS,
    arguments,
    data_input,
    demonstrations,
    grpo_knobs,
    mapper_spec,
    metric_rows,
    model_input,
    new_context,
    same_weights,
    weights,
)

from dart import chat
from dart.errors import UserError
from dart.manifest import read_manifest
from dart.reward.reward import RewardModel
from dart.sections import Grpo, Prompts
from dart.stage import run_stage
from dart.stages import train_mapper, train_rl
from dart.training.grpo import Judgement, draw_order, reinforce
from dart.training.loading import load_model, load_tokenizer


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_model_dir):
    folder = tmp_path_factory.mktemp("inputs")
    names = ("mapper", "target")
    return {name: model_input(folder / name, tiny_model_dir) for name in names} | {
        "cot": data_input(folder / "cot", demonstrations())
    }


@pytest.fixture(scope="module")
def mapper_run(tmp_path_factory, inputs):
    folder = tmp_path_factory.mktemp("mapper")
    spec = mapper_spec(export_at=[0.5])
    run_stage(train_mapper.STAGE, arguments(spec, folder / "out", folder / "scratch", **inputs))
    return folder / "out"


def teach(tmp_path, inputs, judge, **changes):
    """Run GRPO with a judge of our own; returns policy and context."""
    policy, tokenizer = load_model(inputs["mapper"] / "model"), load_tokenizer(inputs["mapper"] / "model")
    context, prompts = new_context(tmp_path), Prompts(**PROMPTS)

    def ask(record):
        return chat.solve_messages(prompts, record)

    grpo = Grpo(**grpo_knobs(**changes))
    reinforce(policy, tokenizer, demonstrations(), ask, judge, grpo, 1, context)
    return policy, context


def rows_of(context):
    return [json.loads(line) for line in (context.scratch / "metrics.jsonl").read_text().splitlines()]


def digits(records, texts):
    """A reward that a policy can learn: the share of digits in its text."""
    return Judgement([sum(c.isdigit() for c in text) / max(len(text.split()), 1) for text in texts])


def test_every_component_is_logged_on_its_own(mapper_run):
    rows = metric_rows(mapper_run)
    names = {"reward", "reward_std", "align", "correct", "penalty", "length_ratio", "clipped_ratio", "entropy"}
    names |= {"frac_reward_zero_std", "loss", "grad_norm", "learning_rate", *(f"cheat_{name}" for name in PENALTIES)}
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert names <= row.keys()
        assert row["reward"] == pytest.approx(row["align"], rel=1e-5)  # no gate, no penalties
    assert rows[0]["cheat_missing_answer"] > 0  # measured though its weight is 0


def test_all_completions_are_kept_as_text(mapper_run):
    table = pyarrow.parquet.read_table(mapper_run / "completions.parquet").to_pandas()
    assert list(table.groupby("step").size()) == [8, 8, 8]
    assert table.groupby(["step", "id"]).size().eq(4).all()
    records = {record.id: record for record in demonstrations()}
    for row in table.itertuples():
        [message] = chat.rewrite_messages(Prompts(**PROMPTS), records[row.id])
        assert row.prompt == message["content"] and isinstance(row.completion, str)
    row = metric_rows(mapper_run)[0]
    first = table[table.step == 1]
    assert first.reward.mean() == pytest.approx(row["reward"], rel=1e-5)
    assert first.cheat_length.mean() == pytest.approx(row["cheat_length"])


def test_cost_counts_sampled_scored_and_trained_tokens(mapper_run):
    manifest = read_manifest(mapper_run)
    assert 0 < manifest.tokens_generated <= 3 * 8 * 12
    assert manifest.tokens_trained > manifest.tokens_generated
    assert manifest.tokens_scored > 0 and manifest.flops > 0


def test_mapper_run_leaves_a_moved_policy_and_a_checkpoint(mapper_run, inputs):
    assert not same_weights(mapper_run, inputs["mapper"])
    load_model(mapper_run / "checkpoints" / "step-000002")
    load_tokenizer(mapper_run / "model")


def test_the_policy_reads_the_shared_prompt_format(tmp_path, inputs, monkeypatch):
    seen = []
    generate = type(load_model(inputs["mapper"] / "model")).generate

    def spy(self, input_ids, attention_mask, **values):
        seen.extend(ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True))
        return generate(self, input_ids=input_ids, attention_mask=attention_mask, **values)

    monkeypatch.setattr("transformers.Qwen3ForCausalLM.generate", spy)
    asked = []

    def judge(records, texts):
        asked.extend(records)
        return digits(records, texts)

    teach(tmp_path, inputs, judge, steps=1)
    tokenizer, prompts = load_tokenizer(inputs["mapper"] / "model"), Prompts(**PROMPTS)
    assert seen == [chat.prompt_ids(tokenizer, chat.solve_messages(prompts, record)) for record in asked]


def test_reward_is_learnt(tmp_path, inputs):
    _, context = teach(tmp_path, inputs, digits, steps=25, learning_rate=1e-2, completions_per_prompt=8)
    rewards = [row["reward"] for row in rows_of(context)]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2


def test_accumulated_parts_equal_one_batch(tmp_path, inputs):
    for name, parts in (("whole", 1), ("parts", 4)):
        (tmp_path / name).mkdir()
        policy, _ = teach(tmp_path / name, inputs, digits, steps=1, gradient_accumulation=parts)
        policy.save_pretrained(tmp_path / name / "model")
    start, one, other = (weights(folder) for folder in (inputs["mapper"], tmp_path / "whole", tmp_path / "parts"))
    assert max((one[name] - start[name]).abs().max() for name in start) > 1e-4
    for name in start:
        assert torch.allclose(one[name], other[name], atol=2e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_stops_before_the_update(tmp_path, inputs, bad):
    def judge(records, texts):
        return Judgement([bad, *([-1.0] * (len(texts) - 1))])

    policy, tokenizer = load_model(inputs["mapper"] / "model"), load_tokenizer(inputs["mapper"] / "model")
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    ask = lambda record: chat.solve_messages(Prompts(**PROMPTS), record)  # noqa: E731
    grpo = Grpo(**grpo_knobs())
    with pytest.raises(UserError, match="The reward of a completion for sum-"):
        reinforce(policy, tokenizer, demonstrations(), ask, judge, grpo, 1, new_context(tmp_path))
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())


def test_a_target_that_is_not_finite_stops_the_stage(tmp_path, inputs, tiny_model_dir, monkeypatch):
    broken = model_input(tmp_path / "target", tiny_model_dir)
    model = load_model(broken / "model")
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    model.save_pretrained(broken / "model")
    argv = arguments(mapper_spec(), tmp_path / "out", tmp_path / "scratch", **(inputs | {"target": broken}))
    with pytest.raises(UserError, match="not finite"):
        run_stage(train_mapper.STAGE, argv)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_kl_term_is_measured_from_the_policy_at_the_start(tmp_path, inputs):
    _, context = teach(tmp_path, inputs, digits, steps=3, beta=0.1, learning_rate=1e-2)
    first, _, third = (row["kl"] for row in rows_of(context))
    assert first == pytest.approx(0, abs=1e-6) and third > 1e-4


def test_dead_signals_raise_an_alarm(tmp_path, inputs, capsys):
    def judge(records, texts):
        return Judgement([0.0] * len(texts))

    teach(tmp_path, inputs, judge, steps=2)
    said = capsys.readouterr().out
    assert said.count("frac_reward_zero_std 1.00") == 1 and said.count("warning") >= 1


def test_each_pass_asks_every_question_once():
    order = draw_order(5, 12, seed=3)
    assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4] and len(order) == 12
    assert order[:5] != order[5:10] and order != draw_order(5, 12, seed=4)


def test_direct_rl_rewards_verified_answers_only():
    records = demonstrations(2)
    found = train_rl.judge(records, [records[0].cot, records[0].cot])
    assert found.rewards == [1.0, 0.0] and found.metrics == {"correct": 0.5}


def test_direct_rl_writes_a_model(tmp_path, inputs):
    spec = {"labels": {}, "seed": 1, "prompts": PROMPTS, "rl": grpo_knobs(steps=2)}
    folders = {"model": inputs["mapper"], "questions": inputs["cot"]}
    run_stage(train_rl.STAGE, arguments(spec, tmp_path / "out", tmp_path / "scratch", **folders))
    rows = metric_rows(tmp_path / "out")
    names = {"reward", "correct", "clipped_ratio", "frac_reward_zero_std", "completion_length", "loss", "grad_norm"}
    assert len(rows) == 2 and names <= rows[0].keys()
    load_model(tmp_path / "out" / "model")


def test_the_reward_sees_whole_groups(tmp_path, inputs, monkeypatch):
    """Group and batch normalisation need all completions of a question, and of a step, in one call."""
    calls = []
    call = RewardModel.__call__

    def spy(self, records, texts, group_size):
        calls.append([record.id for record in records])
        return call(self, records, texts, group_size)

    monkeypatch.setattr(RewardModel, "__call__", spy)
    spec = mapper_spec(steps=2, gradient_accumulation=4)
    run_stage(train_mapper.STAGE, arguments(spec, tmp_path / "out", tmp_path / "scratch", **inputs))
    assert len(calls) == 2
    for ids in calls:
        assert len(ids) == 8 and len(set(ids[:4])) == len(set(ids[4:])) == 1
