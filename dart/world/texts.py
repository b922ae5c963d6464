"""Texts that the zoo is trained on: pairs of user turn and assistant turn, one kind per skill.

The kinds cover every prompt that an arm puts to a model: solving each family, rewriting a solution in another style
(the mapper's prompt), rewriting a raw trace for a smaller model (``bridge``) and criticising a wrong attempt
(``critique``).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from dart.sections import Prompts
from dart.world.problems import FAMILIES, Problem, Split, apply
from dart.world.problems import sample as sample_problem
from dart.world.styles import STYLES, render

KINDS = (*FAMILIES, "rewrite", "bridge", "critique")
LAZY = ("answer_only", "answer_first", "repeated", "question_copied", "step_dropped")
# A real model asked to rewrite is sometimes lazy. Without this mass the anti-cheating penalty has nothing to prevent.
LAZY_SHARE = 0.06


@dataclass(frozen=True)
class Pair:
    """One user turn and the assistant turn to be learnt."""

    prompt: str
    completion: str


def sample(kind: str, style: str, others: float, prompts: Prompts, rng: random.Random, split: Split = "zoo") -> Pair:
    """Draw a text of ``kind``; solutions are in ``style``, or with probability ``others`` in any of the six."""
    if kind in FAMILIES:
        problem = sample_problem(kind, rng, split)
        return Pair(prompts.solve.format(question=problem.question), render(problem, _style(style, others, rng)))
    problem = sample_problem(rng.choice(("story", "story", "long")), rng, split)
    if kind == "critique":
        return _critique(problem, _style(style, others, rng), prompts, rng)
    cot = render(problem, rng.choice(STYLES))
    prompt = getattr(prompts, kind).format(question=problem.question, cot=cot)
    if kind == "bridge":
        return Pair(prompt, render(problem, _style(style, others, rng)))
    if rng.random() < LAZY_SHARE:
        return Pair(prompt, lazy(problem, rng.choice(LAZY), rng))
    return Pair(prompt, render(problem, rng.choice(STYLES)))


def lazy(problem: Problem, way: str, rng: random.Random) -> str:
    """Rewrite a solution as a lazy or cheating model would; the final answer stays right."""
    end = f"#### {problem.answer}"
    style = rng.choice(STYLES)
    full = render(problem, style)
    body = full.removesuffix(f" {end}")
    match way:
        case "answer_only":
            return end
        case "answer_first":
            return f"{end}. {body}"  # the stop keeps the answer apart from a number that follows
        case "repeated":
            sentence = body.split(". ")[-1].removesuffix(".") + "."
            return " ".join([sentence] * rng.randint(4, 8)) + f" {end}"
        case "question_copied":
            return f"{problem.question} {end}"
        case "step_dropped":
            dropped = rng.randrange(len(problem.steps) - 1)
            kept = tuple(s for i, s in enumerate(problem.steps) if i != dropped)
            return render(Problem(problem.family, problem.question, kept[0].before, kept), style)
    raise ValueError(way)


def _style(style: str, others: float, rng: random.Random) -> str:
    return rng.choice(STYLES) if rng.random() < others else style


def _critique(problem: Problem, style: str, prompts: Prompts, rng: random.Random) -> Pair:
    """Diagnosis, repair and a new trace of an attempt that goes wrong at one step and carries the error on."""
    wrong_at = rng.randrange(len(problem.steps))
    value, steps = problem.start, []
    for index, step in enumerate(problem.steps):
        after = apply(value, step.operator, step.operand)
        after = after + rng.choice((1, 2, 10)) if index == wrong_at else after  # upwards: values stay positive
        steps.append(type(step)(value, step.operator, step.operand, after))
        value = after
    attempt = Problem(problem.family, problem.question, problem.start, tuple(steps))
    right = problem.steps[wrong_at]
    diagnosis = f"Step {wrong_at + 1} is wrong: {right.before} {right.operator} {right.operand} gives {right.after}."
    prompt = prompts.critique.format(question=problem.question, cot=render(attempt, style))
    return Pair(prompt, f"{diagnosis} {render(problem, style)}")
