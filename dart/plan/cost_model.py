"""From work to cost: FLOPs, seconds, memory and disk of a stage on a device. Pure; no run is looked at.

Work is counted in tokens and forward passes (``dart.plan.workload`` says how much of it a stage does). FLOPs follow the
ledger's own formula (``dart.stage.Context.count``): 2 x parameters for each generated or scored token, 6 x for each
trained one. The model and its errors: docs/planning.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from dart.errors import UserError
from dart.parsing import Knobs, Positive, Share, parse
from dart.sections import Architecture

DEVICES = Path(__file__).parents[2] / "configs" / "devices.yaml"
Kind = Literal["generate", "score", "train"]
FLOPS_PER_TOKEN: Mapping[Kind, float] = {"generate": 2.0, "score": 2.0, "train": 6.0}  # x parameters, as the ledger
PASSES = {"generate": 1, "score": 1, "train": 3}  # a backward pass starts about twice the forward pass's kernels

# Bytes a parameter in training: float32 weights, gradients and the two moments of Adam.
TRAINED_BYTES = 16
CHECKPOINT_BYTES = 12  # weights and moments
SAVED_BYTES = 4  # models are saved in float32
# Values that a backward pass keeps of every token and layer, in units of the hidden and of the intermediate size; and
# copies of the logits alive at once. Fitted to the peaks of nano and rehearsal.
KEPT_HIDDEN, KEPT_INTERMEDIATE, LOGITS = 24, 7, 9
# On disk, measured in nano: a manifest; a step's row of metrics and its mirror; a text as a JSON line (what surrounds
# it, and a token) and a token in a compressed table; a word of a tokenizer.
MANIFEST_BYTES, ROW_BYTES, RECORD_BYTES, TOKEN_BYTES, PACKED_BYTES, WORD_BYTES = 3_000, 1_000, 100, 3.4, 1.6, 60


class Device(Knobs):
    """What a device can do and how much of it is achieved; fields and units in ``configs/devices.yaml``."""

    title: str
    source: str
    status: Literal["measured", "assumed"]
    why: str
    peak_tflops: Positive
    bandwidth_gbs: Positive
    memory_gb: Positive
    generate: Share
    score: Share
    train: Share
    layer_seconds: float = Field(ge=0)
    text_seconds: float = Field(ge=0)
    load_seconds: float = Field(ge=0)
    start_seconds: float = Field(ge=0)
    weight_bytes: int
    activation_bytes: int
    base_gb: Positive


class Devices(Knobs):
    """``configs/devices.yaml``."""

    devices: dict[str, Device]


def devices(path: Path = DEVICES) -> dict[str, Device]:
    """Return the known devices by name."""
    return parse(Devices, yaml.safe_load(path.read_text(encoding="utf-8")), path.name).devices


def device(name: str) -> Device:
    """Return the device ``name``; an unknown one is a :class:`UserError` that names those known."""
    known = devices()
    if name not in known:
        raise UserError(f"There is no device {name!r}; configs/devices.yaml has {', '.join(known)}.")
    return known[name]


@dataclass(frozen=True)
class Size:
    """A model's size; ``cached`` is the width of a token's keys and values in one layer, both together.

    ``skilled``: it was trained, so that it ends its texts and solves questions; a random model does neither.
    """

    parameters: int
    vocabulary: int
    layers: int
    hidden: int
    intermediate: int
    cached: int
    skilled: bool = True

    @classmethod
    def built(cls, made: Architecture, vocabulary: int, skilled: bool) -> Size:
        """Size of a ``Qwen3ForCausalLM`` with tied embeddings (``dart.zoo_model``)."""
        queries, keys = made.heads * made.head_dim, made.kv_heads * made.head_dim
        attention = 2 * made.hidden_size * (queries + keys) + 2 * made.head_dim  # with the norms of queries and keys
        layer = attention + 3 * made.hidden_size * made.intermediate_size + 2 * made.hidden_size
        total = vocabulary * made.hidden_size + made.layers * layer + made.hidden_size
        return cls(total, vocabulary, made.layers, made.hidden_size, made.intermediate_size, 2 * keys, skilled)

    @classmethod
    def estimated(cls, parameters: int, vocabulary: int = 151_936, layers: int = 28) -> Size:
        """Size of a published model of which the number of parameters is known: Qwen3-0.6B's proportions.

        There a layer has about 15 x hidden^2 parameters, three hidden sizes in its feed-forward part, and as much cache
        for a token as two hidden sizes.
        """
        a, b = 15 * layers, vocabulary
        hidden = round((math.sqrt(b * b + 4 * a * parameters) - b) / (2 * a))
        return cls(parameters, vocabulary, layers, hidden, 3 * hidden, 2 * hidden)


@dataclass(frozen=True)
class Work:
    """One kind of work by one model.

    Attributes
    ----------
    kind : str
        ``generate`` (decoding steps alone), ``score`` (forward passes, those over prompts included) or ``train``.
    size : Size
        Of the model that does it.
    tokens, passes : float
        Tokens counted by the ledger, and forward passes of the model (decoding steps, batches).
    rows, width, predicted : float
        Of one pass, for memory: sequences, tokens of the widest, and tokens of it with logits.
    """

    kind: Kind
    size: Size
    tokens: float
    passes: float
    rows: float
    width: float
    predicted: float

    @property
    def flops(self) -> float:
        """FLOPs by the ledger's formula."""
        return FLOPS_PER_TOKEN[self.kind] * self.size.parameters * self.tokens

    @property
    def padded_flops(self) -> float:
        """FLOPs with padding: rows that have ended, and prompts and texts shorter than the widest, are computed too."""
        tokens = self.passes * self.rows * (1 if self.kind == "generate" else self.width)
        return FLOPS_PER_TOKEN[self.kind] * self.size.parameters * tokens


@dataclass(frozen=True)
class Load:
    """What one run of a stage does, whatever the device.

    Attributes
    ----------
    work : tuple of Work
        By kind and model.
    frozen, trained : tuple of Size
        Models held in memory.
    texts : float
        Texts that the host makes, tokenises or grades.
    saved : float
        Models written (exported checkpoints included) of the size ``trained[0]``.
    rows : float
        Rows of metrics.
    records, record_tokens, packed_tokens : float
        Texts written as JSON lines and their tokens; tokens written in compressed tables.
    """

    work: tuple[Work, ...] = ()
    frozen: tuple[Size, ...] = ()
    trained: tuple[Size, ...] = ()
    texts: float = 0.0
    saved: float = 0.0
    rows: float = 0.0
    records: float = 0.0
    record_tokens: float = 0.0
    packed_tokens: float = 0.0

    def tokens(self, kind: Kind) -> float:
        """Tokens of a kind."""
        return sum(work.tokens for work in self.work if work.kind == kind)

    @property
    def flops(self) -> float:
        """FLOPs by the ledger's formula."""
        return sum(work.flops for work in self.work)


def seconds(load: Load, on: Device) -> float:
    """Seconds of a run's own compute, as its manifest would say (start of the process excluded)."""
    parts = basis(load, on)
    achieved = {kind: parts[kind] / getattr(on, kind) for kind in FLOPS_PER_TOKEN}
    loaded = on.load_seconds if load.frozen or load.trained else 0.0
    return loaded + on.text_seconds * load.texts + on.layer_seconds * parts["layers"] + sum(achieved.values())


def basis(load: Load, on: Device) -> dict[str, float]:
    """Return what the seconds are made of: layers started, and the seconds of each kind of work at the device's peak.

    Sampling is bound by arithmetic, or by reading weights and cache at every step, whichever takes longer at the peak.
    """
    parts: dict[str, float] = dict.fromkeys(("layers", *FLOPS_PER_TOKEN), 0.0)
    for work in load.work:
        parts["layers"] += PASSES[work.kind] * work.passes * work.size.layers
        at_peak = work.padded_flops / (on.peak_tflops * 1e12)
        if work.kind == "generate":
            read = work.passes * on.weight_bytes * (work.size.parameters + _cached(work))
            at_peak = max(at_peak, read / (on.bandwidth_gbs * 1e9))
        parts[work.kind] += at_peak
    return parts


def _cached(work: Work) -> float:
    """Values of keys and values that a pass holds."""
    return work.rows * work.width * work.size.layers * work.size.cached


def memory(load: Load, on: Device) -> float:
    """Peak bytes on the device (on a CPU: of the process): models, optimiser, and the largest piece of work."""
    models = on.weight_bytes * sum(size.parameters for size in load.frozen)
    models += TRAINED_BYTES * sum(size.parameters for size in load.trained)
    return on.base_gb * 1e9 + models + max((_work_memory(work, on) for work in load.work), default=0.0)


def _work_memory(work: Work, on: Device) -> float:
    """Activations kept for the backward pass, or the cache of keys and values; and logits."""
    size, tokens = work.size, work.rows * work.width
    if work.kind == "train":
        kept = size.layers * (KEPT_HIDDEN * size.hidden + KEPT_INTERMEDIATE * size.intermediate)
        logits = LOGITS * 4 * work.rows * work.predicted * size.vocabulary
        return on.activation_bytes * tokens * kept + logits
    cache = on.weight_bytes * _cached(work) if work.kind == "generate" else 0.0
    logits = 2 * 4 * min(work.rows * work.predicted * size.vocabulary, 2**26)  # scoring takes logits block by block
    return cache + logits


def disk(load: Load) -> float:
    """Bytes that a finished run leaves."""
    size = load.trained[0] if load.trained else None
    model = SAVED_BYTES * size.parameters + WORD_BYTES * size.vocabulary if size else 0.0
    texts = RECORD_BYTES * load.records + TOKEN_BYTES * load.record_tokens + PACKED_BYTES * load.packed_tokens
    return MANIFEST_BYTES + load.saved * model + ROW_BYTES * load.rows + texts


def scratch(load: Load) -> float:
    """Bytes of checkpoints while a run trains: the last one, and the next being written."""
    return 2 * CHECKPOINT_BYTES * sum(size.parameters for size in load.trained)
