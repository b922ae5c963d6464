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

from dart import config, real_data
from dart.config import Data, HubData
from dart.errors import UserError
from dart.grading import verify_many

COMMIT = "e53f048856ff4f594e959d75785d2c2d37b678ee"
Row = dict[str, Any]


def row(number: int) -> Row:
    """A question with a rationale as GSM8K writes it."""
    rationale = f"Ann has {number}*2=<<{number}*2={2 * number}>>{2 * number} pens.\n#### {2 * number}"
    return {"question": f"Ann has {number} boxes of 2 pens. How many pens? ", "answer": rationale}


def hub(split: str, revision: str = COMMIT) -> HubData:
    return HubData(repo="openai/gsm8k", config="main", split=split, revision=revision, file=f"gsm8k_{split}.jsonl")


def settings(folder: Path | None = None, **changes: Any) -> Data:
    values: Row = {"source": "real", "train_size": 6, "validation_size": 3, "benchmark_size": 4, "seed": 1}
    values |= {"folder": folder and str(folder), "train": hub("train"), "benchmarks": {"gsm8k": hub("test")}}
    return Data(**(values | changes))


def write(folder: Path, train: list[Row], test: list[Row]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        text = "".join(json.dumps(one) + "\n" for one in rows)
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
    assert str(folder / "gsm8k_test.jsonl") in found.sources["gsm8k"] and "sha256 " in found.sources["train"]


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
    assert "gsm8k_train.jsonl" in said and "the row of train-00001 has no text" in said


def test_a_row_without_a_final_answer(folder: Path) -> None:
    write(folder, [row(0)], [row(100), {"question": "Why?", "answer": "It is 4."}])
    said = sentence(settings(folder))
    assert "the row of gsm8k-00001 states no final answer (#### n); leave it out of the file" in said


def test_too_few_questions(folder: Path) -> None:
    said = sentence(settings(folder, train_size=10))
    assert "12 usable questions, but data.train_size + data.validation_size ask for 13; lower one" in said
    assert len(real_data.load(settings(folder, train_size=9)).train) == 9


@pytest.mark.parametrize("lacking", [{"train": None}, {"benchmarks": {}}])
def test_data_sets_that_are_not_named(folder: Path, lacking: Row) -> None:
    assert "data.train or data.benchmarks is not set; name the data sets" in sentence(settings(folder, **lacking))


def test_neither_folder_nor_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(where: HubData) -> None:
        raise httpx.ConnectError("[Errno -3] Temporary failure\nin name resolution")

    monkeypatch.setattr(real_data, "_check_network", no_network)
    said = sentence(settings())
    assert "openai/gsm8k at e53f0488 cannot be had from the Hugging Face hub ([Errno -3] Temporary failure in" in said
    assert "or set DART_DATA to a folder with gsm8k_train.jsonl" in said


def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(repo: str, name: str, split: str, revision: str) -> list[Row]:
        asked.append((repo, name, split, revision))
        return [row(i) for i in (range(12) if split == "train" else range(100, 106))]

    monkeypatch.setattr(real_data, "_check_network", lambda where: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = real_data.load(settings())
    assert asked == [("openai/gsm8k", "main", split, COMMIT) for split in ("train", "test")]
    assert len(found.train) == 6 and found.sources["train"] == f"hub openai/gsm8k main train at {COMMIT}"


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:8], COMMIT.upper(), COMMIT + "0"])
def test_an_unpinned_revision_is_refused(tmp_path: Path, revision: str) -> None:
    overlay = tmp_path / "own.yaml"
    overlay.write_text(f"data: {{train: {{revision: '{revision}'}}}}", encoding="utf-8")
    files = ["configs/base.yaml", "configs/arms.yaml", "configs/rehearsal.yaml"]
    config.load(files)
    with pytest.raises(UserError) as caught:
        config.load([*files, overlay])
    said = str(caught.value)
    assert f"data.train.revision = '{revision}' is not allowed" in said and "the 40 hex digits of its commit" in said
    assert "\n" not in said


REAL = Path(os.environ.get("DART_DATA") or "absent")  # read before any test unsets it


@pytest.mark.skipif(not (REAL / "gsm8k_train.jsonl").is_file(), reason="needs GSM8K in the folder that DART_DATA names")
def test_all_of_gsm8k() -> None:
    found = real_data.load(settings(REAL, train_size=7273, validation_size=200, benchmark_size=100000))
    assert [len(found.train), len(found.validation), len(found.benchmarks["gsm8k"])] == [7273, 200, 1319]
    records = [*found.train, *found.validation, *found.benchmarks["gsm8k"]]
    assert len({record.question for record in records}) == len(records)
    assert not any("<<" in record.cot for record in records)
    assert all(verdict.correct for verdict in verify_many(records, [record.cot for record in records]))
