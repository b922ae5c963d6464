"""Engines: what writes and scores text with a fixed model, behind one small interface.

Two are kept: Hugging Face transformers, which runs everywhere, and vLLM, which is fast on GPUs. A run's spec says which
one it uses; nothing is chosen at run time, so that a manifest tells what ran. docs/engines.md says how they differ.

    with engines.start(spec.engine, folder, tokenizer, engines.longest(prompts, sampling.max_new_tokens), 32) as engine:
        completions = engine.generate(prompts, sampling, samples=4, seed=1)
"""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dart.errors import UserError
from dart.sections import EngineName, Sampling

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

MEMORY = "DART_VLLM_MEMORY"
# They hold for TRL's engine as well, and are read when vLLM starts; a user's own setting wins.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",  # talk to nobody
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process: a deterministic schedule, and nothing outlives a kill
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # stages run side by side: OMP_NUM_THREADS counts, no core is claimed
}


@dataclass(frozen=True)
class Completion:
    """One sampled completion.

    Attributes
    ----------
    text : str
        Decoded without special tokens.
    ids : list of int
        Sampled ids, the turn end included when it was reached; padding is not.
    truncated : bool
        Whether the token limit came before the turn end.
    """

    text: str
    ids: list[int]
    truncated: bool


class Engine(ABC):
    """A fixed model that writes and scores token ids; used in a ``with`` block, which frees its memory.

    Attributes
    ----------
    parameters : int
        Of the model; tied ones count once.
    """

    parameters: int

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        samples: int,
        seed: int,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> list[list[Completion]]:
        """Return ``samples`` completions of every prompt, in the order of the prompts.

        Parameters
        ----------
        sampling : Sampling
            ``temperature`` 0 is greedy; all samples of a prompt are then equal.
        seed : int
            Decides the samples; the streams of two engines have nothing in common.
        on_batch : callable, optional
            Told (completions done, completions in all) now and then, and at the end.
        """

    @abstractmethod
    def score(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Return the log-probability of every completion token given its prompt and the tokens before it.

        Natural logarithm, at temperature 1; one float32 tensor on the CPU a row, as long as its completion. Prompts
        hold at least one token.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the memory; the engine cannot be used after."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(name: EngineName, folder: Path, tokenizer: PreTrainedTokenizerBase, length: int, batch_size: int) -> Engine:
    """Start an engine on the model in ``folder``.

    Parameters
    ----------
    length : int
        Tokens of the longest text, those to be written included (:func:`longest`).
    batch_size : int
        Rows at once with transformers; vLLM batches by itself.

    Raises
    ------
    UserError
        When the engine is not installed, or the text does not fit into the model's positions.
    """
    check_installed(name)
    # Imported here: one of the two engines loads a large library, and torch is not needed to read a configuration.
    if name == "vllm":
        share = prepare_vllm()  # before vLLM is imported, which reads some of the variables
        from dart.engines.vllm_engine import VllmEngine

        return VllmEngine(folder, tokenizer, length, share)
    from dart.engines.transformers_engine import TransformersEngine

    return TransformersEngine(folder, tokenizer, batch_size)


def longest(texts: Sequence[Sequence[int]], new_tokens: int) -> int:
    """Tokens of the longest text with ``new_tokens`` written after it; scoring writes one."""
    return max(map(len, texts), default=0) + new_tokens


def check_installed(name: EngineName) -> None:
    """Refuse an engine that is not installed; transformers always is."""
    if name == "vllm" and importlib.util.find_spec("vllm") is None:
        raise UserError(
            "The engine vllm is not installed here; run this stage in the GPU environment (`make envs` sets it up), or "
            "set engines.offline and engines.rl to transformers."
        )


def prepare_vllm() -> float:
    """Set vLLM's environment variables; returns the share of the GPU's memory that it may take.

    ``DART_VLLM_MEMORY``, else 0.3: a model scores or is trained beside it. It changes speed, not results.
    """
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    given = os.environ.get(MEMORY, "0.3")
    try:
        share = float(given)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UserError(f"{MEMORY} is {given!r}; give a share of the GPU's memory, such as 0.3.")
    return share
