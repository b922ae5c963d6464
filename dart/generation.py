"""Sampling completions from a transformers model; stages use it through ``dart.engines``.

Built on ``transformers`` generate with every parameter given, so that no ``generation_config.json`` of a model can
change a result. Reproducible for a seed and batch size; the global random state is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from dart.engines import Completion, longest
from dart.errors import UserError
from dart.sections import Sampling


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    samples: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[list[Completion]]:
    """Return ``samples`` completions of every prompt, in the order of the prompts.

    Parameters
    ----------
    prompts : sequence of sequences of token ids
        Of unequal length: they are sorted by it and padded on the left.
    sampling : Sampling
        ``temperature`` 0 is greedy; all samples of a prompt are then equal.
    seed : int
        Decides the samples together with ``batch_size``.
    batch_size : int
        Completions drawn at once. Every row runs until the longest of its batch has ended; on one CPU thread 32 rows
        cost as little a token as 256 (measured, models of 0.5 M parameters), on a GPU more is faster.
    on_batch : callable, optional
        Told (completions done, completions in all) after every batch.

    Raises
    ------
    UserError
        When prompt and completion do not fit into the model's positions.
    """
    check_length(model.config, longest(prompts, sampling.max_new_tokens))
    rows = sorted((len(prompts[i]), i) for i in range(len(prompts)) for _ in range(samples))
    config = _generation_config(tokenizer, sampling)
    found: list[list[Completion]] = [[] for _ in prompts]
    with torch.random.fork_rng(), torch.inference_mode(), _own_defaults(model, config):
        torch.manual_seed(seed)
        for start in range(0, len(rows), batch_size):
            batch = [i for _, i in rows[start : start + batch_size]]
            for i, completion in zip(batch, _batch(model, tokenizer, [prompts[i] for i in batch], config), strict=True):
                found[i].append(completion)
            if on_batch is not None:
                on_batch(min(start + batch_size, len(rows)), len(rows))
    return found


def check_length(config: PreTrainedConfig, needed: int) -> None:
    """Refuse a text of ``needed`` tokens for which the model has too few positions."""
    if needed > config.max_position_embeddings:
        raise UserError(
            f"{config.name_or_path or 'The model'} has {config.max_position_embeddings} positions, but the longest "
            f"prompt and sampling.max_new_tokens need {needed}; lower max_new_tokens or take another model."
        )


def _generation_config(tokenizer: PreTrainedTokenizerBase, sampling: Sampling) -> GenerationConfig:
    sampled = sampling.temperature > 0
    truncation = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=sampled,
        **(truncation if sampled else {}),
        repetition_penalty=1.0,
        num_beams=1,
        num_return_sequences=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )


@contextmanager
def _own_defaults(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Hide the model's generation config: ``generate`` fills whatever a given one leaves open from there."""
    hidden, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = hidden


def _batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
) -> list[Completion]:
    """One completion a prompt; equal prompts stand together."""
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    ids_BT = torch.tensor([[config.pad_token_id] * pad + list(p) for p, pad in zip(prompts, padding, strict=True)])
    mask_BT = torch.tensor([[0] * pad + [1] * len(p) for p, pad in zip(prompts, padding, strict=True)])
    ids_BT, mask_BT = ids_BT.to(model.device), mask_BT.to(model.device)
    out_BT = model.generate(  # type: ignore[operator]
        input_ids=ids_BT,
        attention_mask=mask_BT,
        past_key_values=_read_once(model, ids_BT, mask_BT),
        generation_config=config,
    )
    rows = [_until_end(row, config.eos_token_id) for row in out_BT[:, width:].tolist()]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return [
        Completion(text, row, truncated=row[-1:] != [config.eos_token_id])
        for text, row in zip(texts, rows, strict=True)
    ]


def _read_once(model: PreTrainedModel, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> DynamicCache | None:
    """Cache of all but the last token of every prompt; one that several rows share is read once.

    ``generate`` would read it for every row, which costs more than what is written where prompts are longer than that.
    None where there is nothing to read, or to share.
    """
    one_UT, row_of_B = torch.unique_consecutive(ids_BT, dim=0, return_inverse=True)
    if len(one_UT) == len(ids_BT) or ids_BT.shape[1] == 1:
        return None
    first_U = torch.searchsorted(row_of_B, torch.arange(len(one_UT), device=row_of_B.device))
    mask_UT = mask_BT[first_U, :-1]
    cache = DynamicCache(config=model.config)
    model.base_model(
        input_ids=one_UT[:, :-1],
        attention_mask=mask_UT,
        position_ids=(mask_UT.cumsum(dim=1) - 1).clamp(min=0),  # as ``generate`` counts: padding has none
        past_key_values=cache,
        use_cache=True,
    )
    cache.batch_select_indices(row_of_B)
    return cache


def _until_end(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row
