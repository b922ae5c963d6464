"""The validated configuration: every knob, its type and its bounds; values live in ``configs/*.yaml``.

``load(paths)`` merges YAML files left to right and validates the result; an unknown key is refused with the
nearest known one. ``python -m dart.config`` writes ``configs/schemas/config.schema.json``.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dart.errors import UserError

T = TypeVar("T", bound="Knobs")
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Knobs(BaseModel):
    """A group of knobs: unknown keys are refused, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompts(Knobs):
    """User turns put to a model; ``{question}`` and ``{cot}`` are filled in (figures 6-8 of the paper, own words)."""

    solve: str
    rewrite: str
    bridge: str
    critique: str


class Sampling(Knobs):
    """How completions are drawn. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 switch truncation off."""

    temperature: NonNegative
    top_p: Share
    top_k: Annotated[int, Field(ge=0)]
    max_new_tokens: Count


class HubData(Knobs):
    """A data set on the Hugging Face hub, pinned; ``file`` is its name in a local data folder."""

    repo: str
    config: str
    split: str
    revision: str
    file: str

    @field_validator("revision")
    @classmethod
    def _is_pinned(cls, revision: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise ValueError("a revision is pinned by the 40 hex digits of its commit, which the hub's page shows")
        return revision


class Data(Knobs):
    """Questions: made by the nano world, or real ones (``train`` and ``benchmarks`` then name hub data)."""

    source: Literal["world", "real"]
    folder: str | None = None
    train_size: Count
    validation_size: Count
    benchmark_size: Count
    seed: int
    train: HubData | None = None
    benchmarks: dict[str, HubData] = {}


class Architecture(Knobs):
    """A ``Qwen3ForCausalLM``; sizes in units, embeddings tied."""

    hidden_size: Count
    intermediate_size: Count
    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    max_positions: Count
    rope_theta: Positive


class ZooModel(Knobs):
    """One model of the zoo: what it starts from, and the texts it is trained on.

    ``mixture`` weighs the kinds of ``dart.world.texts``; solutions are in ``style``, a share ``others`` in any style.
    """

    start: str | None
    style: str
    others: Share
    mixture: dict[str, NonNegative]
    steps: Annotated[int, Field(ge=0)]
    learning_rate: Positive
    seed: int


class Zoo(Knobs):
    """Models trained from scratch by the DAG; ``vocabulary`` is the size of a learnt byte-level BPE."""

    tokenizer: Literal["words", "bpe"]
    vocabulary: Count
    architecture: Architecture
    batch_size: Count
    gradient_accumulation: Count
    warmup: Share
    decay: Share
    adam_beta2: Share
    weight_decay: NonNegative
    max_grad_norm: Positive
    models: dict[str, ZooModel]


class Cot(Knobs):
    """Original CoT: written by the expert and kept when it verifies, or the data's human rationales."""

    source: Literal["expert", "human"]
    attempts: Count
    sampling: Sampling
    batch_size: Count


class Thresholds(Knobs):
    """When a cheat detector fires; see ``dart.reward.detectors`` for units."""

    length_band: tuple[NonNegative, Positive]
    repetition_ngram: Count
    repetition_share: Share
    copy_ngram: Count
    copy_share: Share
    reasoning_tokens: Annotated[int, Field(ge=0)]


class Penalties(Knobs):
    """Weight of each cheat detector in the reward; 0 logs it without penalising."""

    answer_first: NonNegative
    length: NonNegative
    repetition: NonNegative
    question_copy: NonNegative
    solution_reference: NonNegative
    missing_answer: NonNegative
    false_equation: NonNegative
    hard_coded: NonNegative


class Reward(Knobs):
    """``r = gate * align - sum_k weight_k * cheat_k`` and its variants (design of the harness, section 2)."""

    align: Literal["mean_prob", "mean_logprob", "gain_over_original"]
    normalise: Literal["none", "group", "batch_minmax"]
    gate: Literal["multiplicative", "additive", "none"]
    gate_weight: NonNegative
    penalties: Penalties
    thresholds: Thresholds


class Grpo(Knobs):
    """Settings handed to TRL's ``GRPOTrainer``; a step takes prompts_per_step x completions_per_prompt rollouts."""

    steps: Annotated[int, Field(ge=1)]
    prompts_per_step: Count
    completions_per_prompt: Annotated[int, Field(ge=2)]
    gradient_accumulation: Count
    learning_rate: Positive
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    max_grad_norm: Positive
    loss_type: Literal["dr_grpo", "dapo", "grpo", "bnpo"]
    scale_rewards: Literal["none", "group", "batch"]
    beta: NonNegative
    epsilon: Positive
    sampling: Sampling
    save_steps: Count
    export_at: tuple[Share, ...]


class Mapper(Knobs):
    """Mapper RL: the policy ``start`` is trained per target with ``reward``."""

    start: str
    grpo: Grpo
    reward: Reward
    scoring_batch: Count


class Adapt(Knobs):
    """Adapted data: ``samples`` rewrites a demonstration, the best valid one kept."""

    samples: Count
    on_invalid: Literal["keep_original", "drop"]
    sampling: Sampling
    batch_size: Count


class Sft(Knobs):
    """Settings handed to TRL's ``SFTTrainer``; loss on completion tokens only, normalised over the global batch."""

    epochs: Count
    batch_size: Count
    gradient_accumulation: Count
    learning_rate: Positive
    schedule: Literal["constant", "linear", "cosine"]
    warmup: Share
    weight_decay: NonNegative
    max_grad_norm: Positive
    save_steps: Count
    export_at: tuple[Share, ...]


class Evaluate(Knobs):
    """lm-eval over ``tasks`` (names of YAML files in ``configs/tasks``); greedy decoding."""

    tasks: tuple[str, ...]
    batch_size: Count
    max_new_tokens: Count


class Arm(Knobs):
    """A row of the tables: how a trained model is made out of a target.

    ``knobs`` is an overlay on the configuration for this arm alone: an ablation is an arm like another with knobs
    changed. It may change how the mapper is trained, how data are adapted and how the target is trained.
    """

    title: str
    trainer: Literal["none", "sft", "rl"]
    data: Literal["none", "original", "native", "adapted", "questions"]
    knobs: dict[Literal["mapper", "adapt", "sft", "rl"], dict[str, Any]] = {}


class Analysis(Knobs):
    """Resampling behind the intervals of tables and figures."""

    bootstrap: Count
    confidence: Share
    seed: int


class Config(Knobs):
    """The whole configuration of one scale."""

    scale: str
    results: str
    targets: tuple[str, ...]
    expert: str
    seeds: tuple[int, ...]
    main_arms: tuple[str, ...]
    prompts: Prompts
    data: Data
    zoo: Zoo
    cot: Cot
    mapper: Mapper
    adapt: Adapt
    sft: Sft
    rl: Grpo
    evaluate: Evaluate
    analysis: Analysis
    arms: dict[str, Arm]


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` updated by ``overlay``; nested mappings are merged, anything else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def load(paths: Sequence[Path | str]) -> Config:
    """Merge YAML files left to right and validate; raises :class:`UserError` in one sentence."""
    merged: dict[str, Any] = {}
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"The configuration file {path} does not exist; `ls configs` shows those that do.")
        merged = merge(merged, yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})
    return parse(Config, merged, " + ".join(map(str, paths)))


def parse(model: type[T], values: Mapping[str, Any], source: str) -> T:
    """Validate ``values``; the first problem becomes a sentence that names ``source``, the key and the cure."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(_sentence(model, error, source)) from None


def _sentence(model: type[Knobs], error: ValidationError, source: str) -> str:
    # An unknown key often causes a missing one as well: tell the cause first.
    first = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), sorted(_field_names(model)), n=1)
        hint = f"did you mean {near[0]}?" if near else "remove it."
        return f"{source}: {place} is not a known key; {hint}"
    if first["type"] == "missing":
        return f"{source}: {place} is missing; set it (configs/base.yaml shows how)."
    return f"{source}: {place} = {first['input']!r} is not allowed: {first['msg'].removeprefix('Value error, ')}."


def _field_names(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for definition in [model.model_json_schema(), *model.model_json_schema().get("$defs", {}).values()]:
        names |= set(definition.get("properties", {}))
    return names


def main() -> int:
    """Write the JSON schema next to the configurations (a test keeps it in step)."""
    path = Path("configs/schemas/config.schema.json")
    path.write_text(json.dumps(Config.model_json_schema(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
