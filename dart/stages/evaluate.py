"""Evaluate a run with lm-eval: the final model, and its exported checkpoints if wanted, on every task, greedily.

    python -m dart.stages.evaluate --config SPEC --run results/nano/runs/ash-dart-s1 --data results/nano/data \
        --out results/nano/scores/ash-dart-s1 --scratch SCRATCH

Writes ``scores.json`` (one entry a checkpoint and task) and ``samples.parquet`` (one row a checkpoint and question).
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import lm_eval
import lm_eval.api.task
import pandas as pd
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from transformers import PreTrainedTokenizerBase

from dart import chat, engines
from dart.engines import Completion, Engine
from dart.errors import UserError
from dart.journal import Journal
from dart.manifest import write_json
from dart.records import Record
from dart.sections import EngineName, Evaluate, Prompts, Sampling
from dart.stage import Context, Spec, Stage, stage_main
from dart.tasks import benchmark, check_tasks, task_manager
from dart.training.loading import load_tokenizer

FINAL = "model"
# What the tasks' YAML files must say, and nothing else: greedy decoding up to the turn end.
FIXED = {"until": [], "do_sample": False, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}


class EvaluateSpec(Spec):
    """Values of a run: the ``solve`` prompt, the tasks and how their answers are decoded."""

    engine: EngineName = "transformers"
    prompts: Prompts
    evaluate: Evaluate


class Backend(LM):
    """What lm-eval sees of an engine: chats in, answers out, in the one format of ``dart.chat``.

    lm-eval's own backends keep neither token counts nor whether the limit cut a response off, and shorten prompts that
    are too long.

    Attributes
    ----------
    completions : dict
        (task, document number) -> completion, for the requests answered so far.
    prompt_ids : dict
        (task, document number) -> ids of the prompt that was put to the model.
    """

    def __init__(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase, on_batch: Callable[[int, int], None] | None = None
    ) -> None:
        super().__init__()
        self.engine = engine
        self.tokenizer = tokenizer
        self.on_batch = on_batch
        self.completions: dict[tuple[str, int], Completion] = {}
        self.prompt_ids: dict[tuple[str, int], list[int]] = {}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answer all requests (all tasks at once); returns their texts in order."""
        sampling = _sampling([request.args[1] for request in requests])
        keys = [(request.task_name, request.doc_id) for request in requests]
        prompts = [chat.encode(self.tokenizer, request.args[0]) for request in requests]
        completions = [one for (one,) in self.engine.generate(prompts, sampling, 1, 0, self.on_batch)]
        self.completions.update(zip(keys, completions, strict=True))
        self.prompt_ids.update(zip(keys, prompts, strict=True))
        return [completion.text for completion in completions]

    def apply_chat_template(self, chat_history: chat.Messages, add_generation_prompt: bool = True) -> str:
        """Return the text of a prompt."""
        if not add_generation_prompt:
            raise NotImplementedError("A task that begins the answer itself; no task of this repository does.")
        return chat.prompt_text(self.tokenizer, chat_history)

    @property
    def tokenizer_name(self) -> str:
        """Would name a cache of requests, which is not used."""
        return self.tokenizer.name_or_path

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Asked for by no task of this repository."""
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Asked for by no task of this repository."""
        raise NotImplementedError


def run(spec: EvaluateSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Evaluate all checkpoints; returns the final model's accuracy by task and their average."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = functools.partial(lm_eval.api.task.tqdm, disable=True)  # a bar for every task otherwise
    manager = task_manager(inputs["data"], spec.prompts)
    wanted = names(spec.evaluate)
    check_tasks(wanted, manager.all_tasks)
    tasks = load_tasks(manager, spec.evaluate)
    records = [record for task in wanted for record in benchmark(inputs["data"], task)]
    folders = checkpoints(inputs["run"])
    folders = folders if spec.evaluate.checkpoints == "all" else folders[-1:]
    journal = Journal(context.scratch / "checkpoints.jsonl")
    if journal.blocks:
        context.resume(len(journal.blocks))
    for number in range(len(journal.blocks), len(folders)):
        name, folder = folders[number]
        progress = _progress(context, number, len(folders), len(records))
        rows = evaluate(spec, name, folder, tasks, records, context, progress)
        context.log(number + 1, {"checkpoint": name, "accuracy": sum(row["correct"] for row in rows) / len(rows)})
        journal.add(rows)
    samples = pd.DataFrame([row for rows in journal.blocks for row in rows])
    samples.to_parquet(context.out / "samples.parquet", index=False)
    scores = summarise(samples)
    write_json(context.out / "scores.json", scores)
    final = {score["task"]: score["accuracy"] for score in scores if score["checkpoint"] == FINAL}
    return {"average": fmean(final[task] for task in spec.evaluate.tasks), **final}


def names(evaluate: Evaluate) -> list[str]:
    """Tasks to be run: those that averages are over, and the further ones."""
    return [*evaluate.tasks, *evaluate.further]


def checkpoints(run_folder: Path) -> list[tuple[str, Path]]:
    """Return (name, folder) of every exported checkpoint in order of steps, then of the final model."""
    return [(path.name, path) for path in sorted(run_folder.glob("checkpoints/step-*"))] + [(FINAL, run_folder / FINAL)]


def evaluate(
    spec: EvaluateSpec,
    name: str,
    folder: Path,
    tasks: dict[str, Task],
    records: list[Record],
    context: Context,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Evaluate one checkpoint on all tasks, whose questions are ``records``; returns a row for every question."""
    tokenizer = load_tokenizer(folder)
    prompts = [chat.prompt_ids(tokenizer, chat.solve_messages(spec.prompts, record)) for record in records]
    length = engines.longest(prompts, spec.evaluate.max_new_tokens)
    with engines.start(spec.engine, folder, tokenizer, length, spec.evaluate.batch_size) as engine:
        backend = Backend(engine, tokenizer, on_batch)
        samples = score(backend, tasks)
    written = sum(len(completion.ids) for completion in backend.completions.values())
    context.count(engine.parameters, generated=written, scored=sum(map(len, backend.prompt_ids.values())))
    return [
        {"checkpoint": name, "task": task, **_row(sample, backend.completions[task, sample["doc_id"]])}
        for task, found in samples.items()
        for sample in found
    ]


def load_tasks(manager: TaskManager, evaluate: Evaluate) -> dict[str, Task]:
    """Return the tasks by name, with the configuration's token limit."""
    tasks = manager.load(names(evaluate))["tasks"]
    for task in tasks.values():
        task.set_config("generation_kwargs", {"max_gen_toks": evaluate.max_new_tokens}, update=True)
    return tasks


def score(model: LM, tasks: dict[str, Task]) -> dict[str, list[dict[str, Any]]]:
    """Run lm-eval on the tasks, with chat template; returns its logged samples by task.

    Not by ``simple_evaluate``, which lists all installed packages after every checkpoint (1.5 s); the manifest does.
    """
    return lm_eval.evaluate(model, tasks, apply_chat_template=True, bootstrap_iters=0, log_samples=True)["samples"]


def summarise(samples: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one entry a checkpoint and task: n, accuracy, truncated share, mean tokens of a response."""
    scores = []
    for (checkpoint, task), rows in samples.groupby(["checkpoint", "task"], sort=False):
        scores.append(
            {
                "checkpoint": checkpoint,
                "step": None if checkpoint == FINAL else int(checkpoint.removeprefix("step-")),
                "task": task,
                "n": len(rows),
                "accuracy": float(rows["correct"].mean()),
                "strict": float(rows["strict"].mean()),
                "truncated": float(rows["truncated"].mean()),
                "mean_tokens": float(rows["tokens"].mean()),
            }
        )
    return scores


def _row(sample: dict[str, Any], completion: Completion) -> dict[str, Any]:
    (graded,) = sample["filtered_resps"]
    return {
        "id": sample["doc"]["id"],
        "doc_hash": sample["doc_hash"],
        "correct": bool(sample["exact"]),
        "strict": bool(sample.get("strict", sample["exact"])),
        "answer": graded[0]["answer"],
        "reason": graded[0]["reason"],
        "completion": completion.text,
        "tokens": len(completion.ids),
        "truncated": completion.truncated,
    }


def _sampling(given: list[dict[str, Any]]) -> Sampling:
    """How to decode, from the tasks' ``generation_kwargs``: explicit, and the same for all."""
    tokens = given[0]["max_gen_toks"]
    wanted = FIXED | {"max_gen_toks": tokens}
    wrong = sorted(name for one in given for name in {*one, *wanted} if one.get(name) != wanted.get(name))
    if wrong:
        raise UserError(
            f"configs/tasks: generation_kwargs.{wrong[0]} must be the same for all tasks evaluated together, with "
            f"{FIXED} and nothing else; see configs/tasks/records."
        )
    return Sampling(temperature=0.0, top_p=1.0, top_k=0, max_new_tokens=tokens)


def _progress(context: Context, number: int, folders: int, questions: int) -> Callable[[int, int], None]:
    return lambda done, _: context.progress(number * questions + done, folders * questions, "answer")


STAGE = Stage("evaluate", 2, EvaluateSpec, {"run": "the run to evaluate", "data": "folder of make_data"}, run)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
