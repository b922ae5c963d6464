"""The command line, tables and captions that the scripts of this package share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.study import View
from dart.errors import UserError
from dart.manifest import write_json
from dart.parsing import parse
from dart.units import count as count  # part of this module's interface
from dart.units import duration as duration


def parser(name: str, description: str | None, view: bool = True) -> argparse.ArgumentParser:
    """Return a parser with ``--out``, ``--manifests`` and, where the script compares arms, ``--view``."""
    # @FILE stands for the lines of a file: a study's manifests do not fit a command line.
    arguments = argparse.ArgumentParser(
        prog=f"python -m analysis.{name}", description=description, fromfile_prefix_chars="@"
    )
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("--out", type=Path, required=True, help="folder for the results")
    arguments.add_argument("--manifests", type=Path, nargs="+", required=True, help="manifest.json of finished stages")
    if view:
        arguments.add_argument("--view", required=True, help="JSON file, or an inline JSON object: analysis.study.View")
    return arguments


def read_json(option: str, argument: str) -> Any:
    """Read an option's value: a JSON file, or an inline JSON object."""
    if argument.lstrip().startswith("{"):
        return json.loads(argument)
    if not Path(argument).is_file():
        raise UserError(f"{option} {argument} is neither a file nor a JSON object; give one of the two.")
    return json.loads(Path(argument).read_text(encoding="utf-8"))


def read_view(argument: str) -> View:
    """Read ``--view``: a file or an inline object."""
    return parse(View, read_json("--view", argument), "--view")


def command(main: Callable[[], None], name: str) -> None:
    """Run a script's ``main``; a user's error becomes one sentence and exit status 2."""
    try:
        main()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write CSV: UTF-8, ``\\n`` line ends, floats with six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are right-aligned."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows]) + "\n"


def terminal(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns stand one below the other, for the terminal."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in padded) + "\n"


def write_caption(out: Path, name: str, title: str, caption: str, alt: str) -> None:
    """Write ``<name>.json``: the figure's title, its caption and its text alternative, for the report."""
    write_json(out / f"{name}.json", {"title": title, "caption": caption, "alt": alt})
