"""Revisions: what is open is filled in without touching anything else, and nothing runs before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dart import pin
from dart.config import Config, load
from dart.errors import UserError
from dart.parsing import merge, parse

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "configs/paper.yaml"
TEXT = """# Models and data.
models:
  small:   # the target
    repo: makers/small
    revision: ""        # yet to be looked up
    pad_token: null
  big: {repo: makers/big, revision: '', vocabulary: x}
data:
  train:
    sums: {repo: people/sums, revision: "", size: 3}   # a "revision" in a comment: stays
  benchmarks:
    sums:
      revision: cccccccccccccccccccccccccccccccccccccccc
      repo: people/sums
"""


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub"))


class Hub:
    """Answers as ``HfApi`` does; what it raises for a repository is in ``errors``, for reading one in ``closed``."""

    def __init__(self, errors: dict[str, Exception] | None = None, closed: dict[str, Exception] | None = None) -> None:
        self.errors, self.closed = errors or {}, closed or {}
        self.asked: list[tuple[str, str, str | None]] = []

    def __call__(self) -> Hub:
        return self

    def model_info(self, repo: str, revision: str | None, timeout: float) -> Any:
        return self._info("model", repo, revision)

    def dataset_info(self, repo: str, revision: str | None, timeout: float) -> Any:
        return self._info("dataset", repo, revision)

    def _info(self, kind: str, repo: str, revision: str | None) -> Any:
        self.asked.append((kind, repo, revision))
        if repo in self.errors:
            raise self.errors[repo]
        return type("Info", (), {"sha": revision or ("a" if kind == "model" else "b") * 40})

    def auth_check(self, repo: str, repo_type: str) -> None:
        if repo in self.closed:
            raise self.closed[repo]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(hub: Hub, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(pin, "HfApi", hub)
    return pin.main([str(argument) for argument in arguments])


def test_empty_revisions_are_filled_in_and_nothing_else_changes(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub()
    assert run(hub, monkeypatch, file) == 0
    expected = TEXT.replace('repo: makers/small\n    revision: ""', f'repo: makers/small\n    revision: "{"a" * 40}"')
    expected = expected.replace("makers/big, revision: ''", f'makers/big, revision: "{"a" * 40}"')
    expected = expected.replace('people/sums, revision: ""', f'people/sums, revision: "{"b" * 40}"')
    assert file.read_text() == expected
    assert sorted(hub.asked) == [
        ("dataset", "people/sums", None),
        ("model", "makers/big", None),
        ("model", "makers/small", None),
    ]
    assert capsys.readouterr().out.splitlines()[0] == f"models.small: makers/small at {'a' * 40}"
    assert run(hub, monkeypatch, file) == 0 and file.read_text() == expected and len(hub.asked) == 3


def test_a_repository_of_two_places_is_asked_for_once_and_digits_stay_text(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, text = Hub(), re.sub(r'revision: "[0-9a-f]{40}"', 'revision: ""', PAPER.read_text())
    filled, lines = pin.fill(text, hub)
    places = pin.places(text)
    assert len({place.where.repo for place in places if not place.where.revision}) == len(hub.asked) < len(lines)
    assert [line for line in filled.splitlines() if "revision" not in line] == [
        line for line in text.splitlines() if "revision" not in line
    ]
    assert all(isinstance(place.where.revision, str) and place.where.revision for place in pin.places(filled))
    assert all(isinstance(model["revision"], str) for model in yaml.safe_load(filled)["models"].values())
    monkeypatch.setattr(hub, "_info", lambda *_: type("Info", (), {"sha": "1" * 40}))
    digits, _ = pin.fill(text, hub)
    assert {model["revision"] for model in yaml.safe_load(digits)["models"].values()} == {"1" * 40}


def test_check_asks_for_every_pinned_revision_and_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub()
    assert run(hub, monkeypatch, file, "--check") == 0 and file.read_text() == TEXT
    assert hub.asked == [("dataset", "people/sums", "c" * 40)]
    hub.errors = {"people/sums": RevisionNotFoundError("no", response=response(404))}
    assert run(hub, monkeypatch, file, "--check") == 2
    assert "data.benchmarks.sums: people/sums at cccccccc does not exist, though people/sums does; correct its" in (
        capsys.readouterr().err
    )


PROBLEMS = {
    "missing": (RepositoryNotFoundError("no", response=response(404)), "makers/big does not exist on the Hugging Face"),
    "network": (
        httpx.ConnectError("[Errno -2] Name or\nservice"),
        "cannot be had from the Hugging Face hub ([Errno -2]",
    ),
    "offline": (LocalEntryNotFoundError("no"), "(neither network nor a copy in the cache); check network and name"),
    "slow": (httpx.ReadTimeout("timed out"), "makers/big cannot be had from the Hugging Face hub (timed out)"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_cannot_be_looked_up_is_told_in_one_sentence_and_nothing_is_written(
    problem: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, sentence = PROBLEMS[problem]
    assert run(Hub({"makers/big": error}), monkeypatch, file) == 2 and file.read_text() == TEXT
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("models.big: ") and sentence in told.err
    assert len(told.err.splitlines()) == 1


def test_a_gated_repository_is_pinned_and_the_way_in_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub(closed={"makers/small": GatedRepoError("no", response=response(403))})
    assert run(hub, monkeypatch, file) == 2
    assert not [place for place in pin.places(file.read_text()) if not place.where.revision]
    told = capsys.readouterr().err
    assert told.startswith("models.small: makers/small is gated: accept its licence") and "`hf auth login`" in told
    assert len(told.splitlines()) == 1


def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Hub(), monkeypatch, tmp_path / "absent.yaml") == 2
    assert "absent.yaml; `ls configs` shows" in capsys.readouterr().err


def config(scale: str, **changes: Any) -> Config:
    """The configuration of a scale, with every revision that configs/paper.yaml knows left open."""
    files = [ROOT / f"configs/{name}.yaml" for name in ("base", "arms", scale)]
    loaded = load(files).model_dump(mode="json")
    data = loaded["data"]
    for where in (*loaded["models"].values(), *data["train"].values(), *data["benchmarks"].values()):
        where["revision"] = ""
    return parse(Config, merge(loaded, changes), "test")


def test_nothing_runs_before_all_that_it_reads_is_pinned() -> None:
    with pytest.raises(UserError) as caught:
        pin.require(config("paper"), {})
    said = str(caught.value)
    assert said.startswith("data.train.gsm8k (openai/gsm8k) has no pinned revision and 15 more have none either; ")
    assert "`python -m dart.pin configs/paper.yaml`" in said and "\n" not in said
    with pytest.raises(UserError, match=r"^models\.qwen3_0_6b \(Qwen/Qwen3-0\.6B\) has no pinned revision and 4 more"):
        pin.require(config("paper"), {"DART_DATA": "folder"})
    with pytest.raises(UserError, match=r"^data\.train\.gsm8k .* and 10 more"):
        pin.require(config("paper"), {"DART_MODELS": "folder"})
    pin.require(config("paper"), {"DART_DATA": "folder", "DART_MODELS": "folder"})
    pin.require(config("rehearsal"), {"DART_DATA": "folder"})  # its models are trained by the DAG
    pin.require(config("nano"), {})


def test_a_benchmark_that_is_not_evaluated_needs_no_revision() -> None:
    commit = {"revision": "a" * 40}
    data = {"train": dict.fromkeys(config("paper").data.train, commit), "benchmarks": {"gsm8k": commit}}
    tasks = {"tasks": ["gsm8k"], "further": []}
    pin.require(config("rehearsal", data=data, evaluate=tasks), {})
    with pytest.raises(UserError, match=r"^data\.benchmarks\.mawps \(MU-NLPC/Calc-mawps\) has no pinned revision;"):
        pin.require(config("rehearsal", data=data, evaluate=tasks | {"further": ["mawps"]}), {})
