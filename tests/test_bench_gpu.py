"""The GPU benchmark as far as a CPU can test it: the true size, the report, the whole command with a tiny model."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from dart import bench_gpu
from dart.bench_inputs import TINY, TRUE, specs, tokenizer_of
from dart.training.loading import parameters


def test_the_true_size_is_that_of_qwen3_0_6b():
    size = TRUE.architecture
    config = Qwen3Config(
        vocab_size=TRUE.vocabulary,
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        assert parameters(Qwen3ForCausalLM(config)) == 596_049_920


@pytest.mark.parametrize("size", [TINY, TRUE], ids=["tiny", "true"])
def test_specs_are_valid_and_split_into_whole_parts(size):
    mapper, sft = specs(size, repetitions=2)
    grpo = mapper.mapper.grpo
    assert grpo.steps == 3 and grpo.prompts_per_step * grpo.completions_per_prompt % grpo.gradient_accumulation == 0
    assert sft.sft.batch_size % sft.sft.gradient_accumulation == 0


def test_the_tokenizer_fills_the_vocabulary():
    tokenizer = tokenizer_of(TINY)
    assert len(tokenizer) == TINY.vocabulary
    assert tokenizer("w3 w7", add_special_tokens=False)["input_ids"] == [8, 12]


def test_the_share_of_the_peak_needs_a_known_card(monkeypatch):
    steps = ([512.0, 256.0, 512.0], [1.0, 1.0, 2.0], [99e12] * 3, 2**30)
    assert bench_gpu.figure("SFT", *steps).peak_share is None  # no GPU, or none that is asked
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for card, share in (("NVIDIA H200", 99 / 989), ("Some Card 1", None)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda card=card: card)
        found = bench_gpu.figure("SFT", *steps)
        assert found.tokens_per_second == 256 and found.repetitions == 3
        assert found.peak_share == (share and pytest.approx(share))


def test_without_a_gpu_one_sentence_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu.main([]) == 2
    assert "sees no GPU here; try the command with --tiny" in capsys.readouterr().err


def test_the_command_runs_from_end_to_end(tmp_path, capsys):
    assert bench_gpu.main(["--tiny", "--repetitions", "2", "--out", str(tmp_path / "new" / "bench")]) == 0
    found = json.loads((tmp_path / "new" / "bench" / "bench.json").read_text())
    names = ["scoring in float32", "scoring in bfloat16", "SFT", "mapper RL: whole step", "mapper RL: sampling"]
    assert [one["name"] for one in found["figures"]] == names
    assert all(one["tokens_per_second"] > 0 and one["repetitions"] == 2 for one in found["figures"])
    assert 0 <= found["bfloat16_scoring_error"] < 0.1 and "torch" in found["versions"]
    text = (tmp_path / "new" / "bench" / "bench.md").read_text()
    assert text in capsys.readouterr().out and text.count("\n| ") == 2 + len(names)
