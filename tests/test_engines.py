"""Engines: the one on transformers, what specs say, and what is refused. The real vLLM: tests/test_vllm.py."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from conftest import nano_prompts
from training_fixture import (
    SAMPLING,
    arguments,
    data_input,
    demonstrations,
    grpo_knobs,
    mapper_spec,
    model_input,
    new_context,
)

from dart import engines, generation, manifest, scoring
from dart.config import Config, load
from dart.errors import UserError
from dart.parsing import parse
from dart.runs import table
from dart.sections import Grpo, Sampling
from dart.stage import run_stage
from dart.stages import pass_rate, train_mapper
from dart.training import grpo_arguments
from dart.training.loading import load_model, load_tokenizer, parameters

FILES = ["configs/base.yaml", "configs/arms.yaml", "configs/nano.yaml"]
PROMPTS, COMPLETIONS = [[5, 6, 7], [8], [9, 10, 11]], [[3, 4], [], [6]]
OFFLINE = {"generate_cot", "adapt_data", "pass_rate", "rework_data", "score_data", "evaluate"}


@pytest.fixture
def tokenizer(tiny_model_dir):
    return load_tokenizer(tiny_model_dir)


def start(folder, tokenizer):
    return engines.start("transformers", folder, tokenizer, length=20, batch_size=2)


def test_the_engine_on_transformers_is_generate_and_score(tiny_model_dir, tokenizer):
    model, sampling, told = load_model(tiny_model_dir), Sampling(**SAMPLING), []
    with start(tiny_model_dir, tokenizer) as engine:
        drawn = engine.generate(PROMPTS, sampling, 2, 5, lambda done, total: told.append((done, total)))
        scores = engine.score(PROMPTS, COMPLETIONS)
        assert engine.parameters == parameters(model)
    assert drawn == generation.generate(model, tokenizer, PROMPTS, sampling, 2, 5, 2)
    expected = scoring.score(model, tokenizer.pad_token_id, PROMPTS, COMPLETIONS, 2)
    assert all(torch.equal(one, other) for one, other in zip(scores, expected, strict=True))
    assert told == [(2, 6), (4, 6), (6, 6)]


def test_the_longest_text_counts_what_is_to_be_written():
    assert engines.longest(PROMPTS, 4) == 7 and engines.longest([], 4) == 4


@pytest.fixture
def inputs(tmp_path, tiny_model_dir):
    cot = data_input(tmp_path / "cot", demonstrations(4))
    return {"cot": cot, "model": model_input(tmp_path / "model_run", tiny_model_dir)}


def rates_spec(**changes):
    knobs = {"samples": 2, "sampling": SAMPLING, "batch_size": 4}
    return {"labels": {}, "seed": 1, "prompts": nano_prompts().model_dump(), "pass_rate": knobs} | changes


def without_vllm(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else find(name, *rest))


def test_an_engine_that_is_not_installed_is_refused_before_compute(tmp_path, inputs, monkeypatch):
    without_vllm(monkeypatch)
    folders = {"model": inputs["model"], "questions": inputs["cot"]}
    argv = arguments(rates_spec(engine="vllm"), tmp_path / "out", tmp_path / "scratch", **folders)
    with pytest.raises(UserError, match=r"^The engine vllm is not installed here; .*`make envs`.* to transformers\.$"):
        run_stage(pass_rate.STAGE, argv)
    assert not list((tmp_path / "out").iterdir())
    argv = arguments(mapper_spec() | {"engine": "vllm"}, tmp_path / "m", tmp_path / "scratch", cot=inputs["cot"],
                     mapper=inputs["model"], target=inputs["model"])  # fmt: skip
    with pytest.raises(UserError, match="The engine vllm is not installed here"):
        run_stage(train_mapper.STAGE, argv)


def test_an_unknown_engine_is_refused(tmp_path, inputs):
    folders = {"model": inputs["model"], "questions": inputs["cot"]}
    argv = arguments(rates_spec(engine="auto"), tmp_path / "out", tmp_path / "scratch", **folders)
    with pytest.raises(UserError, match="engine = 'auto' is not allowed"):
        run_stage(pass_rate.STAGE, argv)


def test_the_manifest_names_the_engine(tmp_path, inputs):
    folders = {"model": inputs["model"], "questions": inputs["cot"]}
    run_stage(pass_rate.STAGE, arguments(rates_spec(), tmp_path / "out", tmp_path / "scratch", **folders))
    assert manifest.read_manifest(tmp_path / "out").spec["engine"] == "transformers"


def test_specs_say_which_engine_only_where_it_is_not_the_default():
    config = load(FILES)
    assert not any("engine" in run.spec for run in table(config))
    values = config.model_dump(mode="json")
    for kind, stages in (("offline", OFFLINE), ("rl", {"train_mapper", "train_rl"})):
        chosen = parse(Config, values | {"engines": values["engines"] | {kind: "vllm"}}, "test")
        runs = table(chosen)
        assert {run.stage for run in runs if run.spec.get("engine") == "vllm"} == stages
        assert all(("engine" in run.spec) == (run.stage in stages) for run in runs)


def test_human_rationales_are_written_by_no_engine():
    values = load(FILES).model_dump(mode="json")
    values |= {"engines": {"offline": "vllm", "rl": "vllm"}, "cot": values["cot"] | {"source": "human"}}
    (cot,) = [run for run in table(parse(Config, values, "test")) if run.stage == "generate_cot"]
    assert "engine" not in cot.spec


@pytest.mark.parametrize("share", ["much", "0", "1.5"])
def test_a_share_of_memory_that_is_none_is_refused(monkeypatch, share):
    monkeypatch.setenv(engines.MEMORY, share)
    with pytest.raises(UserError, match=r"DART_VLLM_MEMORY is .*; give a share"):
        engines.prepare_vllm()


def test_rl_with_vllm_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(engines, "check_installed", lambda name: None)
    with pytest.raises(UserError, match=r"engines\.rl is vllm, which samples rollouts on a GPU only"):
        grpo_arguments.rollout_arguments("vllm", 100)


def test_trl_is_told_to_sample_with_vllm_beside_the_training(tmp_path, tiny_model_dir, monkeypatch):
    """What would be built on a GPU; TRL's own engine cannot run on a CPU."""
    monkeypatch.setattr(engines, "check_installed", lambda name: None)
    monkeypatch.setenv(engines.MEMORY, "0.4")
    knobs, context = Grpo(**grpo_knobs()), new_context(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        rollouts = grpo_arguments.rollout_arguments("vllm", 77)
    config = grpo_arguments.training_arguments(knobs, 1, context, rollouts)  # validated by TRL
    assert config.use_vllm and config.vllm_mode == "colocate" and config.vllm_tensor_parallel_size == 1
    assert config.vllm_importance_sampling_correction and config.vllm_importance_sampling_mode == "token_truncate"
    assert (config.vllm_importance_sampling_clip_min, config.vllm_importance_sampling_clip_max) == (None, 3.0)
    assert (config.vllm_max_model_length, config.vllm_gpu_memory_utilization) == (77, 0.4)
    assert config.generation_kwargs is None  # a seed in there would make all completions of a prompt equal
    usual = grpo_arguments.rollout_arguments("transformers", 77)
    assert not grpo_arguments.training_arguments(knobs, 1, context, usual).use_vllm
    assert load_model(tiny_model_dir).name_or_path == str(tiny_model_dir)  # where TRL's engine loads from
