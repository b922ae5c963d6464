"""The validated configuration: every knob, its type and its bounds; values live in ``configs/*.yaml``.

``load(paths)`` merges YAML files left to right and validates the result; an unknown key is refused with the
nearest known one. ``python -m dart.config`` writes ``configs/schemas/config.schema.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field

from dart.arms import Arm, Point, Sweep, points
from dart.errors import UserError
from dart.parsing import Count, Knobs, NonNegative, Positive, Share, merge, parse
from dart.sources import Data, HubModel

EngineName = Literal["transformers", "vllm"]


class Prompts(Knobs):
    """User turns put to a model; ``{question}`` and ``{cot}`` are filled in (figures 6-8 of the paper, own words).

    ``{form}`` is ``math_form`` or ``code_form``: how the response has to end.
    """

    solve: str
    rewrite: str
    bridge: str
    critique: str
    math_form: str = ""
    code_form: str = ""


class Sampling(Knobs):
    """How completions are drawn. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 switch truncation off."""

    temperature: NonNegative
    top_p: Share
    top_k: Annotated[int, Field(ge=0)]
    max_new_tokens: Count


class Engines(Knobs):
    """What writes and scores text (docs/engines.md).

    ``offline`` serves fixed models: CoT, rewrites, pass rates, scores, evaluation. ``rl`` serves the rollouts of
    training, where vLLM needs a GPU.
    """

    offline: EngineName
    rl: EngineName


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
    """``r = gate * align - sum_k weight_k * cheat_k`` and its variants (docs/method.md)."""

    align: Literal["mean_prob", "mean_logprob", "gain_over_original"]
    normalise: Literal["none", "group", "batch_minmax"]
    gate: Literal["multiplicative", "additive", "none"]
    gate_weight: NonNegative
    penalties: Penalties
    thresholds: Thresholds


class Grpo(Knobs):
    """Settings handed to TRL's ``GRPOTrainer``; a step takes prompts_per_step x completions_per_prompt rollouts."""

    steps: Annotated[int, Field(ge=0)]
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
    """Mapper RL: the policy ``start`` (a model of the zoo, or ``target``) is trained per target with ``reward``.

    ``trained_for``: ``next`` hands over what was made for the next target of the configuration's list (the first after
    the last). ``grpo.steps`` 0 rewrites with ``start`` as it is.
    """

    start: str
    trained_for: Literal["own", "next"]
    grpo: Grpo
    reward: Reward
    scoring_batch: Count


class Adapt(Knobs):
    """Adapted data: ``samples`` rewrites a demonstration, the best valid one kept.

    ``on_invalid`` is what becomes of a demonstration without a valid one: its original stays, it is dropped, or the
    best of the invalid rewrites is kept.
    """

    samples: Count
    on_invalid: Literal["keep_original", "drop", "keep_invalid"]
    sampling: Sampling
    batch_size: Count


class PassRate(Knobs):
    """Rollouts of a model on the training questions: ``samples`` a question."""

    samples: Count
    sampling: Sampling
    batch_size: Count


class Select(Knobs):
    """How demonstrations and questions are chosen.

    ``share`` of the demonstrations is kept by ``preferred``. By pass rate a question is hard in [0, ``hard_below``),
    medium in [``hard_below``, ``simple_from``) and simple in [``simple_from``, 1]. ``on_empty``: when nothing is left,
    the run stops, or all is kept (models that solve nothing, in a rehearsal).
    """

    share: Share
    hard_below: Share
    simple_from: Share
    on_empty: Literal["refuse", "keep_all"]


class Rework(Knobs):
    """The expert's bridge rewrites and critiques: ``attempts`` until the final answer verifies."""

    attempts: Count
    sampling: Sampling
    batch_size: Count


class Pear(Knobs):
    """PEAR's weights of tokens (2602.01058); see ``dart.training.pear``."""

    level: Literal["sequence", "block", "token"]
    block: Count
    gamma: Share
    delta_clip: tuple[float, float]
    log_weight_clip: tuple[float, float]
    normalise: Literal["none", "mean1"]


class Sft(Knobs):
    """Settings handed to TRL's ``SFTTrainer``; loss on completion tokens only, normalised over the global batch.

    At most ``examples`` demonstrations, drawn by the seed, are trained on. ``loss``: ``nll``, ``dft`` (2508.05629) or
    ``pear``.
    """

    loss: Literal["nll", "dft", "pear"]
    pear: Pear
    examples: Count
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
    """lm-eval over ``tasks`` (names of YAML files in ``configs/tasks``); greedy decoding.

    Averages and claims are over ``tasks``; ``further`` ones are evaluated and shown beside them. ``in_domain`` are the
    tasks of the training questions' kind, the others measure generalisation. ``checkpoints``: exported ones are
    evaluated as well, or the final model alone.
    """

    tasks: tuple[str, ...]
    further: tuple[str, ...] = ()
    in_domain: tuple[str, ...]
    checkpoints: Literal["all", "final"]
    batch_size: Count
    max_new_tokens: Count


class Analysis(Knobs):
    """Resampling behind the intervals of tables and figures."""

    bootstrap: Count
    confidence: Share
    seed: int


class Needs(Knobs):
    """What a run of a stage is given, on a cluster above all: GPUs, memory, CPUs, and minutes before it is ended."""

    gpu: Annotated[int, Field(ge=0)]
    mem_mb: Count
    cpus_per_task: Count
    runtime: Count


class Config(Knobs):
    """The whole configuration of one scale.

    Every arm is trained with ``seeds``; ``snakemake all`` also trains the main arms with ``main_seeds``. Sweeps are
    trained with ``sweep_seeds`` alone. ``extends``: the file that this one is an overlay on (the base and the arms
    always are). ``models`` come from the hub, ``zoo.models`` are trained by the DAG.
    """

    scale: str
    extends: str | None = None
    results: str
    environment: Literal["dart", "gpu"]
    resources: dict[str, Needs]
    targets: tuple[str, ...]
    expert: str
    seeds: tuple[int, ...]
    main_seeds: tuple[int, ...]
    sweep_seeds: tuple[int, ...]
    main_arms: tuple[str, ...]
    engines: Engines
    prompts: Prompts
    data: Data
    models: dict[str, HubModel] = {}
    zoo: Zoo
    cot: Cot
    mapper: Mapper
    adapt: Adapt
    pass_rate: PassRate
    select: Select
    rework: Rework
    sft: Sft
    rl: Grpo
    evaluate: Evaluate
    analysis: Analysis
    arms: dict[str, Arm]
    sweeps: dict[str, Sweep]

    def points(self, sweep: str) -> list[Point]:
        """Return every point of a sweep."""
        return points(sweep, self.sweeps[sweep], self.arms, self.model_dump(mode="json"))

    def every_arm(self) -> dict[str, Arm]:
        """Return the arms and those that the sweeps make: the main table's first, then group by group.

        Overlays may name an arm first, so that the order of the keys alone means nothing.
        """
        swept = {point.name: point.made for sweep in self.sweeps for point in self.points(sweep)}
        every = swept | self.arms
        first = {name: place for place, name in enumerate(self.main_arms)}
        groups = get_args(Arm.model_fields["group"].annotation)
        order = sorted(every, key=lambda name: (first.get(name, len(first)), groups.index(every[name].group)))
        return {name: every[name] for name in order}


def load(paths: Sequence[Path | str]) -> Config:
    """Merge YAML files left to right and validate; raises :class:`UserError` in one sentence."""
    merged: dict[str, Any] = {}
    for path in paths:
        overlay = _read(path)
        if "extends" in overlay:
            merged = merge(merged, _read(overlay["extends"]))
        merged = merge(merged, overlay)
    return parse(Config, merged, " + ".join(map(str, paths)))


def _read(path: Path | str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise UserError(f"The configuration file {path} does not exist; `ls configs` shows those that do.")
    return yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}


def main() -> int:
    """Write the JSON schema next to the configurations (a test keeps it in step)."""
    path = Path("configs/schemas/config.schema.json")
    path.write_text(json.dumps(Config.model_json_schema(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
