"""Models and tokenizers as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from dart import attention, processes
from dart.errors import UserError

logging.disable_progress_bar()  # a bar per saved or loaded weight file buries the stages' own progress lines


def device() -> torch.device:
    """Where models live: this process's GPU (the first where there is one process), else the CPU."""
    return torch.device("cuda", processes.local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def load_model(path: Path) -> PreTrainedModel:
    """Load a causal language model in float32 and evaluation mode onto :func:`device`.

    Float32 because a policy loaded in bfloat16 trains in bfloat16, where updates of 1e-6 vanish.
    """
    if not (path / "config.json").is_file():
        raise UserError(f"{path} holds no model (config.json is missing); run the stage that makes it first.")
    where = device()
    kind = attention.GROUPED if where.type == "cpu" else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation=kind)
    return model.to(where).eval()  # type: ignore[arg-type]


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer; one without an eos token, or whose padding would hide it, is refused."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise UserError(
            f"The tokenizer in {path} needs an eos token and a pad token other than it (else a model never learns to "
            "stop); set pad_token in its tokenizer_config.json."
        )
    return tokenizer


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a Hugging Face folder with the model's weights and its tokenizer; the main process does it for all."""
    if processes.rank():
        return
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def parameters(model: PreTrainedModel) -> int:
    """Number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
