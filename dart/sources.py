"""Knobs that say where data sets and models come from: the Hugging Face hub at a pinned revision, or local copies.

A revision is the 40 hex digits of a commit, so that nothing can change under a result. An empty one is yet to be looked
up: ``python -m dart.pin`` fills it in, and nothing runs before (``dart.pin.require``).
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator

from dart.parsing import Count, Knobs

DATA_FOLDER = "DART_DATA"  # environment variables that name folders with local copies
MODEL_FOLDER = "DART_MODELS"
Form = Literal["gsm8k", "math", "math500", "mbpp", "humaneval", "svamp", "multiarith", "mawps"]


class Pinned(Knobs):
    """A repository of the hub at one commit."""

    repo: str
    revision: str

    @field_validator("revision")
    @classmethod
    def _is_pinned(cls, revision: str) -> str:
        if not re.fullmatch(r"([0-9a-f]{40})?", revision):
            raise ValueError("a revision is pinned by the 40 hex digits of its commit, which the hub's page shows")
        return revision


class HubData(Pinned):
    """A split of a data set; ``file`` is its name in a local folder, ``form`` how its rows are read.

    ``split`` may join several with a plus sign (``train+test``), as the hub does.
    """

    config: str
    split: str
    file: str
    form: Form


class TrainSet(HubData):
    """A data set that ``size`` training questions are drawn from."""

    size: Count


class HubModel(Pinned):
    """A chat model.

    ``pad_token``: the token of its vocabulary that pads, where its tokenizer names none or pads with the turn end.
    ``vocabulary``: a name that models share whose token ids mean the same.
    """

    pad_token: str | None
    vocabulary: str


class Data(Knobs):
    """Questions: made by the nano world, or real ones drawn from ``train`` and ``benchmarks``.

    ``train_size`` questions of the world's in-domain family are trained on; of real ones each set says how many.
    ``validation_size`` is of each family or training set, ``benchmark_size`` of each benchmark (at most).
    """

    source: Literal["world", "real"]
    folder: str | None = None
    train_size: Count | None = None
    validation_size: Count
    benchmark_size: Count
    seed: int
    train: dict[str, TrainSet] = {}
    benchmarks: dict[str, HubData] = {}
