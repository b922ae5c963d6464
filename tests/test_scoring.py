"""Target scoring against a naive loop, and its independence of batch size, order and padding."""

from __future__ import annotations

import random

import pytest
import torch

from dart import scoring
from dart.scoring import score
from dart.training.loading import load_model

ROWS = [(5, 3), (2, 11), (17, 1), (1, 6), (9, 9), (4, 0), (12, 20)]  # (prompt tokens, completion tokens)


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return load_model(tiny_model_dir)


@pytest.fixture(scope="module")
def rows(model):
    rng = random.Random(0)
    draw = lambda n: [rng.randrange(model.config.vocab_size) for _ in range(n)]  # noqa: E731
    return [(draw(p), draw(c)) for p, c in ROWS]


@torch.no_grad()
def naive(model, prompt, completion):
    """One forward pass a token: no padding, no batch, no selection of positions."""
    found = []
    for i, token in enumerate(completion):
        logits = model(torch.tensor([prompt + completion[:i]])).logits[0, -1]
        found.append(torch.log_softmax(logits.double(), -1)[token].item())
    return torch.tensor(found)


def scored(model, rows, batch_size=3, pad_id=0):
    return score(model, pad_id, [p for p, _ in rows], [c for _, c in rows], batch_size)


def test_matches_a_naive_loop_to_1e_5(model, rows):
    for (prompt, completion), logps in zip(rows, scored(model, rows), strict=True):
        assert logps.dtype == torch.float32 and logps.shape == (len(completion),)
        torch.testing.assert_close(logps, naive(model, prompt, completion).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_batch_size_order_and_pad_id_do_not_matter(model, rows, batch_size):
    expected = scored(model, rows)
    order = random.Random(batch_size).sample(range(len(rows)), len(rows))
    found = scored(model, [rows[i] for i in order], batch_size, pad_id=7)
    for i, logps in zip(order, found, strict=True):
        torch.testing.assert_close(logps, expected[i], atol=1e-5, rtol=0)


def test_logits_in_blocks_are_the_same(model, rows, monkeypatch):
    expected = scored(model, rows)
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 2 * model.config.vocab_size)  # two tokens at a time
    for logps, whole in zip(scored(model, rows), expected, strict=True):
        torch.testing.assert_close(logps, whole, atol=1e-6, rtol=0)


def test_a_model_in_training_mode_is_refused(model, rows):
    model.train()
    try:
        with pytest.raises(ValueError, match="evaluation mode"):
            scored(model, rows)
    finally:
        model.eval()
