"""What a study is expected to be made of before it runs: models' sizes, numbers of texts and their lengths.

Everything follows from the table of runs and the named expectations of ``configs/lengths.yaml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dart.errors import UserError
from dart.parsing import Knobs, NonNegative, Positive, Share, parse
from dart.plan.cost_model import Size
from dart.recipes import COT, DATA, Run
from dart.runs import VALIDATION
from dart.sections import Architecture

LENGTHS = Path(__file__).parents[2] / "configs" / "lengths.yaml"


class Benchmark(Knobs):
    """Units of a prompt and of an answer; ``questions`` of the published test set, where there is one."""

    prompt: Positive
    answer: Positive
    questions: int | None = None


class Published(Knobs):
    """Size of a model of the hub, as its card and configuration say."""

    parameters: int
    vocabulary: int
    layers: int


class Lengths(Knobs):
    """Expected lengths (in units) and shares of one data source; the file says what each is and where it is from."""

    tokens_per_unit: dict[str, Positive]
    vocabulary: dict[str, int]
    question: Positive
    original: Positive
    attempt: Positive
    answer: Positive
    rewrite: Positive
    frame: NonNegative
    bridge: Positive
    distinct_rollouts: Share
    distinct: Share
    longest: Positive
    solvable: Share
    right: Share
    hard: Share
    simple: Share
    solved: Share
    valid: Share
    zoo: dict[str, Positive]
    models: dict[str, Published] = {}
    benchmarks: dict[str, Benchmark]


def lengths(source: str, path: Path = LENGTHS) -> Lengths:
    """Read the expectations for a data source (``data.source``)."""
    return parse(Lengths, yaml.safe_load(path.read_text(encoding="utf-8"))[source], f"{path.name}: {source}")


def sizes(runs: Sequence[Run], known: Lengths) -> dict[str, Size]:
    """Return folder -> size of every model that is not made out of another one."""
    made = next(run.spec for run in runs if run.stage == "make_data")
    vocabulary = known.vocabulary.get(made["tokenizer"], made["vocabulary"])
    built = {
        run.folder: Size.built(Architecture(**run.spec["architecture"]), vocabulary, skilled=run.spec["steps"] > 0)
        for run in runs
        if run.stage == "train_zoo"
    }
    return built | {run.folder: _published(run.spec["repo"], known) for run in runs if run.stage == "fetch_model"}


def _published(repo: str, known: Lengths) -> Size:
    if repo not in known.models:
        raise UserError(f"configs/lengths.yaml does not tell the size of {repo}; add it under real.models.")
    return Size.estimated(**known.models[repo].model_dump())


class Expected:
    """Expectations about the folders of one table of runs."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = {run.folder: run for run in runs}
        self.made = self.runs[DATA].spec
        self.known = lengths(self.made["data"]["source"])
        self.models = sizes(runs, self.known)
        tokenizer = "hub" if any(run.stage == "fetch_model" for run in runs) else self.made["tokenizer"]
        self.tokens_per_unit = self.known.tokens_per_unit[tokenizer]
        data = self.made["data"]
        self.asked: int = data["train_size"] or sum(one["size"] for one in data["train"].values())

    def tokens(self, name: str) -> float:
        """Tokens of the length called ``name`` in ``configs/lengths.yaml``."""
        return getattr(self.known, name) * self.tokens_per_unit

    def completion(self, size: Size, name: str, most: int) -> float:
        """Tokens that a model samples: the expected ones up to ``most``, or all of them when it never learnt to end."""
        return min(self.tokens(name), most) if size.skilled else most

    def rewrite_prompt(self) -> float:
        """Tokens of a request to rewrite a demonstration."""
        return self.tokens("question") + self.tokens("original") + self.tokens("frame")

    def size(self, folder: str) -> Size:
        """Size of the model in a folder: its own, or that of the model it was trained from."""
        if folder in self.models:
            return self.models[folder]
        inputs = self.runs[folder].inputs
        return self.size(inputs["mapper"] if "mapper" in inputs else inputs["model"])

    def attempts(self, most: int, size: Size) -> tuple[float, float]:
        """Return samples a question and the share of questions kept when the expert may try ``most`` times.

        A share ``solvable`` of the questions verifies with the chance ``right`` at each attempt, the others never.
        """
        solvable, right = (self.known.solvable, self.known.right) if size.skilled else (0.0, 1.0)
        kept = solvable * (1 - (1 - right) ** most)
        return kept / right + (1 - solvable) * most, kept

    def difficulty(self, rollouts: str) -> tuple[float, float, float]:
        """Return the shares of hard, of simple and of ever solved questions for the model that made the rollouts."""
        if not self.size(self.runs[rollouts].inputs["model"]).skilled:
            return 1.0, 0.0, 0.0
        return self.known.hard, self.known.simple, self.known.solved

    def demonstrations(self, folder: str) -> tuple[float, float]:
        """Return how many demonstrations a folder will hold, and the mean tokens of their CoT."""
        run = self.runs[folder]
        match run.stage:
            case "make_data":  # the native ones
                return self.asked, self.tokens("answer")
            case "generate_cot":
                return self._original(run)
            case "adapt_data":
                return self._adapted(run)
            case "rework_data":
                return self._reworked(run)
            case "select_data":
                return self._selected(run)
        raise ValueError(f"{folder} holds no demonstrations.")

    def _original(self, run: Run) -> tuple[float, float]:
        asked, cot = self.asked, run.spec["cot"]
        if cot["source"] == "human":
            return asked, self.tokens("original")
        return asked * self.attempts(cot["attempts"], self.size(run.inputs["model"]))[1], self.tokens("original")

    def _adapted(self, run: Run) -> tuple[float, float]:
        """A demonstration without a valid rewrite keeps its original, is dropped, or keeps an invalid rewrite."""
        (asked, original), knobs = self.demonstrations(COT), run.spec["adapt"]
        size = self.size(run.inputs["mapper"])
        valid = self.known.valid if size.skilled else 0.0
        rewrite = self.completion(size, "rewrite", knobs["sampling"]["max_new_tokens"])
        if knobs["on_invalid"] == "keep_original":
            return asked, valid * rewrite + (1 - valid) * original
        return asked * (valid if knobs["on_invalid"] == "drop" else 1.0), rewrite

    def _reworked(self, run: Run) -> tuple[float, float]:
        """Medium questions as they are, hard ones with the expert's bridge where it verifies."""
        asked, original = self.demonstrations(run.inputs["data"])
        hard, simple, _ = self.difficulty(run.inputs["rollouts"])
        kept = self.attempts(run.spec["rework"]["attempts"], self.size(run.inputs["model"]))[1]
        longer = hard * kept * (self.tokens("bridge") - original)
        return asked * (1 - simple), original + longer / (1 - simple)

    def _selected(self, run: Run) -> tuple[float, float]:
        asked, original = self.demonstrations(run.inputs["questions" if "questions" in run.inputs else "data"])
        if run.spec["rule"] in ("preferred", "random"):
            return asked * run.spec["select"]["share"], original
        solved = self.difficulty(run.inputs["rollouts"])[2]
        if not solved:  # select.on_empty: keep_all
            return asked, original
        return asked * solved, self.tokens("answer") if run.spec["rule"] == "verified" else original

    def benchmark(self, task: str) -> Benchmark:
        """Expectations about a task; an unknown one is a :class:`UserError`."""
        if task not in self.known.benchmarks:
            listed = ", ".join(self.known.benchmarks)
            raise UserError(f"configs/lengths.yaml does not tell the lengths of the task {task}; it has {listed}.")
        return self.known.benchmarks[task]

    def questions(self, task: str) -> int:
        """How many questions a task asks."""
        data: dict[str, Any] = self.made["data"]
        if task == VALIDATION:  # of every family of the world
            kinds = len(self.known.benchmarks) - 1 if data["source"] == "world" else len(data["train"])
            return data["validation_size"] * kinds
        published = self.benchmark(task).questions
        return data["benchmark_size"] if published is None else min(published, data["benchmark_size"])

    def benchmarks(self) -> list[str]:
        """Tasks whose questions the study makes or reads."""
        real = self.made["data"]["source"] == "real"
        return [*self.made["data"]["benchmarks"]] if real else [t for t in self.known.benchmarks if t != VALIDATION]
