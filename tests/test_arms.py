"""The table of all arms: scopes, differences over common seeds, costs, groups, and arms that were not run."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from analysis import arms, table1
from analysis.study import read_runs, samples
from dart.errors import UserError
from tests.analysis_fixture import SECONDS, TASKS, TOKENS_TRAINED, view

GROUPS = {"base": "main", "sft": "main", "dart": "main", "rl": "baselines", "dft": "baselines", "late": "ablations"}
VIEW = view(
    arms=("dft", "rl", "base", "sft", "dart", "late"),
    titles={**view().titles, "dft": "DFT", "late": "Too late"},
    groups=GROUPS,
    in_domain=TASKS[:2],
)


@pytest.fixture(scope="module")
def runs(study):
    return read_runs(study[1])


@pytest.fixture(scope="module")
def found(runs):
    return arms.table(runs, VIEW)


def without(runs, arm, *seeds):
    return [run for run in runs if run.labels.get("arm") != arm or run.labels["seed"] not in seeds]


def test_arms_come_by_group_and_those_not_run_are_left_out(found):
    assert list(found[found["target"] == "birch"]["arm"]) == ["base", "sft", "dart", "rl"]
    assert list(found[found["target"] == "ash"]["group"]) == ["main", "main", "main", "baselines"]


def test_averages_agree_with_table_1_and_with_their_scopes(found, runs):
    table = table1.accuracies(samples(runs), view()).set_index(["target", "arm", "task"]).sort_index()
    for row in found.to_dict("records"):
        cell = table.loc[(row["target"], row["arm"])]
        average = cell.loc["average"]
        assert [row["average"], row["average_low"], row["average_high"]] == pytest.approx(
            [*average[["mean", "low", "high"]]]
        )
        assert row["in_domain"] == pytest.approx(cell.loc[list(TASKS[:2]), "mean"].mean())
        assert row["out_of_domain"] == pytest.approx(cell.loc[list(TASKS[2:]), "mean"].mean())
        assert row["in_domain_low"] < row["in_domain"] < row["in_domain_high"]


def test_without_tasks_in_domain_there_is_no_such_column(runs):
    assert not {"in_domain", "in_domain_low"} & set(arms.table(runs, view()))


def test_differences_are_over_the_seeds_that_both_arms_have(runs):
    # Seed 3 of dart alone is left: its difference to sft is that of seed 3, whatever sft's other seeds did.
    alone = arms.table(without(runs, "dart", 1, 2), VIEW).set_index(["target", "arm"])
    answers = samples(runs)
    answers = answers[(answers["checkpoint"] == "model") & (answers["seed"] == 3) & (answers["target"] == "ash")]
    means = 100 * answers.groupby("arm")["correct"].mean()
    row = alone.loc[("ash", "dart")]
    assert row["seeds"] == 1 and row["minus_sft"] == pytest.approx(means["dart"] - means["sft"])
    assert row["minus_sft_low"] < row["minus_sft"] < row["minus_sft_high"]
    assert np.isnan(row["minus_dart"])
    assert alone.loc[("ash", "sft"), "minus_dart"] == pytest.approx(-row["minus_sft"])
    base = alone.loc[("ash", "base")]  # one model, compared with every seed
    assert base["minus_sft"] == pytest.approx(base["average"] - alone.loc[("ash", "sft"), "average"])


def test_arms_without_a_common_seed_are_refused(runs):
    with pytest.raises(UserError, match="have no seed in common"):
        arms.table(without(without(runs, "dart", 1), "sft", 2, 3), VIEW)


def test_costs_are_means_over_seeds_with_what_lies_upstream(found):
    rows = found.set_index(["target", "arm"])
    dart = rows.loc[("ash", "dart")]
    assert dart["own_tokens_trained"] == TOKENS_TRAINED["train_sft"]
    assert dart["tokens_trained"] == TOKENS_TRAINED["train_sft"] + TOKENS_TRAINED["train_mapper"]
    stages = ("generate_cot", "train_mapper", "adapt_data", "train_sft")
    assert dart["device_seconds"] == pytest.approx(sum(SECONDS[stage] for stage in stages))
    assert (rows.loc[("birch", "base"), list(arms.COSTS)] == 0).all()


def test_validation_runs_neither_count_nor_cost(runs, found):
    copies = []
    for run in runs:
        if run.stage == "evaluate":
            manifest = type(run.manifest)(**{**vars(run.manifest), "fingerprint": f"{run.manifest.fingerprint}v"})
            labels = {**run.labels, "split": "validation"}
            object.__setattr__(manifest, "spec", {**manifest.spec, "labels": labels})
            copies.append(type(run)(manifest, run.folder))
    pd.testing.assert_frame_equal(arms.table([*runs, *copies], VIEW), found)


def test_the_command_lists_what_was_not_run(study, runs, tmp_path, monkeypatch):
    some = [path for path in study[1] if path.parent.name not in [f"birch-rl-s{seed}" for seed in (1, 2, 3)]]
    line = ["arms", "--out", str(tmp_path), "--view", VIEW.model_dump_json(), "--manifests", *map(str, some)]
    monkeypatch.setattr(sys, "argv", line)
    arms.main()
    text = (tmp_path / "arms.md").read_text()
    told, missing = text.split("## Not run")
    assert missing.split("- ")[1:] == [
        "`dft`: DFT (ash, birch)\n",
        "`rl`: Direct RL (birch)\n",
        "`late`: Too late (ash, birch)\n",
    ]
    assert told.count("### Main") == 2 and told.count("### Baselines") == 1 and "### Ablations" not in told
    row = pd.read_csv(tmp_path / "arms.csv").set_index(["target", "arm"]).loc[("ash", "dart")]
    assert f"{row['minus_sft']:+.1f} [{row['minus_sft_low']:+.1f}, {row['minus_sft_high']:+.1f}]" in told
    assert "| 105 s | 120 k | 100 k | 420 k | 2.5e+12 | 120 k |" in told
