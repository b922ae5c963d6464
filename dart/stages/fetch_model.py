"""Fetch one chat model at its pinned revision, from a local copy or the Hugging Face hub, and make it ready for use.

``python -m dart.stages.fetch_model --config SPEC --out DIR --scratch DIR``

The local copy is the folder ``<name>`` in the one that ``DART_MODELS`` names (``Qwen3-0.6B`` for ``Qwen/Qwen3-0.6B``).
Weights stay as they are, in their own precision. Three things are changed, as each would make runs differ unseen: the
pad token is not the turn end, the model's own sampling defaults are dropped, and a chat template that tells the day's
date tells a fixed one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from dart import chat, hub
from dart.errors import UserError
from dart.sources import MODEL_FOLDER, Pinned
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.loading import parameters, save_model

FILES = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]
DATE = "26 Jul 2024"  # Llama 3.2's own fallback where its template cannot ask for the day
QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]


class FetchModelSpec(Spec):
    """See ``dart.sources.HubModel`` for the fields."""

    repo: str
    revision: str
    pad_token: str | None


def run(spec: FetchModelSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Write ``model/``: a Hugging Face folder with its tokenizer; returns where it came from, hashes and size."""
    where = Pinned(repo=spec.repo, revision=spec.revision)
    folder, source = find(where)
    files = _files(folder, where)
    check_space(sum(path.stat().st_size for path in files), context.out)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} holds no usable copy of {spec.repo} ({reason}); fetch it again.") from None
    prepare_tokenizer(tokenizer, spec)
    check_agreement(model, tokenizer, spec.repo)
    prepare_model(model, tokenizer)
    save_model(model, tokenizer, context.out / "model")
    return {
        "source": source,
        "files": {path.name: _sha256(path) for path in files},
        "parameters": parameters(model),
        "precision": str(model.dtype).removeprefix("torch."),
        "pad_token": tokenizer.pad_token,
    }


def find(where: Pinned) -> tuple[Path, str]:
    """Return the folder with the model's files, and where they came from.

    Raises
    ------
    UserError
        When the local copy or the hub's is missing, gated, unpinned or does not fit on the disk.
    """
    local, name = os.environ.get(MODEL_FOLDER), where.repo.rpartition("/")[2]
    if local:
        folder = Path(local) / name
        if not folder.is_dir():
            raise UserError(f"{MODEL_FOLDER} names {local}, which lacks the folder {name}; add it, or unset it.")
        return folder, str(folder)
    hub.refuse_unpinned(where)
    try:
        cached = snapshot_download(where.repo, revision=where.revision, allow_patterns=FILES)
    except hub.ERRORS as error:
        instead = f"set {MODEL_FOLDER} to a folder with {name}"
        raise UserError(hub.sentence(error, where, instead)) from None
    return Path(cached), f"hub {where.repo} at {where.revision}"


def check_space(needed: int, folder: Path) -> None:
    """Refuse to write ``needed`` bytes to a disk that has not as many."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} is on a disk with {free / 1e9:.1f} GB free, and the model takes {needed / 1e9:.1f} GB; free "
            "space, or put results elsewhere (--config results=...)."
        )


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, spec: FetchModelSpec) -> None:
    """Give the tokenizer its pad token, and a chat template whose text does not depend on the day."""
    if spec.pad_token is not None:
        if spec.pad_token not in tokenizer.get_vocab():
            raise UserError(
                f"models: {spec.repo} has no token {spec.pad_token!r} to pad with; name one of its reserved ones."
            )
        tokenizer.pad_token = spec.pad_token
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise UserError(
            f"models: the tokenizer of {spec.repo} has no pad token of its own; set pad_token to one of its reserved "
            "tokens (else a model never learns to stop)."
        )
    if tokenizer.chat_template and "strftime_now" in tokenizer.chat_template:
        tokenizer.chat_template = f'{{%- set date_string = "{DATE}" %}}' + tokenizer.chat_template


def check_agreement(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, repo: str) -> None:
    """Refuse a tokenizer that is not the model's, or whose chat format cannot be trained on (``dart.chat``)."""
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    if max(tokenizer.get_vocab().values()) >= rows:
        raise UserError(f"{repo}: its tokenizer has ids beyond the model's {rows} embeddings; fetch both anew.")
    ends = model.config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    if tokenizer.eos_token_id not in ends:
        raise UserError(
            f"{repo}: its tokenizer ends a turn with id {tokenizer.eos_token_id}, the model with {ends}; it is no chat "
            "model, or its files are of two versions."
        )
    chat.completion_ids(tokenizer, QUESTION, "4")


def prepare_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set the model's special tokens to the tokenizer's and drop its own sampling defaults (such as Qwen's top_k)."""
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.config.update(tokens)
    model.generation_config = GenerationConfig(**tokens, bos_token_id=tokenizer.bos_token_id)


def _files(folder: Path, where: Pinned) -> list[Path]:
    found = sorted({path for pattern in FILES for path in folder.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in found):
        raise UserError(f"{folder} has no *.safetensors, the weights of {where.repo}; choose another revision.")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


STAGE = Stage("fetch_model", 1, FetchModelSpec, {}, run)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
