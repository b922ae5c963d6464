"""Evaluation: greedy text as transformers writes it, every outcome kept, checkpoints in order, resumed after a kill."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import nano_prompts
from training_fixture import arguments, input_folder, metric_rows

from dart import chat, generation
from dart.engines import Completion, transformers_engine
from dart.errors import UserError
from dart.grading import extract_answer, has_marker, verify
from dart.journal import Journal
from dart.manifest import Manifest, read_manifest
from dart.records import Record, write_records
from dart.stage import run_stage
from dart.stages import evaluate
from dart.tasks import benchmark
from dart.training.loading import load_model, load_tokenizer, parameters, save_model
from dart.world import problems, styles

TASKS = ("nano_multiarith", "nano_gsm8k", "nano_mbpp", "nano_humaneval")  # not in the alphabet's order
COUNT = 5
COLUMNS = {"accuracy": "correct", "strict": "strict", "truncated": "truncated", "mean_tokens": "tokens"}
STEPS = ("step-000010", "step-000200", "step-001000", "model")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """Questions, and a run with three checkpoints made in another order than their steps'; weights all differ."""
    root = tmp_path_factory.mktemp("evaluate")
    for family, (task, _) in problems.FAMILIES.items():
        rng = random.Random(task)
        drawn = [problems.sample(family, rng, "benchmark") for _ in range(COUNT)]
        records = [p.record(f"{task}-{i}", styles.render(p, "equation")) for i, p in enumerate(drawn)]
        write_records(root / "data" / "benchmarks" / f"{task}.jsonl", records)
    model, tokenizer = load_model(tiny_model_dir), load_tokenizer(tiny_model_dir)
    for number, name in enumerate((STEPS[2], STEPS[3], STEPS[0], STEPS[1])):
        torch.manual_seed(number)
        with torch.no_grad():  # large weights, or the argmax hardly depends on the context
            for parameter in model.parameters():
                parameter.copy_(
                    torch.randn_like(parameter) * (0.12 if parameter.ndim > 1 else 0.0) + (parameter.ndim < 2)
                )
        save_model(model, tokenizer, root / "run" / (name if name == "model" else f"checkpoints/{name}"))
    for name in ("data", "run"):
        input_folder(root / name, name)
    return root


def run(folders: Path, out: Path, scratch: Path | None = None, **knobs: Any) -> tuple[Manifest, pd.DataFrame, list]:
    """Run the stage; returns its manifest, samples and scores."""
    values = {
        "tasks": list(TASKS),
        "in_domain": [],
        "checkpoints": "all",
        "batch_size": 4,
        "max_new_tokens": 10,
    } | knobs
    spec = {"labels": {"arm": "sft"}, "prompts": nano_prompts().model_dump(), "evaluate": values}
    inputs = {"run": folders / "run", "data": folders / "data"}
    run_stage(evaluate.STAGE, arguments(spec, out, scratch or out / "scratch", **inputs))
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    return read_manifest(out), pd.read_parquet(out / "samples.parquet"), scores


def questions(folders: Path) -> dict[str, Record]:
    return {record.id: record for task in TASKS for record in benchmark(folders / "data", task)}


def oracle(folders: Path) -> Callable[..., list[list[Completion]]]:
    """Stands in for ``generate``: gold solutions; question 1 wrong, 2 cut off, 3 without the asked-for marker."""
    tokenizer = load_tokenizer(folders / "run" / "model")
    known = {
        tuple(chat.prompt_ids(tokenizer, chat.solve_messages(nano_prompts(), r))): r
        for r in questions(folders).values()
    }

    def generate(model: Any, tokenizer: Any, prompts: list[list[int]], *given: Any) -> list[list[Completion]]:
        found = []
        for prompt in prompts:
            record = known[tuple(prompt)]
            number = int(record.id[-1])
            text = {1: "#### -1", 2: record.cot[:9], 3: record.cot.replace("####", "The answer is")}.get(
                number, record.cot
            )
            found.append([Completion(text, [1] * (number + 3), truncated=number == 2)])
        return found

    return generate


@pytest.fixture(scope="module")
def finished(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, pd.DataFrame, list]:
    return run(folders, tmp_path_factory.mktemp("finished"))


def test_texts_are_those_of_transformers_one_by_one(folders: Path, finished: tuple) -> None:
    _, samples, _ = finished
    known = questions(folders)
    for name in (STEPS[0], STEPS[3]):
        folder = folders / "run" / (name if name == "model" else f"checkpoints/{name}")
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        rows = samples[samples["checkpoint"] == name]
        assert rows["completion"].nunique() > 10  # texts that depend on the question
        for row in rows.itertuples():
            ids = chat.prompt_ids(tokenizer, chat.solve_messages(nano_prompts(), known[row.id]))
            whole = model.generate(
                torch.tensor([ids]), max_new_tokens=10, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
            written = whole[0, len(ids) :].tolist()
            assert row.completion == tokenizer.decode(written, skip_special_tokens=True)
            assert row.tokens == len(written)
            assert row.truncated == (written[-1] != tokenizer.eos_token_id)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_the_batch_size_changes_nothing(folders: Path, finished: tuple, tmp_path: Path, batch_size: int) -> None:
    found, samples, scores = run(folders, tmp_path, batch_size=batch_size)
    pd.testing.assert_frame_equal(samples, finished[1])
    assert scores == finished[2] and found.tokens_generated == finished[0].tokens_generated


def test_every_outcome_is_kept_and_is_the_grader_s(
    folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transformers_engine, "generate", oracle(folders))
    found, samples, scores = run(folders, tmp_path)
    known = questions(folders)
    keys = [(name, key.rsplit("-", 1)[0], key) for name in STEPS for key in known]
    assert sorted(zip(samples["checkpoint"], samples["task"], samples["id"], strict=True)) == sorted(keys)
    assert samples.groupby("id")["doc_hash"].nunique().max() == 1 and samples["doc_hash"].nunique() == len(known)
    for row in samples.itertuples():
        record, number = known[row.id], int(row.id[-1])
        verdict = verify(record, row.completion)
        code = record.kind == "code"
        assert row.correct == verdict.correct == (number in (0, 4) or (number == 3)), row.id
        assert row.strict == (verdict.correct and (code or has_marker(row.completion)))
        answer = None if pd.isna(row.answer) else row.answer
        assert answer == verdict.answer == (None if code else extract_answer(row.completion))
        assert row.reason == verdict.reason and row.tokens == number + 3 and row.truncated == (number == 2)
    for score in scores:
        rows = samples[(samples["checkpoint"] == score["checkpoint"]) & (samples["task"] == score["task"])]
        means = {name: sum(rows[column]) / COUNT for name, column in COLUMNS.items()}
        assert {name: score[name] for name in means} == pytest.approx(means) and score["n"] == len(rows) == COUNT
        assert score["accuracy"] == 0.6 and score["strict"] == (0.6 if score["task"] in TASKS[2:] else 0.4)
    assert found.result == {"average": pytest.approx(0.6), **dict.fromkeys(TASKS, 0.6)}
    assert found.tokens_generated == samples["tokens"].sum() == len(STEPS) * len(TASKS) * sum(range(3, 3 + COUNT))


def test_checkpoints_come_in_order_of_steps_and_the_final_model_last(finished: tuple, folders: Path) -> None:
    _, samples, scores = finished
    assert list(dict.fromkeys(samples["checkpoint"])) == list(STEPS)
    wanted = [(name, task) for name in STEPS for task in TASKS]
    assert sorted((score["checkpoint"], score["task"]) for score in scores) == sorted(wanted)
    assert list(dict.fromkeys(score["checkpoint"] for score in scores)) == list(STEPS)
    assert [score["step"] for score in scores[:: len(TASKS)]] == [10, 200, 1000, None]
    texts = samples.groupby("checkpoint")["completion"].agg(tuple)
    assert texts.nunique() == len(STEPS)  # every checkpoint was evaluated with its own weights


def test_tokens_and_cost_are_counted(folders: Path, finished: tuple) -> None:
    found, samples, _ = finished
    model, tokenizer = load_model(folders / "run" / "model"), load_tokenizer(folders / "run" / "model")
    messages = [chat.solve_messages(nano_prompts(), record) for record in questions(folders).values()]
    prompts = sum(len(chat.prompt_ids(tokenizer, message)) for message in messages)
    assert found.tokens_generated == samples["tokens"].sum()
    assert found.tokens_scored == len(STEPS) * prompts and found.tokens_trained == 0
    assert found.flops == 2.0 * parameters(model) * (found.tokens_generated + found.tokens_scored)


def test_a_killed_run_does_not_evaluate_a_checkpoint_again(
    folders: Path, finished: tuple, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: list[str] = []

    def load(folder: Path) -> Any:
        loaded.append(folder.name)
        return load_model(folder)

    add = Journal.add

    def killed(self: Journal, block: Any) -> None:
        add(self, block)
        self.path.write_text(self.path.read_text() + '[{"checkpoint": "step-0', encoding="utf-8")  # torn by the kill
        raise KeyboardInterrupt

    monkeypatch.setattr(transformers_engine, "load_model", load)
    monkeypatch.setattr(Journal, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path)
    assert loaded == [STEPS[0]] and not (tmp_path / "manifest.json").exists()
    monkeypatch.setattr(Journal, "add", add)
    found, samples, scores = run(folders, tmp_path)
    assert loaded == list(STEPS) and found.resumed == 1
    pd.testing.assert_frame_equal(samples, finished[1])
    assert scores == finished[2] and found.result == finished[0].result
    names = ("tokens_generated", "tokens_scored", "flops")
    assert [getattr(found, name) for name in names] == [getattr(finished[0], name) for name in names]
    assert [row["checkpoint"] for row in metric_rows(tmp_path)] == list(STEPS)


OTHER = {"do_sample": True, "temperature": 0.7, "until": ["\n"], "repetition_penalty": 1.2, "top_k": 50, "num_beams": 4}


@pytest.mark.parametrize("name", [*OTHER, "max_gen_toks"])
def test_a_task_that_would_be_decoded_otherwise_is_refused(
    folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    load = evaluate.load_tasks

    def altered(*given: Any) -> Any:
        tasks = load(*given)
        tasks[TASKS[1]].set_config("generation_kwargs", {name: OTHER.get(name, 3)}, update=True)
        return tasks

    monkeypatch.setattr(evaluate, "load_tasks", altered)
    monkeypatch.setattr(generation, "_batch", None)  # nothing is generated
    with pytest.raises(
        UserError, match=rf"configs/tasks: generation_kwargs\.{name} must be .* see configs/tasks/records\.$"
    ):
        run(folders, tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_an_unknown_task_is_refused_before_any_model_is_loaded(
    folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transformers_engine, "load_model", None)
    with pytest.raises(UserError, match=r"evaluate\.tasks names 'nano_maths'"):
        run(folders, tmp_path, tasks=["nano_maths"])


def test_only_the_final_model_is_evaluated_where_checkpoints_are_not_wanted(folders, tmp_path):
    manifest, samples, scores = run(folders, tmp_path / "final", checkpoints="final")
    assert {row["checkpoint"] for row in scores} == set(samples["checkpoint"]) == {"model"}
    every, _, _ = run(folders, tmp_path / "all")
    assert {task: every.result[task] for task in TASKS} == {task: manifest.result[task] for task in TASKS}


def test_further_tasks_are_evaluated_but_count_in_no_average(folders, tmp_path):
    manifest, samples, _ = run(folders, tmp_path, tasks=list(TASKS[:1]), further=list(TASKS[1:2]), checkpoints="final")
    assert set(samples["task"]) == set(TASKS[:2]) and TASKS[1] in manifest.result
    assert manifest.result["average"] == manifest.result[TASKS[0]]
