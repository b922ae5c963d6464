"""Sweeps of known truth: the curves, the value that is chosen, and a ranking that flips with the learning rate."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from analysis import figure_sweeps, learning_rates, sweeps
from analysis.study import read_runs, samples
from dart.errors import UserError
from tests import analysis_fixture
from tests.analysis_fixture import SWEPT, sweep_view, view
from tests.test_figures import boxes, legible

VIEW = sweep_view()


@pytest.fixture(scope="module")
def tree(study, tmp_path_factory):
    """The study with swept arms: manifests of all runs on the benchmarks, and those on the validation questions."""
    root = shutil.copytree(study[0], tmp_path_factory.mktemp("sweeps") / "study")
    added, validation = analysis_fixture.write_sweeps(root)
    return [*(root / path.relative_to(study[0]) for path in study[1]), *added], validation


@pytest.fixture(scope="module")
def answers(tree):
    return samples(read_runs(tree[0]))


@pytest.fixture(scope="module")
def validation(tree):
    return samples(read_runs(tree[1]))


@pytest.fixture(scope="module")
def points(answers):
    return figure_sweeps.points(answers, VIEW)


@pytest.fixture(scope="module")
def chosen(validation):
    return learning_rates.validated(validation, VIEW)


def test_every_point_is_the_mean_of_its_samples_over_the_common_seeds(points, answers):
    final = answers[(answers["checkpoint"] == "model") & answers["seed"].isin((1, 2))]  # the arms have seed 3, too
    means = 100 * final.groupby(["target", "arm"])["correct"].mean()  # all tasks have as many questions
    for row in points.to_dict("records"):
        assert row["mean"] == pytest.approx(means[row["target"], row["name"]])
        assert row["low"] < row["mean"] < row["high"] and row["seeds"] == 2
        true = SWEPT[row["sweep"]][row["arm"]].get(row["value"])
        assert true is None or row["mean"] == pytest.approx(100 * true, abs=6)
    assert len(points) == 2 * (3 + 1 + 6 + 9)


def test_an_arm_of_its_own_may_be_a_point(points):
    row = points[points["value"] == 0]
    assert set(row["name"]) == {"best_of_n"} and set(row["sweep"]) == {"mapper_steps"} and len(row) == 2
    assert list(points[points["configured"]]["value"].unique()) == [60, 1500, 2e-4, 2e-5]
    assert "At 0 mapper RL steps: best_of_n." in figure_sweeps.describe(points, VIEW)[0]


def test_points_that_were_not_run_are_left_out(answers):
    gone = answers["arm"].isin(["best_of_n", "dart_mapper_steps_120"]) & (answers["target"] == "ash")
    gone |= answers["arm"].str.contains("data_size")
    table = figure_sweeps.points(answers[~gone], VIEW)
    steps = table[table["sweep"] == "mapper_steps"].groupby("target")["value"].apply(list)
    assert steps.to_dict() == {"ash": [15, 60], "birch": [0, 15, 60, 120]}
    figure = figure_sweeps.draw(table, figure_sweeps.untrained(answers, VIEW), VIEW)
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert labels == ["mapper RL steps"] * 2 + ["learning rate"] * 2
    without = answers[~answers["arm"].str.contains("_x|_steps_|_size_|_rate_|best_of")]
    with pytest.raises(UserError, match="No swept arm was evaluated"):
        figure_sweeps.points(without, VIEW)


def test_a_sweep_run_for_one_target_leaves_the_other_panel_empty(answers):
    one = answers[answers["target"] == "birch"]
    figure = figure_sweeps.draw(figure_sweeps.points(one, VIEW), figure_sweeps.untrained(one, VIEW), VIEW)
    assert [len(ax.containers) for ax in figure.axes] == [0, 1, 0, 2, 0, 3]
    assert len(boxes(figure)) > 5


def test_points_without_a_common_seed_are_refused(answers):
    other = answers.assign(seed=answers["seed"].where(answers["arm"] != "dart", 9))
    with pytest.raises(UserError, match="dart_mapper_steps_120 have no seed in common for target ash"):
        figure_sweeps.points(other, VIEW)


def test_the_figure_is_legible_and_marks_the_configuration(points, answers):
    figure = figure_sweeps.draw(points, figure_sweeps.untrained(answers, VIEW), VIEW)
    texts = legible(figure)
    assert {"target ash", "target birch", "learning rate", "Base model", "2e-4", "1500", "0"} <= texts
    rings = [
        line.get_xdata()[0]
        for line in figure.axes[0].lines
        if line.get_markersize() == figure_sweeps.RING["markersize"]
    ]
    assert rings == [60]
    level = [line for line in figure.axes[0].lines if line.get_label() == "Base model"]
    base = answers[(answers["arm"] == "base") & (answers["target"] == "ash")]["correct"].mean()
    assert level[0].get_ydata()[0] == pytest.approx(100 * base)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (60.0, "60"), (0.5, "0.5"), (2e-4, "2e-4"), (2.5e-5, "2.5e-5"), (1e-6, "1e-6")]
)
def test_values_are_written_briefly(value, text):
    assert sweeps.written(value) == text


def test_the_figure_is_written_with_its_numbers_and_words(tree, tmp_path, monkeypatch, capsys):
    given = ["--out", str(tmp_path), "--view", VIEW.model_dump_json(), "--manifests", *map(str, tree[0])]
    monkeypatch.setattr(sys, "argv", [figure_sweeps.NAME, *given])
    figure_sweeps.main()
    assert (tmp_path / "figure_sweeps.png").stat().st_size > 20_000 and (tmp_path / "figure_sweeps.pdf").is_file()
    words = json.loads((tmp_path / "figure_sweeps.json").read_text())
    table = pd.read_csv(tmp_path / "figure_sweeps.csv")
    best = table[(table["name"] == "sft_learning_rate_5e-05") & (table["target"] == "ash")].iloc[0]
    assert f"learning rate, ash, SFT on original CoT: {best['mean']:.1f} % at 5e-5" in words["alt"]
    assert "At 0 mapper RL steps: best_of_n." in words["caption"]
    printed = next(line for line in capsys.readouterr().out.splitlines() if "| 5e-5 " in line and "| SFT " in line)
    assert f"| {best['mean']:.1f} [" in printed and printed.startswith("| learning rate ")


def test_the_best_value_is_that_of_the_highest_validation_accuracy(chosen, validation):
    best = chosen[chosen["best"]].set_index(["target", "arm"])
    assert len(best) == 2 * 3 and len(chosen) == 2 * 9
    assert set(best.loc[(slice(None), "sft"), "value"]) == {5e-5}  # 0.75 in truth against 0.45 and 0.30
    means = 100 * validation.groupby(["target", "arm"])["correct"].mean()
    for (target, arm), row in best.iterrows():
        mine = chosen[(chosen["target"] == target) & (chosen["arm"] == arm)]
        assert row["mean"] == pytest.approx(means[target, row["name"]]) == mine["mean"].max()


def test_the_smaller_value_wins_a_tie(validation):
    same = validation["id"].str.endswith("0")  # one question in ten is answered, by all
    for rows in (validation, validation[::-1]):
        found = learning_rates.validated(rows.assign(correct=same), VIEW)
        best = found[found["best"] & (found["target"] == "ash")].set_index("arm")["value"].to_dict()
        assert best == {"sft": 5e-5, "dart": 5e-5, "rl": 5e-6}


def test_the_ranking_flips_between_the_common_and_the_best_learning_rate(answers, chosen):
    found = learning_rates.comparison(answers, chosen, VIEW).set_index(["target", "arm", "reference", "at"])
    for target in VIEW.targets:
        common, best = (found.loc[(target, "dart", "sft", at)] for at in ("configured", "best"))
        assert (common["verdict"], best["verdict"]) == ("higher", "lower")
        assert (common["value"], common["reference_value"], best["reference_value"]) == (2e-4, 2e-4, 5e-5)
        assert common["seeds"] == best["seeds"] == 2  # though dart and sft have three as configured
        assert found.loc[(target, "sft", "base", "configured"), "verdict"] == "lower"
        assert found.loc[(target, "sft", "base", "best"), "verdict"] == "higher"
        assert np.isnan(found.loc[(target, "sft", "base", "best"), "reference_value"])
    final = answers[(answers["checkpoint"] == "model") & (answers["target"] == "ash") & answers["seed"].isin((0, 1, 2))]
    means = 100 * final.groupby("arm")["correct"].mean()
    assert found.loc[("ash", "dart", "sft", "configured"), "mean"] == pytest.approx(means["dart"] - means["sft"])
    gap = means["sft_learning_rate_5e-05"] - means["base"]
    assert found.loc[("ash", "sft", "base", "best"), "mean"] == pytest.approx(gap)


def test_only_swept_arms_are_compared(answers, chosen):
    wider = sweep_view(comparisons=(("dart", "sft"), ("dart", "best_of_n"), ("best_of_n", "base"), ("dart", "absent")))
    found = learning_rates.comparison(answers, chosen, wider)
    assert set(zip(found["arm"], found["reference"], strict=True)) == {("dart", "sft")}


def test_values_that_were_not_validated_are_not_chosen_and_the_configured_one_must_be(validation):
    some = learning_rates.validated(validation[validation["arm"] != "sft_learning_rate_5e-05"], VIEW)
    assert set(some[some["best"] & (some["arm"] == "sft")]["value"]) == {2e-4}
    gaps = pd.DataFrame(columns=learning_rates.COLUMNS)
    assert learning_rates.render(some, gaps, VIEW).count("Not run: sft_learning_rate_5e-05.\n") == 2
    with pytest.raises(UserError, match="lacks the configured value of sft for target ash"):
        learning_rates.validated(validation[validation["arm"] != "sft"], VIEW)


def test_best_values_without_answers_on_the_benchmarks_are_named(answers, chosen):
    gone = answers[(answers["arm"] != "sft_learning_rate_5e-05") | (answers["target"] != "birch")]
    with pytest.raises(UserError, match="No evaluated run of arm sft_learning_rate_5e-05 for target birch"):
        learning_rates.comparison(gone, chosen, VIEW)


def test_other_questions_than_validation_are_refused(answers, validation):
    with pytest.raises(UserError, match="--validation was given answers to nano_gsm8k"):
        learning_rates.validated(pd.concat([answers[answers["task"] == "nano_gsm8k"], validation]), VIEW)
    with pytest.raises(UserError, match="No sweep of the view is to choose"):
        learning_rates.validated(validation, view())


def test_the_command_writes_choice_and_comparison(tree, tmp_path, monkeypatch, capsys):
    given = ["--out", str(tmp_path), "--view", VIEW.model_dump_json(), "--manifests", *map(str, tree[0])]
    monkeypatch.setattr(sys, "argv", [learning_rates.NAME, *given, "--validation", *map(str, tree[1])])
    learning_rates.main()
    text = (tmp_path / "learning_rates.md").read_text()
    assert "## Target ash: learning rate" in text
    gaps = pd.read_csv(tmp_path / "learning_rates_comparison.csv")
    cells = [
        f"{row['mean']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}] {row['verdict']}"
        for _, row in gaps[
            (gaps["target"] == "ash") & (gaps["arm"] == "dart") & (gaps["reference"] == "sft")
        ].iterrows()
    ]
    (line,) = [line for line in text.split("## Target birch")[0].splitlines() if line.startswith("| dart - sft |")]
    assert len(cells) == 2 and all(cell in line for cell in cells)
    assert pd.read_csv(tmp_path / "learning_rates.csv")["best"].sum() == 6
    [printed] = [row for row in capsys.readouterr().out.splitlines() if "| ash " in row and "| dart - sft " in row]
    assert all(cell in printed for cell in cells)
