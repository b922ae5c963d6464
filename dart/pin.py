"""Look up what the configuration leaves open: the revisions of models and data sets.

``python -m dart.pin configs/paper.yaml`` asks the Hugging Face hub for the newest commit of every repository whose
revision is empty and writes it into the file, comments and layout untouched; ``--check`` asks whether the revisions
that are there exist, and changes nothing. The workflow calls :func:`require` before anything runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi

from dart import hub
from dart.checks import benchmarks
from dart.config import Config
from dart.errors import UserError
from dart.sources import DATA_FOLDER, MODEL_FOLDER, Pinned

COMMAND = "`python -m dart.pin configs/paper.yaml`"
SECONDS = 20.0  # how long the hub may take to answer


@dataclass(frozen=True)
class Place:
    """A revision in a configuration file: key, kind of repository, and where the text of its value is."""

    key: str
    kind: str
    where: Pinned
    start: int
    end: int


def require(config: Config, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a configuration that would read an unpinned data set or model from the hub, in one sentence.

    What is read from a local folder (``data.folder``, ``DART_DATA``, ``DART_MODELS``) needs no revision.
    """
    wanted: dict[str, Pinned] = {}
    data = config.data
    if data.source == "real" and not (data.folder or environment.get(DATA_FOLDER)):
        wanted |= {f"data.train.{name}": where for name, where in data.train.items()}
        wanted |= {f"data.benchmarks.{task}": data.benchmarks[task] for task in benchmarks(config)}
    if not environment.get(MODEL_FOLDER):
        named = dict.fromkeys([*config.targets, config.expert, config.mapper.start])
        wanted |= {f"models.{name}": config.models[name] for name in named if name in config.models}
    missing = [f"{key} ({where.repo})" for key, where in wanted.items() if not where.revision]
    if missing:
        more = len(missing) - 1
        others = f" and {more} more {'has' if more == 1 else 'have'} none either" if more else ""
        raise UserError(
            f"{missing[0]} has no pinned revision{others}; {COMMAND} asks the hub and fills them in, or {DATA_FOLDER} "
            f"and {MODEL_FOLDER} name folders with local copies."
        )


def places(text: str) -> list[Place]:
    """Return every revision in a configuration file's text: of models (under ``models``) and of data sets."""
    return list(_walk(yaml.compose(text), ()))


def _walk(node: yaml.Node | None, path: tuple[str, ...]) -> Iterator[Place]:
    if not isinstance(node, yaml.MappingNode):
        return
    found = {key.value: value for key, value in node.value}
    if {"repo", "revision"} <= set(found):
        value = found["revision"]
        where = Pinned(repo=found["repo"].value, revision=value.value)
        kind = "model" if path[0] == "models" else "dataset"
        yield Place(".".join(path), kind, where, value.start_mark.index, value.end_mark.index)
    for name, value in found.items():
        yield from _walk(value, (*path, name))


def fill(text: str, api: Any) -> tuple[str, list[str]]:
    """Return the text with every empty revision filled in, and a line for each; raises :class:`UserError`."""
    known: dict[tuple[str, str], str] = {}
    lines = []
    empty = [place for place in places(text) if not place.where.revision]
    for place in reversed(empty):  # from the end, so that positions before it stay right
        name = (place.kind, place.where.repo)
        if name not in known:
            known[name] = _ask(place, api)
        # In quotes, or YAML would read digits alone as a number.
        text = f'{text[: place.start]}"{known[name]}"{text[place.end :]}'
        lines.append(f"{place.key}: {place.where.repo} at {known[name]}")
    return text, lines[::-1]


def check(text: str, api: Any) -> list[str]:
    """Return a line for every pinned revision; raises :class:`UserError` for one that does not exist."""
    pinned = [place for place in places(text) if place.where.revision]
    return [f"{place.key}: {place.where.repo} at {_ask(place, api)}" for place in pinned]


def denied(text: str, api: Any) -> list[str]:
    """Return a sentence for every repository that exists, but that this user may not read (gated ones)."""
    found: dict[str, str] = {}
    for place in places(text):
        try:
            api.auth_check(place.where.repo, repo_type=place.kind)
        except hub.ERRORS as error:
            found[place.where.repo] = _told(error, place)
    return list(found.values())


def _ask(place: Place, api: Any) -> str:
    """The commit of a place's revision, of the newest where it is empty."""
    look = api.model_info if place.kind == "model" else api.dataset_info
    try:
        return look(place.where.repo, revision=place.where.revision or None, timeout=SECONDS).sha
    except hub.ERRORS as error:
        raise UserError(_told(error, place)) from None


def _told(error: Exception, place: Place) -> str:
    return f"{place.key}: {hub.sentence(error, place.where, 'name another')}"


def main(argv: Sequence[str] | None = None) -> int:
    """Fill or check the revisions of one configuration file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dart.pin", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="configuration file, such as configs/paper.yaml")
    parser.add_argument("--check", action="store_true", help="ask whether the pinned revisions exist; change nothing")
    arguments = parser.parse_args(argv)
    try:
        if not arguments.file.is_file():
            raise UserError(f"There is no configuration file {arguments.file}; `ls configs` shows those there are.")
        text, api = arguments.file.read_text(encoding="utf-8"), HfApi()
        if arguments.check:
            lines = check(text, api)
        else:
            text, lines = fill(text, api)
            arguments.file.write_text(text, encoding="utf-8")
        problems = denied(text, api)
    except UserError as error:
        lines, problems = [], [str(error)]
    for line in lines:
        print(line)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
