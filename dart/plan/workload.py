"""What a run will do, told from the table of runs alone: its tokens, forward passes, texts and models.

The counts are the ledger's: prompts of sampled texts are scored tokens, except in RL, where prompt and completion are
trained on (and the prompts' first pass is not counted).
"""

from __future__ import annotations

import math
from typing import Any, TypedDict

from dart.plan.cost_model import Load, Size, Work
from dart.plan.expected import Expected
from dart.recipes import COT, Run
from dart.runs import VALIDATION
from dart.training.steps import export_steps

WIDEST = 1.2  # longest prompt, or supervised text, of a training batch over the mean (measured in nano)
MAPPER_ROWS = 2.5  # a row of the mapper's metrics also holds the reward's components
LOGPROB = 2.2  # a log-probability in a table takes the place of so many packed tokens (measured)


def load(run: Run, expected: Expected) -> Load:
    """Return what ``run`` does; a stage without a cost is a ``ValueError``."""
    match run.stage:
        case "make_data":
            return _make_data(expected)
        case "fetch_model":
            return Load(trained=(expected.size(run.folder),), saved=1)
        case "train_zoo":
            return _train_zoo(run, expected)
        case "generate_cot":
            return _generate_cot(run, expected)
        case "train_mapper":
            return _train_mapper(run, expected)
        case "adapt_data":
            return _adapt_data(run, expected)
        case "pass_rate":
            return _pass_rate(run, expected)
        case "score_data":
            return _score_data(run, expected)
        case "select_data":
            return Load(**_records(run, expected))
        case "rework_data":
            return _rework_data(run, expected)
        case "train_sft":
            return _train_sft(run, expected)
        case "train_rl":
            return _train_rl(run, expected)
        case "evaluate":
            return _evaluate(run, expected)
    raise ValueError(
        f"dart.plan.workload tells no cost of the stage {run.stage}; add one, and a line to docs/planning.md."
    )


def _make_data(expected: Expected) -> Load:
    data, styles = expected.made["data"], expected.made["styles"]
    sets = 1 + len(styles) if data["source"] == "world" else 1  # native demonstrations for every model
    records = sets * expected.asked + sum(map(expected.questions, (VALIDATION, *expected.benchmarks())))
    text = expected.tokens("question") + expected.tokens("original")
    return Load(texts=records, records=records, record_tokens=records * text)


def _train_zoo(run: Run, expected: Expected) -> Load:
    spec, size = run.spec, expected.size(run.folder)
    texts, weights = spec["steps"] * spec["batch_size"], spec["mixture"]
    if not texts:
        return Load(trained=(size,), saved=1)
    mean = sum(expected.known.zoo[kind] * weight for kind, weight in weights.items()) / sum(weights.values())
    work = _supervised(size, texts, mean, spec["batch_size"], spec["gradient_accumulation"])
    return Load((work,), trained=(size,), texts=texts, saved=1, rows=spec["steps"])


def _generate_cot(run: Run, expected: Expected) -> Load:
    asked, cot = expected.asked, run.spec["cot"]
    if cot["source"] == "human":
        return Load(texts=asked, **_records(run, expected))
    size = expected.size(run.inputs["model"])
    samples = asked * expected.attempts(cot["attempts"], size)[0]
    completion = expected.completion(size, "attempt", cot["sampling"]["max_new_tokens"])
    work = _sample(size, samples, expected.tokens("question"), completion, cot, expected)
    return Load(work, frozen=(size,), texts=samples, **_records(run, expected))


def _train_mapper(run: Run, expected: Expected) -> Load:
    knobs, target, size = run.spec["mapper"], expected.size(run.inputs["target"]), expected.size(run.folder)
    grpo, question = knobs["grpo"], expected.tokens("question")
    completion = expected.completion(size, "rewrite", grpo["sampling"]["max_new_tokens"])
    rollouts = grpo["steps"] * grpo["prompts_per_step"] * grpo["completions_per_prompt"]
    texts = rollouts * (expected.known.distinct_rollouts if size.skilled else 1.0)
    scored = texts * (question + completion)
    if knobs["reward"]["align"] == "gain_over_original":
        seen = min(rollouts / grpo["completions_per_prompt"], expected.demonstrations(COT)[0])
        texts, scored = texts + seen, scored + seen * (question + expected.tokens("original"))
    work = (
        *_reinforced(size, grpo, expected.rewrite_prompt(), completion, expected),
        _score(target, texts, scored / texts, knobs["scoring_batch"]),
    )
    saved = 1 + len(export_steps(grpo["export_at"], grpo["steps"]))
    rows, packed = MAPPER_ROWS * grpo["steps"], rollouts * completion
    return Load(work, (target,), (size,), rollouts, saved, rows, packed_tokens=packed)


def _adapt_data(run: Run, expected: Expected) -> Load:
    knobs, target, size = run.spec["adapt"], expected.size(run.inputs["target"]), expected.size(run.inputs["mapper"])
    (asked, original), question = expected.demonstrations(COT), expected.tokens("question")
    samples = asked * knobs["samples"]
    completion = expected.completion(size, "rewrite", knobs["sampling"]["max_new_tokens"])
    texts = samples * (expected.known.distinct if size.skilled else 1.0)
    scored = texts * (question + completion) + asked * (question + original)
    work = (
        *_sample(size, samples, expected.rewrite_prompt(), completion, knobs, expected, knobs["samples"]),
        _score(target, texts + asked, scored / (texts + asked), run.spec["scoring_batch"]),
    )
    return Load(work, (size, target), texts=samples, packed_tokens=samples * completion, **_records(run, expected))


def _pass_rate(run: Run, expected: Expected) -> Load:
    knobs, size = run.spec["pass_rate"], expected.size(run.inputs["model"])
    texts = expected.demonstrations(run.inputs["questions"])[0] * knobs["samples"]
    completion = expected.completion(size, "answer", knobs["sampling"]["max_new_tokens"])
    work = _sample(size, texts, expected.tokens("question"), completion, knobs, expected, knobs["samples"])
    return Load(work, (size,), texts=texts, packed_tokens=texts * completion)


def _score_data(run: Run, expected: Expected) -> Load:
    size, (count, tokens) = expected.size(run.inputs["model"]), expected.demonstrations(run.inputs["data"])
    work = _score(size, count, expected.tokens("question") + tokens, run.spec["scoring_batch"])
    return Load((work,), (size,), texts=count, packed_tokens=LOGPROB * count * tokens)


def _rework_data(run: Run, expected: Expected) -> Load:
    knobs, size = run.spec["rework"], expected.size(run.inputs["model"])
    hard = expected.demonstrations(run.inputs["data"])[0] * expected.difficulty(run.inputs["rollouts"])[0]
    samples = hard * expected.attempts(knobs["attempts"], size)[0]
    completion = expected.completion(size, "bridge", knobs["sampling"]["max_new_tokens"])
    work = _sample(size, samples, expected.rewrite_prompt(), completion, knobs, expected)
    return Load(work, (size,), texts=samples, **_records(run, expected))


def _train_sft(run: Run, expected: Expected) -> Load:
    sft, size = run.spec["sft"], expected.size(run.folder)
    count, tokens = expected.demonstrations(run.inputs["data"])
    texts = min(round(count), sft["examples"]) * sft["epochs"]
    steps = math.ceil(texts / sft["batch_size"])
    mean = expected.tokens("question") + tokens
    work = _supervised(size, texts, mean, sft["batch_size"], sft["gradient_accumulation"])
    return Load((work,), (), (size,), texts, 1 + len(export_steps(sft["export_at"], steps)), steps)


def _train_rl(run: Run, expected: Expected) -> Load:
    grpo, size = run.spec["rl"], expected.size(run.folder)
    completion = expected.completion(size, "answer", grpo["sampling"]["max_new_tokens"])
    rollouts = grpo["steps"] * grpo["prompts_per_step"] * grpo["completions_per_prompt"]
    work = _reinforced(size, grpo, expected.tokens("question"), completion, expected)
    saved = 1 + len(export_steps(grpo["export_at"], grpo["steps"]))
    return Load(work, (), (size,), rollouts, saved, grpo["steps"], packed_tokens=rollouts * completion)


def _evaluate(run: Run, expected: Expected) -> Load:
    knobs, size = run.spec["evaluate"], expected.size(run.inputs["run"])
    models = load(expected.runs[run.inputs["run"]], expected).saved if knobs["checkpoints"] == "all" else 1
    greedy = {"sampling": {"max_new_tokens": knobs["max_new_tokens"]}, "batch_size": knobs["batch_size"]}
    work: list[Work] = []
    texts = 0.0
    for task in (*knobs["tasks"], *knobs.get("further", ())):
        known, asked = expected.benchmark(task), models * expected.questions(task)
        answer = known.answer * expected.tokens_per_unit
        answer = min(answer, knobs["max_new_tokens"]) if size.skilled else knobs["max_new_tokens"]
        work += _sample(size, asked, known.prompt * expected.tokens_per_unit, answer, greedy, expected)
        texts += asked
    packed = sum(one.tokens for one in work if one.kind == "generate")
    return Load(tuple(work), (size,), texts=texts, rows=models, packed_tokens=packed)


class _Records(TypedDict):
    records: float
    record_tokens: float


def _records(run: Run, expected: Expected) -> _Records:
    """Demonstrations that the run writes, as fields of :class:`Load`."""
    count, tokens = expected.demonstrations(run.folder)
    return {"records": count, "record_tokens": count * (expected.tokens("question") + tokens)}


def _longest(completion: float, most: int, expected: Expected) -> float:
    """Decoding steps of a batch: until its longest completion has ended."""
    return min(most, expected.known.longest * completion)


def _sample(
    size: Size,
    texts: float,
    prompt: float,
    completion: float,
    knobs: dict[str, Any],
    expected: Expected,
    shared: int = 1,
) -> tuple[Work, Work]:
    """Sampling in batches (``dart.generation``): decoding, and the pass over the prompts, ``shared`` by so many."""
    longest = _longest(completion, knobs["sampling"]["max_new_tokens"], expected)
    batches, rows = math.ceil(texts / knobs["batch_size"]), min(texts, knobs["batch_size"])
    decoding = Work("generate", size, texts * completion, batches * longest, rows, prompt + longest, 1)
    return decoding, Work("score", size, texts / shared * prompt, batches, rows / shared, prompt, 1)


def _score(size: Size, texts: float, mean: float, batch: int) -> Work:
    """Log-probabilities of given texts (``dart.scoring``)."""
    return Work("score", size, texts * mean, math.ceil(texts / batch), min(texts, batch), mean, mean)


def _supervised(size: Size, texts: float, mean: float, batch: int, parts: int) -> Work:
    """Supervised training (``dart.training.supervised``); a batch is split into ``parts``."""
    passes, widest = parts * math.ceil(texts / batch), WIDEST * mean
    return Work("train", size, texts * mean, passes, batch / parts, widest, widest)


def _reinforced(
    size: Size, grpo: dict[str, Any], prompt: float, completion: float, expected: Expected
) -> tuple[Work, Work]:
    """Sampling and training of all steps (``dart.training.grpo``); a step's completions are sampled in one batch."""
    steps, rows = grpo["steps"], grpo["prompts_per_step"] * grpo["completions_per_prompt"]
    longest = _longest(completion, grpo["sampling"]["max_new_tokens"], expected)
    parts, width = grpo["gradient_accumulation"], WIDEST * prompt + longest
    texts = steps * rows
    return (
        Work("generate", size, texts * completion, steps * longest, rows, width, 1),
        Work("train", size, texts * (prompt + completion), steps * parts, rows / parts, width, longest),
    )
