"""Pass rates, and the data that are selected or reworked by them."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest
from conftest import nano_prompts
from training_fixture import PROMPTS, SAMPLING, arguments, data_input, demonstrations, input_folder, model_input

from dart import chat
from dart.engines import Completion, transformers_engine
from dart.errors import UserError
from dart.records import Record, read_records
from dart.sections import Select
from dart.stage import run_stage
from dart.stages import pass_rate, rework_data, select_data

SELECT = {"share": 0.5, "hard_below": 0.25, "simple_from": 0.75, "on_empty": "refuse"}
RECORDS = demonstrations(6)


def rollouts(rates: dict[str, float], samples: int = 4) -> list[dict]:
    """Rollouts of which the *last* ones are correct, so that the first verified one is not the first."""
    return [
        {"id": name, "sample": i, "text": f"rollout {i} #### {'right' if right else 'wrong'}", "correct": right,
         "truncated": False}
        for name, rate in rates.items()
        for i in range(samples)
        for right in [i >= samples - round(rate * samples)]
    ]  # fmt: skip


RATES = dict(zip([record.id for record in RECORDS], (0.0, 0.25, 0.5, 0.75, 1.0, 0.0), strict=True))


@pytest.mark.parametrize(
    ("rate", "bucket"),
    [(0.0, "hard"), (0.2499, "hard"), (0.25, "medium"), (0.7499, "medium"), (0.75, "simple"), (1.0, "simple")],
)
def test_buckets_are_half_open(rate, bucket):
    assert rework_data.difficulty(rate, Select(**SELECT)) == bucket


def test_rates_are_shares_of_correct_rollouts():
    assert pass_rate.pass_rates(rollouts(RATES)) == RATES


def test_verified_takes_the_first_correct_rollout_and_leaves_out_the_unsolved():
    found = select_data.verified(RECORDS, rollouts(RATES))
    assert [record.id for record in found] == [name for name, rate in RATES.items() if rate]
    assert [record.cot for record in found] == [f"rollout {i} #### right" for i in (3, 2, 1, 0)]
    assert found[0].answer == RECORDS[1].answer


def test_learnable_questions_were_solved_at_least_once():
    assert [record.id for record in select_data.learnable(RECORDS, rollouts(RATES))] == [
        name for name, rate in RATES.items() if rate > 0
    ]


def scores(logps: list[float], tokens: list[int]) -> list[dict]:
    return [
        {"id": record.id, "mean_logprob": logp, "tokens": count}
        for record, logp, count in zip(RECORDS, logps, tokens, strict=True)
    ]


def test_preferred_are_the_likeliest_and_the_random_subset_holds_as_many_tokens():
    table = scores([-3.0, -0.5, -2.0, -0.1, -1.0, -4.0], [5, 50, 5, 30, 20, 10])
    kept = select_data.preferred(RECORDS, table, 0.5)
    assert [record.id for record in kept] == ["sum-2", "sum-4", "sum-5"]
    tokens = {row["id"]: row["tokens"] for row in table}
    subsets = set()
    for seed in range(20):
        matched = select_data.token_matched(RECORDS, table, kept, seed)
        used = sum(tokens[record.id] for record in matched)
        assert used <= 100 and matched == [record for record in RECORDS if record in matched]
        rest = [tokens[record.id] for record in RECORDS if record not in matched]
        assert not rest or used + max(rest) > 100  # the next one drawn did not fit
        subsets.add(tuple(record.id for record in matched))
    assert len(subsets) > 5


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_model_dir):
    return model_input(tmp_path_factory.mktemp("model") / "ash", tiny_model_dir)


def measure(tmp_path, model, name="rates", **changes):
    """Run pass_rate on the sums; returns its folder."""
    knobs = {"samples": 3, "sampling": SAMPLING, "batch_size": 2} | changes
    spec = {"labels": {}, "seed": 1, "prompts": PROMPTS, "pass_rate": knobs}
    data = tmp_path / "cot"
    inputs = {"model": model, "questions": data if data.is_dir() else data_input(data, RECORDS)}
    run_stage(pass_rate.STAGE, arguments(spec, tmp_path / name, tmp_path / "scratch", **inputs))
    return tmp_path / name


def answers(by_question):
    """Stands in for ``generate``: ``by_question(place, sample)`` is the text of a completion."""

    def generate(model, tokenizer, prompts, sampling, samples, seed, batch_size, on_batch):
        return [[Completion(by_question(i, s), [1, 2], False) for s in range(samples)] for i in range(len(prompts))]

    return generate


def test_rollouts_are_graded_and_counted(tmp_path, model, monkeypatch):
    monkeypatch.setattr(pass_rate, "BLOCK_BATCHES", 1000)  # one block
    generate = answers(lambda i, s: RECORDS[i].cot if s < i else "#### 999")
    monkeypatch.setattr(transformers_engine, "generate", generate)
    out = measure(tmp_path, model)
    assert pass_rate.pass_rates(pass_rate.read_rollouts(out)) == pytest.approx(
        {record.id: min(i, 3) / 3 for i, record in enumerate(RECORDS)}
    )
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["result"]["never"] == pytest.approx(1 / 6) and manifest["result"]["always"] == pytest.approx(3 / 6)
    assert manifest["tokens_generated"] == 6 * 3 * 2


def test_a_truncated_rollout_is_not_correct(tmp_path, model, monkeypatch):
    def generate(model, tokenizer, prompts, sampling, samples, seed, batch_size, on_batch):
        return [[Completion(RECORDS[i].cot, [1], True)] * samples for i in range(len(prompts))]

    monkeypatch.setattr(pass_rate, "BLOCK_BATCHES", 1000)
    monkeypatch.setattr(transformers_engine, "generate", generate)
    assert set(pass_rate.pass_rates(pass_rate.read_rollouts(measure(tmp_path, model))).values()) == {0.0}


def test_real_rollouts_differ_between_seeds_and_samples(tmp_path, model):
    rows = pass_rate.read_rollouts(measure(tmp_path, model))
    assert len(rows) == 18 and [row["sample"] for row in rows[:3]] == [0, 1, 2]
    assert len({row["text"] for row in rows}) > 9


def written(tmp_path, rates):
    """A finished pass_rate run with these rates."""
    folder = input_folder(tmp_path / "rollouts", "rollouts")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rollouts(rates)), folder / pass_rate.FILE)
    return folder


def select(tmp_path, rates, rule, **changes):
    spec = {"labels": {}, "seed": 1, "rule": rule, "select": SELECT | changes}
    inputs = {"questions": data_input(tmp_path / "cot", RECORDS), "rollouts": written(tmp_path, rates)}
    run_stage(select_data.STAGE, arguments(spec, tmp_path / "out", tmp_path / "scratch", **inputs))
    return read_records(tmp_path / "out/demonstrations.jsonl")


def test_nothing_left_is_refused_or_everything_kept(tmp_path):
    never = dict.fromkeys(RATES, 0.0)
    with pytest.raises(UserError, match="The rule learnable keeps none of 6 demonstrations"):
        select(tmp_path / "refused", never, "learnable")
    assert select(tmp_path / "kept", never, "learnable", on_empty="keep_all") == RECORDS


def rework(tmp_path, model, critique, expert, monkeypatch, rates=RATES):
    """Run rework_data with ``expert(prompt text, attempt)`` as the expert; returns records and manifest."""
    asked = []

    def generate(model, tokenizer, prompts, sampling, samples, seed, batch_size, on_batch):
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        asked.append(texts)
        return [[Completion(expert(text, len(asked)), [1, 2], False)] for text in texts]

    monkeypatch.setattr(transformers_engine, "generate", generate)
    knobs = {"attempts": 2, "sampling": SAMPLING, "batch_size": 4}
    spec = {"labels": {}, "seed": 1, "prompts": PROMPTS, "select": SELECT, "rework": knobs, "critique": critique}
    inputs = {"data": data_input(tmp_path / "cot", RECORDS), "model": model, "rollouts": written(tmp_path, rates)}
    run_stage(rework_data.STAGE, arguments(spec, tmp_path / "out", tmp_path / "scratch", **inputs))
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    return read_records(tmp_path / "out/demonstrations.jsonl"), manifest["result"], asked


def bridge(text: str, attempt: int) -> str:
    """Right for the first question at the second attempt, never for the sixth."""
    return "a bridge #### 3" if attempt == 2 and "1 + 2 =?" in text else "#### 999"


def test_medium_stay_hard_are_bridged_and_simple_left_out(tmp_path, model, monkeypatch):
    records, result, asked = rework(tmp_path, model, False, bridge, monkeypatch)
    assert [record.id for record in records] == ["sum-1", "sum-2", "sum-3", "sum-6"]
    assert records[0].cot == "a bridge #### 3" and not records[0].attempt
    assert records[1:] == [RECORDS[1], RECORDS[2], RECORDS[5]]  # medium ones; and a hard one without a verified bridge
    assert result | {"simple": 2, "medium": 2, "hard": 2, "asked": 2, "bridges": 1, "critiques": 0, "kept": 4} == result
    assert [len(texts) for texts in asked] == [2, 2] and all("Explain" in text for text in asked[0])


def test_never_solved_ones_become_critiques_of_a_failed_attempt(tmp_path, model, monkeypatch):
    records, result, asked = rework(tmp_path, model, True, bridge, monkeypatch)
    assert records[0].attempt == "rollout 0 #### wrong" and records[0].cot == "a bridge #### 3"
    assert [bool(record.attempt) for record in records] == [True, False, False, False]
    assert result["critiques"] == 1 and result["bridges"] == 0
    assert all("Criticise" in text for text in asked[0])


def test_all_simple_is_refused_in_words(tmp_path, model, monkeypatch):
    with pytest.raises(UserError, match="All 6 questions are simple for the model"):
        rework(tmp_path, model, False, bridge, monkeypatch, dict.fromkeys(RATES, 1.0))


def test_a_critique_is_asked_for_with_the_attempt_and_a_bridge_with_the_solution():
    record = Record("r", "math", "1 + 2 = ?", answer="3", cot="1 + 2 = 3 #### 3", attempt="1 + 2 = 4 #### 4")
    [critique], [bridged] = chat.solve_messages(nano_prompts(), record), chat.bridge_messages(nano_prompts(), record)
    assert "Criticise" in critique["content"] and record.attempt in critique["content"]
    assert record.cot not in critique["content"] and record.cot in bridged["content"]
