"""The figure of all arms and the page of the study: what is drawn, what order it has, what a missing part says."""

from __future__ import annotations

import json
import re
import sys

import pandas as pd
import pytest

from analysis import figure_arms, study_report
from analysis.study import view_of
from dart import config
from dart.errors import UserError
from tests.test_figures import legible

FILES = [f"configs/{name}.yaml" for name in ("base", "arms", "nano")]


@pytest.fixture(scope="module")
def view():
    return view_of(config.load(FILES), [*config.load(FILES).every_arm()])


@pytest.fixture(scope="module")
def table(view, tmp_path_factory):
    """Every arm of nano but one on one target, with accuracies that differ."""
    rows = [
        {"target": target, "group": view.groups[arm], "arm": arm, "seeds": 3, "average": 40 + i, "average_low": 39 + i,
         "average_high": 42 + i}
        for target in view.targets for i, arm in enumerate(view.arms) if (target, arm) != ("birch", "dft")
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("tables") / "arms.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_every_arm_is_drawn_at_its_accuracy_under_its_group(table, view):
    found = figure_arms.read_table(table, view)
    lines, figure = figure_arms.layout(found), figure_arms.draw(found, view)
    assert legible(figure) >= {"BASELINES", "ABLATIONS", "CONTROLS", "dart", "pear_token", "no_gate", "mean of sft"}
    assert not any(arm.endswith(("_25", "_0.5")) or "learning_rate" in arm for _, arm in lines)
    for ax, target in zip(figure.axes, ("ash", "birch"), strict=True):
        marks = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("None", "")}
        drawn = {lines[int(place)][1]: mean for place, mean in marks.items()}
        mine = found[found["target"] == target]
        assert drawn == dict(zip(mine["arm"], mine["average"], strict=True))


def test_the_figure_says_what_it_lacks(table, view, tmp_path):
    with pytest.raises(UserError, match="run `snakemake arms` first"):
        figure_arms.read_table(tmp_path / "arms.csv", view)
    with pytest.raises(UserError, match="nothing to draw"):
        figure_arms.read_table(table, view.model_copy(update={"arms": ("absent",)}))


@pytest.mark.parametrize("rows", [study_report.LONG, study_report.LONG + 1])
def test_a_long_table_is_folded(tmp_path, rows):
    path = tmp_path / "claims.md"
    path.write_text("# Title\n\n| a |\n| :-- |\n" + "| 1 |\n" * rows)
    body = study_report.table(path)["body"]
    assert body.count("<tr>") == rows + 1
    assert (f"<summary>{rows} rows</summary>" in body) == ("<details>" in body) == (rows > study_report.LONG)


def test_the_page_shows_tables_and_figures_in_their_order(table, view, tmp_path, monkeypatch):
    for name in study_report.TABLES:
        (tmp_path / f"{name}.md").write_text(f"# Title of {name}\n\n## Part\n\n| a | b |\n| :-- | --: |\n| <i> | 2 |\n")
    line = ["--out", str(tmp_path), "--view", view.model_dump_json(), "--table", str(table)]
    monkeypatch.setattr(sys, "argv", [figure_arms.NAME, *line])
    figure_arms.main()
    for kind in ("png", "json"):
        (tmp_path / f"figure_sweeps.{kind}").write_bytes((tmp_path / f"figure_arms.{kind}").read_bytes())
    page = study_report.render(tmp_path, tmp_path)
    assert re.findall(r'<section id="(\w+)">', page) == list(study_report.ORDER)
    assert page.count("<h2>Title of ") == 4 and page.count(">&lt;i&gt;</td>") == 4
    alt = json.loads((tmp_path / "figure_arms.json").read_text())["alt"]
    assert "birch base 40.0 %" in alt and page.count(f'alt="{alt}"') == 2
    (tmp_path / "figure_arms.png").unlink()
    with pytest.raises(UserError, match="run `snakemake figure_arms` first"):
        study_report.render(tmp_path, tmp_path)
