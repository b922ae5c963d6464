"""Sampling: reproducible, blind to the model's own generation config, right about where a completion ends."""

from __future__ import annotations

import pytest
import torch

from dart.errors import UserError
from dart.generation import generate
from dart.sections import Sampling
from dart.training.loading import load_model, load_tokenizer

SAMPLING = Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=12)
GREEDY = SAMPLING.model_copy(update={"temperature": 0.0})
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [5, 9]]


@pytest.fixture
def model(tiny_model_dir):
    """The tiny model with larger weights: at their initial size its argmax hardly depends on the context."""
    model = load_model(tiny_model_dir)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0 if parameter.ndim > 1 else 1.0)
    return model


@pytest.fixture
def tokenizer(tiny_model_dir):
    return load_tokenizer(tiny_model_dir)


def draw(model, tokenizer, sampling=SAMPLING, samples=3, seed=1, batch_size=4):
    drawn = generate(model, tokenizer, PROMPTS, sampling, samples, seed, batch_size)
    return [[completion.ids for completion in group] for group in drawn]


def test_a_seed_gives_the_same_samples_and_leaves_the_global_state_alone(model, tokenizer):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = draw(model, tokenizer)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert draw(model, tokenizer) == first
    assert draw(model, tokenizer, seed=2) != first
    assert [len(group) for group in first] == [3] * len(PROMPTS)
    assert len({tuple(ids) for group in first for ids in group}) == 12  # samples of a prompt differ


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_greedy_is_the_argmax_whatever_the_padding(model, tokenizer, batch_size):
    for prompt, group in zip(PROMPTS, draw(model, tokenizer, GREEDY, 1, batch_size=batch_size), strict=True):
        ids = list(prompt)
        with torch.no_grad():
            while len(ids) < len(prompt) + 12 and ids[-1] != tokenizer.eos_token_id:
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert group == [ids[len(prompt) :]]


def test_the_models_own_generation_config_changes_nothing(model, tokenizer):
    expected = draw(model, tokenizer), draw(model, tokenizer, GREEDY)
    own = model.generation_config
    own.update(do_sample=False, temperature=0.1, top_k=1, top_p=0.1, min_p=0.9, repetition_penalty=9.0)
    own.update(no_repeat_ngram_size=2, suppress_tokens=list(range(20, 60)), min_new_tokens=12, max_new_tokens=2)
    assert (draw(model, tokenizer), draw(model, tokenizer, GREEDY)) == expected
    assert model.generation_config is own and own.top_k == 1


def test_truncation_of_the_distribution_is_applied(model, tokenizer):
    one = SAMPLING.model_copy(update={"top_k": 1})
    assert draw(model, tokenizer, one) == draw(model, tokenizer, GREEDY)
    nucleus = SAMPLING.model_copy(update={"top_p": 1e-6})
    assert draw(model, tokenizer, nucleus) == draw(model, tokenizer, GREEDY)


def test_a_completion_ends_with_its_first_turn_end(model, tokenizer):
    head = model.get_output_embeddings()
    model.lm_head = torch.nn.Linear(head.in_features, head.out_features)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.fill_(-1e9)
        model.lm_head.bias[[tokenizer.eos_token_id, 20]] = torch.tensor([0.0, 1.0])  # ends, or goes on
    groups = generate(model, tokenizer, PROMPTS, SAMPLING, 20, 3, 40)
    completions = [completion for group in groups for completion in group]
    assert {completion.truncated for completion in completions} == {True, False}
    for completion in completions:
        assert completion.truncated == (tokenizer.eos_token_id not in completion.ids)
        assert tokenizer.eos_token_id not in completion.ids[:-1]
        assert set(completion.ids) <= {20, tokenizer.eos_token_id}
        assert len(completion.ids) == 12 or not completion.truncated
        assert completion.text == tokenizer.decode([20] * completion.ids.count(20))


def test_a_completion_that_cannot_fit_is_refused(model, tokenizer):
    long = SAMPLING.model_copy(update={"max_new_tokens": 510})
    with pytest.raises(UserError, match="has 512 positions"):
        draw(model, tokenizer, long)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 16])
def test_samples_that_share_a_prompt_are_as_if_each_had_read_it(model, tokenizer, batch_size):
    alone = draw(model, tokenizer, GREEDY, samples=1, batch_size=1)
    shared = draw(model, tokenizer, GREEDY, samples=3, batch_size=batch_size)
    assert shared == [group * 3 for group in alone]


def test_a_prompt_is_read_once_for_all_its_samples_in_a_batch(model, tokenizer, monkeypatch):
    read = []
    forward = model.base_model.forward

    def watched(*args, **kwargs):
        read.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.base_model, "forward", watched)
    generate(model, tokenizer, [[5, 6, 7, 8]] * 1, SAMPLING, 6, 1, 6)
    assert read[0] == (1, 3)
    assert set(read[1:]) == {(6, 1)}
