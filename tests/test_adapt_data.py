"""Adapted data: which rewrite is chosen, what happens without one, and the figures of the manifest."""

from __future__ import annotations

import json
import math

import pyarrow.parquet
import pytest
from conftest import nano_prompts
from test_generate_cot import finish, record_seeds

from dart import chat, manifest
from dart.config import load
from dart.engines import Completion, transformers_engine
from dart.journal import Journal
from dart.records import Record, read_records, write_records
from dart.reward.detectors import DETECTORS
from dart.stage import run_stage
from dart.stages import adapt_data
from dart.training.loading import load_tokenizer

CONFIG = load(["configs/base.yaml", "configs/arms.yaml", "configs/nano.yaml"])
RECORDS = [
    Record(
        f"q{i}",
        "math",
        f"Ann has {i} apples. Ann buys 5 more. How many apples does Ann have?",
        answer=str(i + 5),
        cot=f"Let a = {i}. Let b = a + 5 = {i + 5}. #### {i + 5}",
    )
    for i in range(4)
]


@pytest.fixture
def folders(tmp_path, tiny_model_dir):
    write_records(finish(tmp_path / "cot") / "demonstrations.jsonl", RECORDS)
    for name in ("mapper", "target"):
        (finish(tmp_path / name) / "model").symlink_to(tiny_model_dir)
    return tmp_path


def run(folders, out="out", samples=3, on_invalid="keep_original", batch_size=4):
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8}
    spec = {
        "seed": 3,
        "prompts": nano_prompts().model_dump(),
        "adapt": {"samples": samples, "on_invalid": on_invalid, "sampling": sampling, "batch_size": batch_size},
        "reward": CONFIG.mapper.reward.model_dump(mode="json"),
        "scoring_batch": 4,
    }
    inputs = [argument for name in ("cot", "mapper", "target") for argument in (f"--{name}", str(folders / name))]
    where = ["--out", str(folders / out), "--scratch", str(folders / "scratch")]
    run_stage(adapt_data.STAGE, ["--config", json.dumps(spec), *inputs, *where])
    rows = pyarrow.parquet.read_table(folders / out / "rewrites.parquet").to_pylist()
    return manifest.read_manifest(folders / out), read_records(folders / out / "demonstrations.jsonl"), rows


def mapper(model, tokenizer, prompts, sampling, samples, seed, batch_size, on_batch):
    """Stands in for ``generate``: one good rewrite, one with a false step, one that differs by question."""
    out = []
    for prompt in prompts:
        n = int(tokenizer.decode(prompt).split("has ")[1].split(" apples")[0])
        good = f"{n} + 5 = {n + 5}. #### {n + 5}"
        false = f"{n} + 4 = {n + 5}. #### {n + 5}"
        texts = [
            [false, good, good],  # q0: two good ones, the first is taken
            [false, f"{n} + 5 = {n + 6}. #### {n + 6}", "#### 1"],  # q1: right answer, but a false step: still valid
            ["#### 99", "so", ""],  # q2: none valid
            [good, good, good],  # q3: all cut off by the token limit
        ][n]
        out.append([Completion(text, [1] * 5, truncated=n == 3) for text in texts])
    return out


def test_the_best_valid_rewrite_is_chosen(folders, monkeypatch):
    monkeypatch.setattr(transformers_engine, "generate", mapper)
    found, adapted, rows = run(folders)
    assert [(row["id"], row["sample"]) for row in rows if row["chosen"]] == [("q0", 1), ("q1", 0)]
    assert [record.cot for record in adapted] == [
        "0 + 5 = 5. #### 5",
        "1 + 4 = 6. #### 6",
        RECORDS[2].cot,
        RECORDS[3].cot,
    ]
    assert [record.meta["adapted"] for record in adapted] == [True, True, False, False]
    assert [row["correct"] for row in rows] == [True] * 4 + [False] * 5 + [True] * 3
    result = found.result
    assert (result["acceptance_rate"], result["kept_original"]) == (0.5, 0.5)
    assert result["answer_preserved"] == pytest.approx(7 / 12)
    assert result["cheats"]["false_equation"] == 0.5 and result["cheats"]["missing_answer"] == 0.0
    assert result["cheats_sampled"]["missing_answer"] == pytest.approx(2 / 12)
    assert found.tokens_generated == 60


def test_a_prompt_is_paid_for_once_and_so_is_each_text_that_the_target_scores(folders, monkeypatch, tiny_model_dir):
    monkeypatch.setattr(transformers_engine, "generate", mapper)
    found, _, rows = run(folders)
    tokenizer, prompts = load_tokenizer(tiny_model_dir), nano_prompts()
    asked = [chat.prompt_ids(tokenizer, chat.rewrite_messages(prompts, record)) for record in RECORDS]
    texts = {(row["id"], row["text"]) for row in rows}
    scored = [(record, text) for record in RECORDS for name, text in texts if name == record.id]
    scored += [(record, record.cot) for record in RECORDS]
    answers = [
        chat.prompt_ids(tokenizer, messages) + chat.completion_ids(tokenizer, messages, text)
        for messages, text in ((chat.solve_messages(prompts, record), text) for record, text in scored)
    ]
    assert found.tokens_scored == sum(map(len, asked)) + sum(map(len, answers))


def test_columns_and_perplexity_by_hand(folders, monkeypatch):
    monkeypatch.setattr(transformers_engine, "generate", mapper)
    found, _, rows = run(folders)
    names = {"id", "sample", "text", "correct", "align", "reward", "chosen", "tokens", "length_ratio", "copy_ratio"}
    names |= {"truncated", "tokens_original", "logprob_original", "logprob_rewrite", *(f"cheat_{d}" for d in DETECTORS)}
    assert set(rows[0]) == names
    # q0's original: Let a = 0 . Let b = a + 5 = 5 . #### 5 <end>: 17 tokens; rewrite: 0 + 5 = 5 . #### 5 <end>: 9
    assert (rows[1]["tokens"], rows[1]["tokens_original"]) == (9, 17)
    assert rows[1]["length_ratio"] == pytest.approx(9 / 17)
    first = {row["id"]: row for row in reversed(rows)}
    tokens = sum(row["tokens_original"] for row in first.values())
    nats = sum(row["tokens_original"] * row["logprob_original"] for row in first.values())
    assert found.result["target_perplexity_before"] == pytest.approx(math.exp(-nats / tokens))
    after = [rows[1], rows[3]]
    tokens = sum(row["tokens"] for row in after) + sum(first[i]["tokens_original"] for i in ("q2", "q3"))
    nats = sum(row["tokens"] * row["logprob_rewrite"] for row in after)
    nats += sum(first[i]["tokens_original"] * first[i]["logprob_original"] for i in ("q2", "q3"))
    assert found.result["target_perplexity_after"] == pytest.approx(math.exp(-nats / tokens))


def test_demonstrations_without_a_valid_rewrite_can_be_dropped(folders, monkeypatch):
    monkeypatch.setattr(transformers_engine, "generate", mapper)
    found, adapted, _ = run(folders, on_invalid="drop")
    assert [record.id for record in adapted] == ["q0", "q1"]
    assert found.result["kept_original"] == 0.0 and found.result["demonstrations"] == 2


def test_a_mapper_that_never_succeeds_leaves_the_originals(folders):
    found, adapted, _ = run(folders)  # an untrained model writes no answers
    assert [record.cot for record in adapted] == [record.cot for record in RECORDS]
    result = found.result
    assert result["acceptance_rate"] == 0.0 and result["length_ratio"] is None and result["cheats"]["length"] is None
    assert result["target_perplexity_before"] == pytest.approx(result["target_perplexity_after"])


def test_an_interrupted_run_continues_and_ends_the_same(folders, monkeypatch):
    monkeypatch.setattr(adapt_data, "BLOCK_BATCHES", 4)  # two blocks of two demonstrations
    seeds = record_seeds(monkeypatch)
    expected, expected_adapted, expected_rows = run(folders, "undisturbed", samples=2, batch_size=1)
    assert len(set(seeds)) == 2  # blocks do not repeat each other's noise
    add = Journal.add

    def killed(self, block):
        add(self, block)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folders, samples=2, batch_size=1)
    monkeypatch.setattr(Journal, "add", add)
    found, adapted, rows = run(folders, samples=2, batch_size=1)
    assert (adapted, rows, found.result) == (expected_adapted, expected_rows, expected.result)
    assert found.tokens_scored == expected.tokens_scored and found.resumed == 1
