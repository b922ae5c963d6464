"""Attention without copies of shared keys: the same numbers as transformers' own, and the same gradients."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from dart import attention
from dart.training.loading import load_model


@pytest.fixture
def pair(tiny_model_dir):
    """The model as stages load it, and as transformers does; keys are shared by two heads each."""
    usual = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32, attn_implementation="sdpa").eval()
    ours = load_model(tiny_model_dir)
    assert ours.config._attn_implementation == attention.GROUPED
    assert ours.config.num_attention_heads == 2 * ours.config.num_key_value_heads
    return ours, usual


IDS = torch.randint(5, 60, (6, 20), generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[0] * pad + [1] * (20 - pad) for pad in (0, 1, 3, 7, 12, 19)])


@pytest.mark.parametrize("mask", [None, MASK])
def test_inference_is_the_same(pair, mask):
    with torch.inference_mode():
        ours, usual = (model(input_ids=IDS, attention_mask=mask) for model in pair)
        seen = torch.ones_like(IDS, dtype=torch.bool) if mask is None else mask.bool()
        assert torch.allclose(ours.logits[seen], usual.logits[seen], rtol=0, atol=1e-6)
        steps = [
            model(input_ids=IDS[:, :1], past_key_values=found.past_key_values).logits
            for model, found in zip(pair, (ours, usual), strict=True)
        ]
        assert torch.allclose(*steps, rtol=0, atol=1e-6)


def test_training_is_transformers_own_to_the_last_bit(pair):
    gradients = []
    for model in pair:
        model(input_ids=IDS, attention_mask=MASK, labels=IDS).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_keys_are_not_copied(pair, monkeypatch):
    seen = []
    kernel = attention.scaled_dot_product_attention

    def watched(query, key, *args, **kwargs):
        seen.append((query.shape[1], key.shape[1]))
        return kernel(query, key, *args, **kwargs)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", watched)
    with torch.inference_mode():
        pair[0](input_ids=IDS, attention_mask=MASK)
    assert seen and all(heads == 2 * shared for heads, shared in seen)
