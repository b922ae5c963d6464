"""lm-eval's tasks: they load offline, put dart.chat's prompt, and score an oracle 100 % and its wrong twin 0 %."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import nano_prompts
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import Task

from dart import chat
from dart.engines.transformers_engine import TransformersEngine
from dart.errors import UserError
from dart.real_data import forms
from dart.records import write_records
from dart.sections import Evaluate
from dart.sources import Form
from dart.stages.evaluate import Backend, load_tasks, score
from dart.tasks import FOLDER, benchmark, check_tasks, task_manager
from dart.training.loading import load_tokenizer
from dart.world import problems, styles

TASKS = {task: family for family, (task, _) in problems.FAMILIES.items()}
GOLD: dict[str, dict[str, str]] = {}  # id -> style -> solution
WORDS = "Ann has {n} apples and buys 5 more. How many has Ann?"
REAL: dict[str, tuple[Form, Callable[[int], dict[str, Any]]]] = {  # task -> form, the row of a number
    "gsm8k": (
        "gsm8k",
        lambda n: {"question": WORDS.format(n=n), "answer": f"Now {n}+5=<<{n}+5={n + 5}>>{n + 5}.\n#### {n + 5}"},
    ),
    "gsm8k_platinum": (
        "gsm8k",
        lambda n: {"question": WORDS.format(n=n), "answer": f"She has {n + 5}.\n#### {n + 5:,}"},
    ),
    "math500": (
        "math500",
        lambda n: {
            "problem": f"Halve ${n}x$.",
            "solution": rf"It is $\boxed{{\frac{{{n}x}}{{2}}}}$.",
            "answer": rf"\frac{{{n}x}}2",
        },
    ),
    "svamp": ("svamp", lambda n: {"Body": f"Ann has {n} apples", "Question": "How many?", "Answer": float(n)}),
    "multiarith": ("multiarith", lambda n: {"question": WORDS.format(n=n), "final_ans": str(n + 5)}),
    "mawps": ("mawps", lambda n: {"question": WORDS.format(n=n), "result": str(n + 5)}),
    "mbpp": (
        "mbpp",
        lambda n: {
            "text": f"Write a function to add {n}.",
            "code": f"def add(x):\r\n    return x + {n}",
            "test_list": [f"assert add(1) == {n + 1}"],
            "test_setup_code": "",
        },
    ),
    "humaneval": (
        "humaneval",
        lambda n: {
            "prompt": f'def add(x):\n    """ Add {n} to x.\n    """\n',
            "canonical_solution": f"    return x + {n}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
            "entry_point": "add",
        },
    ),
}


class Oracle(LM):
    """Answers from the gold solution; ``write`` turns that into its response."""

    def __init__(self, write: Callable[[dict[str, Any]], str]) -> None:
        super().__init__()
        self.write = write

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        return [self.write(request.doc) for request in requests]

    def apply_chat_template(self, history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return history[-1]["content"]

    @property
    def tokenizer_name(self) -> str:
        return ""

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Benchmarks of every nano family, and two questions in the form of every real one."""
    folder = tmp_path_factory.mktemp("data")
    for task, family in TASKS.items():
        rng = random.Random(task)
        drawn = [problems.sample(family, rng, "benchmark") for _ in range(6)]
        write_records(folder / "benchmarks" / f"{task}.jsonl", [p.record(f"{task}-{i}") for i, p in enumerate(drawn)])
        GOLD.update({f"{task}-{i}": {s: styles.render(p, s) for s in styles.STYLES} for i, p in enumerate(drawn)})
    write_records(folder / "validation.jsonl", [problems.sample("write", rng, "validation").record("validation-0")])
    for task, (form, row) in REAL.items():
        found = [forms.record(form, f"{task}-{n}", row(n), task) for n in (1000, 2000)]
        write_records(folder / "benchmarks" / f"{task}.jsonl", found)
        GOLD.update({record.id: {"own": record.cot or f"#### {record.answer}"} for record in found})
    return folder


def tasks_of(data: Path, names: tuple[str, ...], max_new_tokens: int = 4) -> dict[str, Task]:
    knobs = Evaluate(tasks=names, in_domain=(), checkpoints="all", batch_size=4, max_new_tokens=max_new_tokens)
    return load_tasks(task_manager(data, nano_prompts()), knobs)


def means(model: LM, tasks: dict[str, Task], metric: str) -> dict[str, float]:
    """Share of a task's questions; tasks without the metric are left out."""
    found = {}
    for task, samples in score(model, tasks).items():
        values = [sample[metric] for sample in samples if metric in sample]
        found |= {task: sum(values) / len(values)} if values else {}
    return found


def test_every_task_of_the_folder_loads_without_a_network(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **names: Any) -> NoReturn:
        raise AssertionError(f"the network was asked for {given}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    known = task_manager(data, nano_prompts()).all_tasks
    assert sorted(known) == sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted([*TASKS, *REAL, "validation"])
    tasks = tasks_of(data, tuple(known))
    for name in known:
        assert [doc["id"] for doc in tasks[name].test_docs()] == [record.id for record in benchmark(data, name)]
        assert tasks[name].config.metadata["version"] == 1.0


def test_an_unknown_task_is_told_in_one_sentence(data: Path) -> None:
    known = task_manager(data, nano_prompts()).all_tasks
    check_tasks(["gsm8k", "nano_math"], known)
    with pytest.raises(UserError, match=r"evaluate\.tasks names 'nano_maths', which configs/tasks lacks; it has gsm8k"):
        check_tasks(["gsm8k", "nano_maths"], known)
    with pytest.raises(UserError, match="names 'hellaswag'"):  # one of lm-eval's own
        check_tasks(["hellaswag"], known)


def test_missing_questions_are_told_in_one_sentence(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gsm8k\.jsonl does not exist; run the stage that makes it first"):
        tasks_of(tmp_path, ("gsm8k",))


def test_the_prompts_put_to_the_model_are_those_of_training(data: Path, tiny_model_dir: Path) -> None:
    names = (*TASKS, *REAL)
    prompts = nano_prompts().model_copy(update={"solve": "Compute. {question} Solution:"})
    knobs = Evaluate(tasks=names, in_domain=(), checkpoints="all", batch_size=4, max_new_tokens=1)
    tasks = load_tasks(task_manager(data, prompts), knobs)
    tokenizer = load_tokenizer(tiny_model_dir)
    backend = Backend(TransformersEngine(tiny_model_dir, tokenizer, 4), tokenizer)
    score(backend, tasks)
    for name in names:
        for number, record in enumerate(benchmark(data, name)):
            messages = chat.solve_messages(prompts, record)
            ids = backend.prompt_ids[name, number]
            assert ids == chat.prompt_ids(tokenizer, messages)
            trained = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": "7"}], tokenize=False)
            assert tokenizer(trained, add_special_tokens=False)["input_ids"][: len(ids)] == ids
    assert len(backend.prompt_ids) == 6 * len(TASKS) + 2 * len(REAL)


@pytest.mark.parametrize("style", styles.STYLES)
def test_an_oracle_scores_everything_and_its_wrong_twin_nothing(data: Path, style: str) -> None:
    tasks = tasks_of(data, tuple(TASKS))
    everything, nothing = dict.fromkeys(TASKS, 1.0), dict.fromkeys(TASKS, 0.0)
    math = {name for name in TASKS if name not in ("nano_humaneval", "nano_mbpp")}
    right = Oracle(lambda doc: GOLD[doc["id"]][style])
    assert means(right, tasks, "exact") == everything
    assert means(right, tasks, "strict") == dict.fromkeys(math, 1.0)

    def spoil(doc: dict[str, Any]) -> str:
        gold = GOLD[doc["id"]][style]
        wrong = gold.replace("return ", "return 100 + ")
        return re.sub(r"#### (\d+)", lambda found: f"#### {int(found[1]) + 1}", wrong)

    assert means(Oracle(spoil), tasks, "exact") == nothing
    assert means(Oracle(lambda doc: ""), tasks, "exact") == nothing


@pytest.mark.parametrize("task", REAL)
def test_an_oracle_scores_everything_and_its_wrong_twin_nothing_on_real_tasks(data: Path, task: str) -> None:
    tasks = tasks_of(data, (task,))
    is_code = task in ("humaneval", "mbpp")

    def own(doc: dict[str, Any]) -> str:
        return GOLD[doc["id"]]["own"]

    assert means(Oracle(own), tasks, "exact") == {task: 1.0}
    boxed = Oracle(lambda doc: f"Sure:\n{own(doc)}\nDone." if is_code else f"So $\\boxed{{{doc['answer']}}}$.")
    assert means(boxed, tasks, "exact") == {task: 1.0}
    marked = {"math500": 0.0}.get(task, 1.0)  # its solutions end in a box
    assert means(Oracle(own), tasks, "strict") == ({} if is_code else {task: marked})
    twin = Oracle(lambda doc: re.sub(r"\d{4}", "7", own(doc).replace(",", "")))
    assert means(twin, tasks, "exact") == {task: 0.0}
    other = Oracle(lambda doc: own({"id": f"{task}-{3000 - int(doc['id'].rpartition('-')[2])}"}))
    assert means(other, tasks, "exact") == {task: 0.0}


def test_humaneval_takes_a_bare_body_and_mbpp_alone_shows_its_tests(data: Path) -> None:
    tasks = tasks_of(data, ("humaneval", "mbpp"))
    bare = Oracle(lambda doc: f"return x + {doc['id'].rpartition('-')[2]}")
    assert means(bare, tasks, "exact") == {"humaneval": 1.0, "mbpp": 0.0}
    shown = {name: next(iter(task.test_docs()))["prompt"] for name, task in tasks.items()}
    assert "assert add(1) == 1001" in shown["mbpp"] and "assert" not in shown["humaneval"]
    assert "def add(x):" in shown["humaneval"]


@pytest.mark.parametrize(
    ("form", "exact", "strict"),
    [
        ("#### {n}", 1.0, 1.0),
        ("It is {n}.\n#### {n} apples.", 1.0, 1.0),
        ("#### ${n:,}.00", 1.0, 1.0),
        ("So the answer is $\\boxed{{{n}}}$.", 1.0, 0.0),
        ("The final answer is **{n}**.", 1.0, 0.0),
        ("It is {n}", 0.0, 0.0),
        ("#### {n}1", 0.0, 0.0),
    ],
)
def test_strict_asks_for_the_marker_and_exact_takes_any(data: Path, form: str, exact: float, strict: float) -> None:
    tasks = tasks_of(data, ("gsm8k",))
    model = Oracle(lambda doc: form.format(n=int(doc["answer"])))
    assert means(model, tasks, "exact") == {"gsm8k": exact} and means(model, tasks, "strict") == {"gsm8k": strict}
