"""The study on one page: claims, all arms, sweeps, learning rates and fidelity, in one self-contained file.

``python -m analysis.study_report --out report --tables tables --figures figures`` writes ``study.html`` from the
Markdown and the figures that the other scripts wrote. Nothing is computed here.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import jinja2
import markdown_it

from analysis import files
from dart.errors import UserError

NAME = "study_report"
TABLES = ("claims", "arms", "learning_rates", "fidelity")
FIGURES = ("figure_arms", "figure_sweeps")
LONG = 100  # rows of a table that is shown unfolded
ORDER = ("claims", "figure_arms", "arms", "figure_sweeps", "learning_rates", "fidelity")


def table(path: Path) -> dict[str, str]:
    """Return name, title and body (HTML) of a Markdown page whose first line is its title."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run `snakemake {path.stem}` first.")
    title, _, body = path.read_text(encoding="utf-8").partition("\n")
    html = markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table").render(body)
    # A heading of the page is one of the section here; wide tables scroll by themselves.
    html = html.replace("<h3", "<h4").replace("</h3>", "</h4>").replace("<h2", "<h3").replace("</h2>", "</h3>")
    html = re.sub("<table>.*?</table>", _shown, html, flags=re.DOTALL)
    return {"name": path.stem, "title": title.removeprefix("# "), "body": html}


def _shown(found: re.Match[str]) -> str:
    """A table that scrolls by itself, folded where it would bury what comes after it."""
    rows = found[0].count("<tr>") - 1
    table = f'<div class="scroll" tabindex="0" role="region" aria-label="Table">{found[0]}</div>'
    return table if rows <= LONG else f"<details><summary>{rows} rows</summary>{table}</details>"


def figure(path: Path) -> dict[str, Any]:
    """Return name, title, caption, alt and image (PNG in base64) of a figure."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run `snakemake {path.stem}` first.")
    words = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return {**words, "name": path.stem, "image": base64.b64encode(path.read_bytes()).decode()}


def render(tables: Path, figures: Path) -> str:
    """Return the page."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections = [figure(figures / f"{name}.png") if name in FIGURES else table(tables / f"{name}.md") for name in ORDER]
    return environment.get_template("study.html.j2").render(sections=sections)


def main() -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(prog=f"python -m analysis.{NAME}", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for study.html")
    parser.add_argument("--tables", type=Path, required=True, help=f"folder with {', '.join(TABLES)} as Markdown")
    parser.add_argument("--figures", type=Path, required=True, help=f"folder with {', '.join(FIGURES)}")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    partial = arguments.out / "study.html.partial"
    partial.write_text(render(arguments.tables, arguments.figures), encoding="utf-8")
    os.replace(partial, arguments.out / "study.html")


if __name__ == "__main__":
    files.command(main, NAME)
