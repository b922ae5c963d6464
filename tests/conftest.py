"""Shared fixtures: a tiny untrained model with the nano world's tokenizer."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from dart.sections import Prompts


def nano_prompts() -> Prompts:
    """Prompts in the words of the nano tokenizer."""
    return Prompts(
        solve="{question}",
        rewrite="Rewrite. {question} Solution: {cot}",
        bridge="Explain. {question} Solution: {cot}",
        critique="Criticise. {question} Solution: {cot}",
    )


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: two-layer random Qwen3 (hidden 32) and the word tokenizer."""
    from dart.sections import Architecture
    from dart.world.tokenizer import word_tokenizer
    from dart.zoo_model import build_model

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = word_tokenizer(nano_prompts())
    architecture = Architecture(
        hidden_size=32,
        intermediate_size=64,
        layers=2,
        heads=2,
        kv_heads=1,
        head_dim=16,
        max_positions=512,
        rope_theta=1e4,
    )
    build_model(architecture, tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A finished study of known truth for the analysis: its root and all its manifests; not to be written to."""
    from tests.analysis_fixture import write_tree

    root = tmp_path_factory.mktemp("study")
    return root, write_tree(root)
