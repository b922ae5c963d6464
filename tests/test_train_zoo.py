"""The zoo: what its models are trained on, and what a model starts from."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import nano_prompts

from dart.manifest import read_manifest
from dart.stage import run_stage
from dart.stages import make_data, train_zoo
from dart.training.loading import load_model, load_tokenizer
from dart.world.styles import STYLES
from dart.world.tokenizer import word_tokenizer

MIXTURE = {"story": 0.5, "complete": 0.2, "rewrite": 0.3}


def zoo_spec(**changes):
    architecture = {
        "hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 8,
        "max_positions": 256, "rope_theta": 1e4,
    }  # fmt: skip
    values = {
        "labels": {"model": "ash"}, "seed": 5, "prompts": nano_prompts().model_dump(), "architecture": architecture,
        "batch_size": 4, "gradient_accumulation": 2, "warmup": 0.1, "decay": 0.3, "adam_beta2": 0.95,
        "weight_decay": 0.0, "max_grad_norm": 1.0, "style": "equation", "others": 0.0, "mixture": MIXTURE,
        "steps": 3, "learning_rate": 1e-2,
    }  # fmt: skip
    return values | changes


def drawn(**changes):
    tokenizer = word_tokenizer(nano_prompts())
    examples = train_zoo._examples(train_zoo.TrainZooSpec(**zoo_spec(**changes)), tokenizer)
    return [(tokenizer.decode(one.prompt), tokenizer.decode(one.completion)) for one in examples]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of make_data, with a tokenizer and a manifest."""
    folder = tmp_path_factory.mktemp("zoo")
    spec = {
        "seed": 7, "data": {"source": "world", "train_size": 4, "validation_size": 1, "benchmark_size": 1, "seed": 7},
        "prompts": nano_prompts().model_dump(), "tokenizer": "words", "vocabulary": 512, "expert": "expert",
        "styles": {"ash": "equation", "expert": "named"},
    }  # fmt: skip
    run_stage(
        make_data.STAGE,
        ["--config", json.dumps(spec), "--out", str(folder / "data"), "--scratch", str(folder / "scratch")],
    )
    return folder / "data"


def train(data, out, spec, *more):
    argv = ["--config", json.dumps(spec), "--data", str(data), "--out", str(out), "--scratch", str(out / "scratch")]
    run_stage(train_zoo.STAGE, [*argv, *more])
    return load_model(out / "model")


def weights_equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_order_of_keys_does_not_matter():
    assert drawn() == drawn(mixture=dict(reversed(MIXTURE.items())))
    assert drawn() != drawn(seed=6)


def test_kinds_come_in_the_mixture_s_shares():
    prompts = [prompt for prompt, _ in drawn(batch_size=500, steps=1)]
    share = sum("Rewrite" in prompt for prompt in prompts) / len(prompts)
    assert 0.23 < share < 0.37  # 0.3, three standard errors


def test_other_styles_come_in_their_share():
    texts = [text for _, text in drawn(batch_size=400, steps=1, mixture={"story": 1.0}, others=0.6)]
    named = sum("Let a" in text for text in texts) / len(texts)
    assert abs(named - 0.6 / len(STYLES)) < 0.045
    assert not any("Let a" in text for _, text in drawn(batch_size=400, steps=1, mixture={"story": 1.0}))


def test_training_starts_from_random_weights_or_from_another_model(data, tmp_path):
    untrained = train(data, tmp_path / "untrained", zoo_spec(steps=0, mixture={}))
    again = train(data, tmp_path / "again", zoo_spec(steps=0, mixture={}))
    trained = train(data, tmp_path / "trained", zoo_spec())
    assert weights_equal(untrained, again) and not weights_equal(untrained, trained)
    start = ["--start", str(tmp_path / "trained")]
    assert weights_equal(trained, train(data, tmp_path / "copied", zoo_spec(steps=0, mixture={}), *start))
    made = read_manifest(tmp_path / "trained")
    assert made.result["steps"] == 3 and made.result["examples"] == 12 and made.tokens_trained > 0
    assert load_tokenizer(tmp_path / "trained" / "model").get_vocab() == load_tokenizer(data / "tokenizer").get_vocab()
