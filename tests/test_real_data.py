"""Real questions: parsed and disjoint, drawn by the seed, and every lack told in one sentence that names the cure."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from dart import config, real_data
from dart.errors import UserError
from dart.grading import verify_many
from dart.real_data import forms, rows
from dart.records import Record
from dart.sources import Data, HubData

COMMIT = "e53f048856ff4f594e959d75785d2c2d37b678ee"
Row = dict[str, Any]


def row(number: int) -> Row:
    """A question with a rationale as GSM8K writes it."""
    rationale = f"Ann has {number}*2=<<{number}*2={2 * number}>>{2 * number} pens.\n#### {2 * number}"
    return {"question": f"Ann has {number} boxes of 2 pens. How many pens? ", "answer": rationale}


def hub(split: str, revision: str = COMMIT, form: str = "gsm8k", **more: Any) -> Row:
    where = {"repo": "openai/gsm8k", "config": "main", "split": split, "revision": revision, "form": form}
    return {**where, "file": f"gsm8k_{split}.jsonl", **more}


def settings(folder: Path | None = None, size: int = 6, **changes: Any) -> Data:
    values: Row = {"source": "real", "validation_size": 3, "benchmark_size": 4, "seed": 1}
    values |= {"train": {"gsm8k": hub("train", size=size)}, "benchmarks": {"gsm8k": hub("test")}}
    return Data(**(values | {"folder": folder and str(folder)} | changes))


def write(folder: Path, train: list[Row], test: list[Row]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, given in (("train", train), ("test", test)):
        text = "".join(json.dumps(one) + "\n" for one in given)
        (folder / f"gsm8k_{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def sentence(data: Data) -> str:
    """What the user is told instead of getting data: one sentence, in one line."""
    with pytest.raises(UserError) as caught:
        real_data.load(data)
    said = str(caught.value)
    assert "\n" not in said and said.endswith((".", ")."))
    return said


@pytest.fixture(autouse=True)
def no_folder_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DART_DATA", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "data", [row(i) for i in range(12)], [row(i) for i in range(100, 106)])


def test_rows_become_records_without_calculator_annotations(folder: Path) -> None:
    found = real_data.load(settings(folder))
    record = found.benchmarks["gsm8k"][1]
    assert (record.id, record.kind, record.answer) == ("gsm8k-00001", "math", "202")
    assert record.question == "Ann has 101 boxes of 2 pens. How many pens?"
    assert record.cot == "Ann has 101*2=202 pens.\n#### 202"
    assert [len(found.train), len(found.validation), len(found.benchmarks["gsm8k"])] == [6, 3, 4]
    assert str(folder / "gsm8k_test.jsonl") in found.sources["gsm8k"] and "sha256 " in found.sources["train gsm8k"]


def test_splits_are_disjoint_by_text_even_when_the_files_are_not(tmp_path: Path) -> None:
    train = [row(i) for i in range(9)]
    folder = write(tmp_path / "data", [*train, *train, row(100), row(101)], [row(i) for i in range(100, 104)])
    found = real_data.load(settings(folder))  # 6 + 3 questions are wanted: all that are left
    counts = Counter(r.question for part in (found.train, found.validation, *found.benchmarks.values()) for r in part)
    assert set(counts.values()) == {1} and len(counts) == 13


def test_a_seed_gives_the_same_questions_and_another_one_others(folder: Path) -> None:
    first = real_data.load(settings(folder))
    assert real_data.load(settings(folder)) == first
    other = real_data.load(settings(folder, seed=2))
    assert [r.id for r in other.train] != [r.id for r in first.train] and other.benchmarks == first.benchmarks
    assert [r.id for r in first.train] != sorted(r.id for r in first.train)  # drawn, not the file's first ones


def test_the_variable_names_the_folder_and_the_configuration_wins(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DART_DATA", str(folder))
    expected = real_data.load(settings())
    monkeypatch.setenv("DART_DATA", str(tmp_path / "elsewhere"))
    assert real_data.load(settings(folder)) == expected
    assert f"DART_DATA names {tmp_path / 'elsewhere'}, which is no folder" in sentence(settings())


def test_a_missing_folder(tmp_path: Path) -> None:
    said = sentence(settings(tmp_path / "absent"))
    assert f"data.folder names {tmp_path / 'absent'}, which is no folder; point it at the data files" in said


def test_a_missing_file(folder: Path) -> None:
    (folder / "gsm8k_test.jsonl").unlink()
    assert "which lacks gsm8k_test.jsonl (gsm8k); add it, or unset data.folder" in sentence(settings(folder))


@pytest.mark.parametrize("line", ['{"question": "How ma', "\udcff"])
def test_a_broken_line(folder: Path, line: str) -> None:
    with (folder / "gsm8k_train.jsonl").open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    said = sentence(settings(folder))
    assert f"{folder / 'gsm8k_train.jsonl'} is not JSON lines" in said and said.endswith("fetch it again.")


def test_an_empty_file(folder: Path) -> None:
    (folder / "gsm8k_test.jsonl").write_text("\n", encoding="utf-8")
    said = sentence(settings(folder))
    assert "gsm8k_test.jsonl" in said and "has no rows; fetch it again" in said


@pytest.mark.parametrize("broken", [{"question": "Why?"}, {"question": 3, "answer": "#### 4"}, ["Why?"], "Why?"])
def test_a_row_of_another_data_set(folder: Path, broken: Any) -> None:
    write(folder, [row(0), broken], [row(100)])
    said = sentence(settings(folder))
    assert "gsm8k_train.jsonl" in said and "the row of train-gsm8k-00001 h" in said
    assert said.endswith("this is no data set like gsm8k.")


def test_a_row_without_a_final_answer(folder: Path) -> None:
    write(folder, [row(0)], [row(100), {"question": "Why?", "answer": "It is 4."}])
    said = sentence(settings(folder))
    assert "the row of gsm8k-00001 states no final answer (#### n); leave it out of the file" in said


def test_too_few_questions(folder: Path) -> None:
    said = sentence(settings(folder, size=10))
    assert "12 usable questions, but data.train.gsm8k.size + data.validation_size ask for 13; lower one" in said
    assert len(real_data.load(settings(folder, size=9)).train) == 9


@pytest.mark.parametrize("lacking", [{"train": {}}, {"benchmarks": {}}])
def test_data_sets_that_are_not_named(folder: Path, lacking: Row) -> None:
    assert "data.train or data.benchmarks is not set; name the data sets" in sentence(settings(folder, **lacking))


def test_neither_folder_nor_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(where: HubData) -> None:
        raise httpx.ConnectError("[Errno -3] Temporary failure\nin name resolution")

    monkeypatch.setattr(rows, "_check_network", no_network)
    said = sentence(settings())
    assert "openai/gsm8k at e53f0488 cannot be had from the Hugging Face hub ([Errno -3] Temporary failure in" in said
    assert "or set DART_DATA to a folder with gsm8k_test.jsonl" in said


ANSWER = httpx.Response(404, request=httpx.Request("GET", "https://hub"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RevisionNotFoundError("no", response=ANSWER),
            "openai/gsm8k at e53f0488 does not exist, though openai/gsm8k does",
        ),
        (RepositoryNotFoundError("no", response=ANSWER), "openai/gsm8k does not exist on the Hugging Face hub, or is"),
        (GatedRepoError("no", response=ANSWER), "openai/gsm8k is gated: accept its licence on its page of the"),
        (OSError(28, "No space left on device"), "The disk is full while openai/gsm8k at e53f0488 is fetched; free"),
    ],
)
def test_what_the_hub_refuses_is_told_with_the_cure(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(where: HubData) -> None:
        raise error

    monkeypatch.setattr(rows, "_check_network", refuse)
    assert sentence(settings()).startswith(told)


def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(repo: str, name: str, split: str, revision: str) -> list[Row]:
        asked.append((repo, name, split, revision))
        return [row(i) for i in (range(12) if split == "train" else range(100, 106))]

    monkeypatch.setattr(rows, "_check_network", lambda where: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = real_data.load(settings())
    assert asked == [("openai/gsm8k", "main", split, COMMIT) for split in ("test", "train")]
    assert len(found.train) == 6 and found.sources["train gsm8k"] == f"hub openai/gsm8k main train at {COMMIT}"


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:8], COMMIT.upper(), COMMIT + "0"])
def test_an_unpinned_revision_is_refused(tmp_path: Path, revision: str) -> None:
    overlay = tmp_path / "own.yaml"
    overlay.write_text(f"data: {{train: {{gsm8k: {{revision: '{revision}'}}}}}}", encoding="utf-8")
    files = ["configs/base.yaml", "configs/arms.yaml", "configs/rehearsal.yaml"]
    config.load(files)
    with pytest.raises(UserError) as caught:
        config.load([*files, overlay])
    said = str(caught.value)
    assert (
        f"data.train.gsm8k.revision = '{revision}' is not allowed" in said and "the 40 hex digits of its commit" in said
    )
    assert "\n" not in said


def test_an_unpinned_data_set_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_check_network", lambda where: pytest.fail("the hub was asked"))
    said = sentence(settings(benchmarks={"gsm8k": hub("test", revision="")}))
    assert said == "openai/gsm8k has no pinned revision; `python -m dart.pin` fills it into the configuration file."


def test_sets_are_mixed_and_no_question_is_in_two_of_them(folder: Path) -> None:
    other = [{"problem": row(i)["question"].upper(), "solution": f"Just $\\boxed{{{2 * i}}}$."} for i in range(6, 30)]
    (folder / "math.jsonl").write_text("".join(json.dumps(one) + "\n" for one in other), encoding="utf-8")
    train = {"gsm8k": hub("train", size=6), "math": hub("train", form="math", size=9) | {"file": "math.jsonl"}}
    found = real_data.load(settings(folder, train=train))
    kinds = ["math" if record.id.startswith("train-math-") else "gsm8k" for record in found.train]
    assert Counter(kinds) == {"gsm8k": 6, "math": 9} and kinds != sorted(kinds)
    assert Counter(record.id.split("-")[1] for record in found.validation) == {"gsm8k": 3, "math": 3}
    texts = [record.question.lower() for record in (*found.train, *found.validation)]
    assert len(set(texts)) == len(texts) == 21
    assert "12 usable" not in sentence(settings(folder, train=train | {"math": train["math"] | {"size": 16}}))


ROWS: dict[str, tuple[Row, dict[str, Any]]] = {
    "math": (
        {"problem": "Half of\n$x$?", "solution": "It is $\\boxed{\\frac{x}{2}}$."},
        {"answer": "\\frac{x}{2}", "cot": "It is $\\boxed{\\frac{x}{2}}$.\n#### \\frac{x}{2}"},
    ),
    "math500": ({"problem": "Why?", "solution": "So $\\boxed{p - q}$.", "answer": "p - q"}, {"answer": "p - q"}),
    "svamp": (
        {"Body": "Ann has 2 pens", "Question": "How many?", "Answer": 2.0},
        {"answer": "2", "question": "Ann has 2 pens. How many?", "cot": ""},
    ),
    "multiarith": ({"question": " How many? ", "final_ans": "39"}, {"answer": "39", "question": "How many?"}),
    "mawps": ({"question": "How many?", "result": "1_200"}, {"answer": "1200"}),
    "mbpp": (
        {
            "text": "Write f.",
            "code": "def f(x):\r\n    return x",
            "test_list": ["assert f(n) == 1"],
            "test_setup_code": "n = 1",
        },
        {
            "question": "Write f.\nThe program has to pass these tests:\nn = 1\nassert f(n) == 1",
            "tests": ("n = 1", "assert f(n) == 1"),
            "setup": "",
            "cot": "```python\ndef f(x):\n    return x\n```",
        },
    ),
    "humaneval": (
        {
            "prompt": "def f(x):\n",
            "canonical_solution": "    return x\n",
            "test": "def check(c):\n    assert c(1) == 1",
            "entry_point": "f",
        },
        {"setup": "def f(x):\n", "question": "Complete the Python function f:\n```python\ndef f(x):\n```"},
    ),
}


@pytest.mark.parametrize("form", ROWS)
def test_a_row_becomes_a_record_that_its_rationale_solves(form: str) -> None:
    given, expected = ROWS[form]
    found = forms.record(form, "x-1", given, "file")
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.kind == ("code" if form in ("mbpp", "humaneval") else "math")
    if found.cot:
        spoilt = found.cot.replace("return x", "return 7").replace("\\boxed{", "\\boxed{7").replace("####", "#### 7")
        assert [verdict.correct for verdict in verify_many([found, found], [found.cot, spoilt])] == [True, False]
    for name in given:
        with pytest.raises(UserError, match=rf"^file: the row of x-1 has no text '{name}'; this is no data set like"):
            forms.record(form, "x-1", {key: value for key, value in given.items() if key != name}, "file")


REAL = Path(os.environ.get("DART_DATA") or "absent")  # read before any test unsets it
MIRROR = {  # file -> form, rows
    "gsm8k_train.jsonl": ("gsm8k", 7473),
    "gsm8k_test.jsonl": ("gsm8k", 1319),
    "math_train_part.jsonl": ("math", 4500),
    "math500_test.jsonl": ("math500", 500),
    "mbpp_train.jsonl": ("mbpp", 374),
    "mbpp_test.jsonl": ("mbpp", 500),
    "humaneval_test.jsonl": ("humaneval", 164),
    "svamp_test.jsonl": ("svamp", 1000),
    "multiarith_test.jsonl": ("multiarith", 600),
}
needs_mirror = pytest.mark.skipif(
    not all((REAL / name).is_file() for name in MIRROR), reason="needs the data sets in the folder that DART_DATA names"
)


def unsolved(records: list[Record]) -> list[Record]:
    """Records that their own gold solution does not solve."""
    gold = [record.cot or f"#### {record.answer}" for record in records]
    return [record for record, one in zip(records, verify_many(records, gold), strict=True) if not one.correct]


@needs_mirror
@pytest.mark.parametrize("file", MIRROR)
def test_every_gold_solution_passes_and_a_stranger_s_does_not(file: str) -> None:
    form, count = MIRROR[file]
    where = HubData(**hub("train", form=form) | {"file": file})
    found, _ = rows.read(form, where, str(REAL))
    records = [forms.record(form, str(i), one, file) for i, one in enumerate(found)]
    assert len(records) == count
    assert unsolved(unsolved(records)) == []  # twice: on a busy machine a program may run into its limit of wall time
    few = [record for record in records[:40]]
    others = [f"```python\n{few[0].setup}```" if r.kind == "code" else "#### 1234567" for r in few]
    assert not any(verdict.correct for verdict in verify_many(few, others))
    assert not any("\r" in record.cot or (record.kind == "math" and "<<" in record.cot) for record in records)


@needs_mirror
def test_the_training_sets_fit_the_paper_configuration() -> None:
    data = config.load([f"configs/{name}.yaml" for name in ("base", "arms", "paper")]).data
    train = {name: where.model_dump() for name, where in data.train.items()}
    train["math"] |= {"file": "math_train_part.jsonl", "size": 4300}
    benchmarks = {name: where for name, where in data.benchmarks.items() if (REAL / where.file).is_file()}
    found = real_data.load(Data(**data.model_dump() | {"train": train, "benchmarks": benchmarks, "folder": str(REAL)}))
    assert Counter(r.id.split("-")[1] for r in found.train) == {"gsm8k": 7350, "math": 4300, "mbpp": 270}
    records = [*found.train, *found.validation, *(r for part in found.benchmarks.values() for r in part)]
    assert len({r.question for r in (*found.train, *found.validation)} & {r.question for r in records[12220:]}) == 0
