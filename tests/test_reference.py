"""The numbers in the documents are those of the committed reference files; nobody copies them by hand unnoticed."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results/reference/nano"
TARGETS = ("ash", "birch")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows(path: str) -> list[list[str]]:
    """The rows of all tables of a document."""
    return [cells(line) for line in (ROOT / path).read_text().splitlines() if line.startswith("| ")]


def written(row: pd.Series, name: str = "average", ends: tuple[str, str] = ("average_low", "average_high")) -> str:
    return f"{row[name]:.1f} [{row[ends[0]]:.1f}, {row[ends[1]]:.1f}]"


def test_readme_shows_the_main_table():
    table = pd.read_csv(REFERENCE / "table1.csv")
    averages = table[table["task"] == "average"].set_index(["arm", "target"])
    for arm, title in {"base": "base model", "sft": "SFT", "dart": "DART", "rl": "direct RL"}.items():
        told = [written(averages.loc[(arm, target)], "mean", ("low", "high")) for target in TARGETS]
        assert [row[1:] for row in rows("README.md") if row[0].startswith(title)] == [told]


def test_results_show_every_arm():
    table = pd.read_csv(REFERENCE / "arms.csv").set_index(["arm", "target"])
    arms = [name for name, group in zip(table.index, table["group"], strict=True) if group != "sweeps"]
    shown = {row[0].strip("`"): row[1:] for row in rows("docs/results_nano.md")}
    for arm in {name for name, _ in arms}:
        assert shown[arm][:2] == [written(table.loc[(arm, target)]) for target in TARGETS], arm


def test_results_show_every_point_of_the_sweeps():
    points = pd.read_csv(REFERENCE / "figure_sweeps.csv")
    pairs = points.groupby(["sweep", "arm", "value"])
    shown = [row[-2:] for row in rows("docs/results_nano.md")]
    for key, both in pairs:
        told = both.set_index("target")
        assert [written(told.loc[target], "mean", ("low", "high")) for target in TARGETS] in shown, key


@pytest.mark.parametrize("target", TARGETS)
def test_results_show_every_verdict(target):
    table = pd.read_csv(REFERENCE / "claims.csv").set_index(["claim", "target"])
    shown = {row[0].strip("`"): row[1:] for row in rows("docs/results_nano.md")}
    for claim in table.index.get_level_values("claim").unique():
        assert shown[claim][TARGETS.index(target)].startswith(table.loc[(claim, target), "verdict"]), claim


def test_figures_of_the_documents_are_there():
    for name in ("README.md", "docs/results_nano.md"):
        for link in re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / name).read_text()):
            assert ((ROOT / name).parent / link).is_file(), link
