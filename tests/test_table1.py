"""Table 1 on a study of known truth: right cells, honest intervals, labels rather than paths, refusals."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from analysis import table1
from analysis.study import cell, common_seeds, outcomes, paired, read_runs, samples, view_of
from dart.config import load
from dart.errors import UserError
from tests.analysis_fixture import TASKS, TITLES, TRUTH, view


@pytest.fixture(scope="module")
def answers(study):
    return samples(read_runs(study[1]))


@pytest.fixture(scope="module")
def table(answers):
    return table1.accuracies(answers, view())


def test_every_cell_is_the_mean_of_its_samples_and_near_the_truth(table, study):
    assert len(table) == 2 * len(TITLES) * (len(TASKS) + 1)
    for place, task in enumerate(TASKS):
        files = [study[0] / f"scores/ash-dart-s{seed}/samples.parquet" for seed in (1, 2, 3)]
        rows = pd.concat([pd.read_parquet(file) for file in files])
        expected = 100 * rows[(rows["task"] == task) & (rows["checkpoint"] == "model")]["correct"].mean()
        row = table[(table["target"] == "ash") & (table["arm"] == "dart") & (table["task"] == task)].iloc[0]
        assert row["mean"] == pytest.approx(expected)
        assert row["low"] < expected < row["high"]
        assert row["mean"] == pytest.approx(100 * TRUTH["dart"][place], abs=15)
        assert (row["seeds"], row["questions"]) == (3, 60)


def test_average_is_the_mean_over_tasks(table):
    rows = table[(table["target"] == "birch") & (table["arm"] == "sft")].set_index("task")["mean"]
    assert rows["average"] == pytest.approx(rows[list(TASKS)].mean())


def test_further_benchmarks_stand_beside_the_average_and_do_not_count_in_it(answers, table):
    tasks, further = tuple(TASKS)[:-1], tuple(TASKS)[-1:]
    changed = view().model_copy(update={"tasks": tasks, "further": further})
    found, gaps = table1.accuracies(answers, changed), table1.differences(answers, changed)
    means = found.set_index(["target", "arm", "task"])["mean"].sort_index()
    assert means["ash", "dart", "average"] == pytest.approx(means["ash", "dart"][list(tasks)].mean())
    assert (
        means["ash", "dart", further[0]]
        == table.set_index(["target", "arm", "task"])["mean"]["ash", "dart", further[0]]
    )
    assert set(gaps["task"]) == set(found["task"]) == {*tasks, "average", *further}
    header = next(line for line in table1.render(found, gaps, changed).splitlines() if line.startswith("| Arm"))
    assert header.endswith(f"| average | {further[0]} |")


def test_base_is_one_fixed_model(table):
    assert set(table[table["arm"] == "base"]["seeds"]) == {1}


def test_differences_have_the_true_sign_and_are_arm_minus_reference(answers, table):
    gaps = table1.differences(answers, view()).set_index(["target", "arm", "reference", "task"])
    means = table.set_index(["target", "arm", "task"])["mean"]
    for target in ("ash", "birch"):
        row = gaps.loc[(target, "dart", "sft", "nano_math")]
        assert row["verdict"] == "higher"
        assert row["mean"] == pytest.approx(means[target, "dart", "nano_math"] - means[target, "sft", "nano_math"])
        assert gaps.loc[(target, "sft", "base", "nano_math"), "verdict"] == "lower"
        assert gaps.loc[(target, "dart", "base", "nano_humaneval"), "verdict"] == "unclear"


def test_the_order_of_samples_does_not_matter(answers, table):
    shuffled = answers.sample(frac=1.0, random_state=0)
    pd.testing.assert_frame_equal(table1.accuracies(shuffled, view()), table)


def test_runs_are_known_by_labels_not_by_paths(study, table, tmp_path):
    paths = []
    for number, path in enumerate(path for path in study[1] if path.parent.parent.name == "scores"):
        paths.append(shutil.copytree(path.parent, tmp_path / f"x{number}") / "manifest.json")
    again = table1.accuracies(samples(read_runs(reversed(paths))), view())
    pd.testing.assert_frame_equal(again, table)


def test_early_checkpoints_stay_out_of_the_table(answers):
    final = outcomes(cell(answers, "sft", "ash"), TASKS)["nano_math"]
    first = outcomes(cell(answers, "sft", "ash", 0), TASKS)["nano_math"]
    assert first.mean() - final.mean() > 0.05


def test_arms_are_compared_on_the_seeds_that_both_have(answers):
    assert common_seeds([5, 1, 2], [2, 1, 7]) == ([1, 2], [1, 2])
    assert common_seeds([0], [3, 1]) == ([0], [1, 3])
    fewer = answers[(answers["arm"] != "sft") | (answers["seed"] > 1)]
    ours, theirs = paired(fewer, "dart", "sft", "ash", TASKS)
    every = outcomes(cell(answers, "dart", "ash"), TASKS)
    assert all(np.array_equal(ours[task], every[task][1:]) for task in TASKS)
    assert all(len(theirs[task]) == 2 for task in TASKS)
    gaps = table1.differences(fewer, view()).set_index(["target", "arm", "reference", "task"])
    row = gaps.loc[("ash", "dart", "sft", "nano_math")]
    assert row["seeds"] == 2
    assert row["mean"] == pytest.approx(100 * (ours["nano_math"].mean() - theirs["nano_math"].mean()))
    assert gaps.loc[("ash", "dart", "base", "nano_math"), "seeds"] == 3


def test_arms_without_a_common_seed_are_refused_in_words(answers):
    rows = answers[((answers["arm"] == "dart") & (answers["seed"] == 1)) | (answers["arm"] == "sft")]
    apart = rows[(rows["arm"] == "dart") | (rows["seed"] > 1)]
    with pytest.raises(
        UserError, match=r"dart \(seeds 1\) and sft \(seeds 2 3\) have no seed in common for target ash"
    ):
        paired(apart, "dart", "sft", "ash", TASKS)


def test_missing_answers_and_changed_questions_are_refused(answers, study, tmp_path):
    with pytest.raises(UserError, match="answered different questions of nano_svamp"):
        table1.accuracies(answers.drop(answers[answers["task"] == "nano_svamp"].index[-1]), view())
    with pytest.raises(UserError, match="No evaluated run of arm rl for target birch"):
        table1.accuracies(answers[(answers["arm"] != "rl") | (answers["target"] != "birch")], view())
    copy = shutil.copytree(study[0] / "scores/ash-base", tmp_path / "base")
    rows = pd.read_parquet(copy / "samples.parquet")
    rows.assign(doc_hash=rows["doc_hash"] + "x").to_parquet(copy / "samples.parquet")
    with pytest.raises(UserError, match="different versions"):
        samples(read_runs([copy / "manifest.json", study[0] / "scores/ash-sft-s1/manifest.json"]))


def test_the_command_writes_csv_and_markdown(study, tmp_path, monkeypatch):
    arguments = [
        "table1",
        "--out",
        str(tmp_path),
        "--view",
        view().model_dump_json(),
        "--manifests",
        *map(str, study[1]),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    table1.main()
    text = (tmp_path / "table1.md").read_text()
    assert all(title in text for title in TITLES.values())
    assert all(task in text for task in TASKS)
    row = pd.read_csv(tmp_path / "table1.csv").set_index(["target", "arm", "task"]).loc[("ash", "dart", "nano_math")]
    assert f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]" in text
    assert np.isfinite(pd.read_csv(tmp_path / "table1_differences.csv")[["mean", "low", "high"]]).all(axis=None)


def test_the_view_of_the_configuration_compares_adapted_with_every_arm_and_all_with_the_untrained():
    config = load(["configs/base.yaml", "configs/arms.yaml", "configs/nano.yaml"])
    found = view_of(config)
    assert found.arms == config.main_arms
    assert set(found.comparisons) == {
        ("dart", "sft"),
        ("dart", "rl"),
        ("dart", "base"),
        ("sft", "base"),
        ("rl", "base"),
    }
    assert found.tasks == config.evaluate.tasks and found.bootstrap == config.analysis.bootstrap
