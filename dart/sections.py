"""The sections of the configuration, each with its knobs: types, bounds, meaning. Stages take them in their specs.

Values are in ``configs/*.yaml``; why each is what it is, in ``configs/knobs.yaml``. The sections on data and models of
the hub are in ``dart.sources``, those on arms and sweeps in ``dart.arms``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dart.parsing import Count, Knobs, NonNegative, Positive, Share

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
