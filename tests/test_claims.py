"""The claims on a study of known truth: verdicts, what they rest on, arms that were not run, refusals in words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import claims, evidence, significance, statistics
from analysis.evidence import Claim, Claims, Study, gather, read_claims, read_fidelity
from analysis.study import cell, outcomes, read_runs, samples
from dart.config import load
from dart.errors import UserError
from dart.parsing import parse
from tests.analysis_fixture import SECONDS, TASKS, view

VIEW = view(in_domain=("nano_gsm8k",))
ACCURACY = {"says": "A is better.", "source": "a test", "family": "paper", "quantity": "accuracy", "tasks": "all",
            "arm": "dart", "reference": "sft", "direction": "higher", "margin": 0}  # fmt: skip
COST = {**ACCURACY, "quantity": "cost", "tasks": None, "cost": "device_seconds", "reference": "rl",
        "direction": "lower", "margin": 1}  # fmt: skip
FIDELITY = {**ACCURACY, "family": "rewrites", "quantity": "fidelity", "tasks": None, "measure": "hallucinated",
            "reference": None, "direction": "lower", "margin": 0.01}  # fmt: skip
VALUES = {"hallucinated": (0.002, 0.004, 0.003), "length_ratio": (0.7, 0.72, 0.71), "unmeasured": (np.nan,) * 3}


def claim(values, **changes):
    return parse(Claim, {**values, **changes}, "claim")


def made(given):
    return parse(Claims, {"alpha": 0.05, "power": 0.8, "effect": 2.0, "claims": given}, "claims.yaml")


@pytest.fixture(scope="module")
def fidelity():
    rows = [
        {"arm": arm, "target": target, "seed": seed, "measure": measure, "value": value + shift}
        for arm, shift in (("dart", 0.0), ("no_gate", 0.1))
        for target in ("ash", "birch")
        for measure, values in VALUES.items()
        for seed, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def finished(study, fidelity):
    runs = read_runs(study[1])
    return Study(runs, samples(runs), fidelity.dropna(), VIEW)


def test_accuracy_is_the_paired_difference_in_points_with_the_tables_interval(finished):
    found = gather(claim(ACCURACY), "ash", finished)
    ours, theirs = (outcomes(cell(finished.answers, arm, "ash"), TASKS) for arm in ("dart", "sft"))
    expected = 100 * np.mean([ours[task].mean() - theirs[task].mean() for task in TASKS])
    assert (found.shown.mean, found.estimate.mean) == pytest.approx((expected, expected))
    gaps = statistics.intervals(statistics.difference(ours, theirs), VIEW.bootstrap, VIEW.confidence, VIEW.seed)
    assert found.shown.low == pytest.approx(100 * gaps[statistics.AVERAGE].low)
    assert (found.seeds, found.questions) == (3, 360)
    told = [(run.stage, run.labels["arm"], run.labels["target"], run.labels["seed"]) for run in found.runs]
    assert told == [("evaluate", arm, "ash", seed) for arm in ("dart", "sft") for seed in (1, 2, 3)]


def test_out_of_domain_leaves_the_training_kind_out(finished):
    outside = gather(claim(ACCURACY, tasks="out_of_domain"), "ash", finished)
    inside = gather(claim(ACCURACY, tasks="in_domain"), "ash", finished)
    every = gather(claim(ACCURACY), "ash", finished)
    assert (inside.questions, outside.questions) == (60, 300)
    assert (inside.shown.mean + 5 * outside.shown.mean) / 6 == pytest.approx(every.shown.mean)
    with pytest.raises(UserError, match="does not tell which tasks are out_of_domain"):
        evidence.tasks_of(claim(ACCURACY, tasks="out_of_domain"), view())


def test_the_untrained_arm_is_compared_with_every_seed(finished):
    found = gather(claim(ACCURACY, reference="base"), "birch", finished)
    assert found.seeds == 3
    assert [run.labels["seed"] for run in found.runs] == [1, 2, 3, 0]


def test_costs_are_ratios_of_what_the_ledger_charges(finished):
    found = gather(claim(COST), "ash", finished)
    dart = sum(SECONDS[name] for name in ("generate_cot", "train_mapper", "adapt_data", "train_sft"))
    assert found.shown.mean == pytest.approx(dart / SECONDS["train_rl"])
    assert found.estimate.mean == pytest.approx(np.log(dart / SECONDS["train_rl"]))
    with pytest.raises(UserError, match="base has no device_seconds"):
        gather(claim(COST, reference="base"), "ash", finished)


def test_fidelity_is_tested_over_seeds_against_a_value_or_an_arm(finished):
    found = gather(claim(FIDELITY), "ash", finished)
    assert found.shown.mean == pytest.approx(0.003) and found.seeds == 3
    assert found.estimate.standard_error == pytest.approx(0.001 / np.sqrt(3))
    assert gather(claim(FIDELITY, reference="no_gate"), "ash", finished).shown.mean == pytest.approx(-0.1)
    assert gather(claim(FIDELITY, measure="unmeasured"), "ash", finished).missing == "no measured unmeasured of dart"


def test_verdicts_and_families(finished):
    given = {
        "better": ACCURACY,
        "worse": {**ACCURACY, "direction": "lower"},
        "cheaper": COST,
        "honest": FIDELITY,
        "not_shorter": {**FIDELITY, "measure": "length_ratio", "direction": "higher", "margin": 0.8},
        "absent": {**ACCURACY, "reference": "rft"},
    }
    rows, runs = claims.table(made(given), finished)
    table = rows.set_index(["claim", "target"])
    verdict = {name: set(table.loc[name]["verdict"]) for name in given}
    assert verdict["better"] == verdict["honest"] == {"supported"}
    assert verdict["worse"] == verdict["cheaper"] == verdict["not_shorter"] == {"contradicted"}
    absent = table.loc[("absent", "ash")]
    assert (absent["verdict"], absent["overall"], absent["seeds"]) == ("not run", "not run", 0)
    assert absent["missing"] == "no evaluated run of rft" and np.isnan(absent["p"])
    # Six rows of the paper's family were tested, four of the rewrites; the claim that was not run is in neither.
    smallest = table[table["family"] == "paper"]["p"].min()
    assert table[table["family"] == "paper"]["p_adjusted"].min() == pytest.approx(6 * smallest)
    clearest = table[table["family"] == "rewrites"].sort_values("p").iloc[0]
    assert clearest["p_adjusted"] == pytest.approx(4 * clearest["p"])
    assert len(runs) == 2 * 3 * 3
    one = gather(claim(ACCURACY), "ash", finished).estimate
    finest = significance.detectable(one, 0.05 / 6, 0.8)
    assert table.loc[("better", "ash"), "detectable"] == pytest.approx(finest)
    power = table["power"].notna()
    assert set(table[power]["quantity"]) == {"accuracy"} and table[power]["power"].between(0, 1).all()
    assert table.loc[("cheaper", "ash"), "detectable"] >= 1


def test_targets_that_differ_are_named(finished):
    flipped = finished.answers.copy()
    swap = (flipped["target"] == "birch") & flipped["arm"].isin(["sft", "dart"])
    flipped.loc[swap, "arm"] = flipped.loc[swap, "arm"].map({"sft": "dart", "dart": "sft"})
    rows, _ = claims.table(made({"better": ACCURACY}), Study([], flipped, finished.fidelity, VIEW))
    assert set(rows["overall"]) == {"supported on ash, contradicted on birch"}


def test_common_seeds_are_used_and_a_single_one_is_shown_but_not_tested(finished):
    def without(*seeds):
        gone = (finished.answers["arm"] == "sft") & finished.answers["seed"].isin(seeds)
        kept = finished.answers[~gone]
        runs = [run for run in finished.runs if run.labels.get("arm") != "sft" or run.labels["seed"] not in seeds]
        return Study(runs, kept, finished.fidelity, VIEW)

    two = gather(claim(ACCURACY), "ash", without(2))
    assert two.seeds == 2 and [run.labels["seed"] for run in two.runs] == [1, 3, 1, 3]
    rows, _ = claims.table(made({"better": ACCURACY, "honest": FIDELITY}), without(1, 2))
    one = rows[rows["claim"] == "better"].iloc[0]
    assert one["verdict"] == "inconclusive" and np.isnan(one["p"]) and np.isfinite(one["low"]) and one["seeds"] == 1
    apart = without(1, 2)
    other = apart.answers[(apart.answers["arm"] != "dart") | (apart.answers["seed"] < 3)]
    found = gather(claim(ACCURACY), "ash", Study(apart.runs, other, finished.fidelity, VIEW))
    assert found.missing == "dart and sft share no seed"


def test_the_command_prints_and_saves_with_and_without_fidelity(study, fidelity, tmp_path, monkeypatch, capsys):
    path = tmp_path / "claims.yaml"
    values = {"alpha": 0.05, "power": 0.8, "effect": 2.0, "claims": {"better": ACCURACY, "honest": FIDELITY}}
    path.write_text(yaml.safe_dump(values))
    fidelity.to_csv(tmp_path / "fidelity.csv", index=False)
    arguments = ["claims", "--out", str(tmp_path), "--view", VIEW.model_dump_json(), "--claims", str(path),
                 "--manifests", *map(str, study[1])]  # fmt: skip
    monkeypatch.setattr(sys, "argv", arguments)
    claims.main()
    assert "NOT RUN: 1 more" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "--fidelity", str(tmp_path / "fidelity.csv")])
    claims.main()
    printed = capsys.readouterr().out
    assert "SUPPORTED: A is better." in printed and "NOT RUN" not in printed
    table = pd.read_csv(tmp_path / "claims.csv")
    assert list(table["claim"]) == ["better", "better", "honest", "honest"]
    scores = read_runs(
        study[0] / f"scores/ash-{arm}-s{seed}/manifest.json" for arm in ("dart", "sft") for seed in (1, 2, 3)
    )
    told = "; ".join(f"{run.manifest.fingerprint[:8]} {run.folder}" for run in scores)
    assert table.iloc[0]["runs"] == told
    text = (tmp_path / "claims.md").read_text()
    assert all(run.manifest.fingerprint[:8] in text for run in scores) and "supported" in text
    assert claims.estimate(table.iloc[0]) in text
    saved = json.loads((tmp_path / "claims.json").read_text())
    assert [one["claim"] for one in saved["claims"]] == ["better", "honest"]
    assert saved["claims"][1]["rows"][0]["power"] is None


@pytest.mark.parametrize(
    ("values", "changes", "words"),
    [
        (ACCURACY, {"tasks": "some"}, "claim: tasks = 'some' is not allowed"),
        (ACCURACY, {"tasks": None}, "a claim on accuracy names tasks, and only that"),
        (ACCURACY, {"measure": "hallucinated"}, "a claim on accuracy names tasks, and only that"),
        (ACCURACY, {"reference": None}, "only a measure of fidelity can be compared with a fixed value"),
        (FIDELITY, {"direction": "equal"}, "only a measure of fidelity can be compared with a fixed value"),
        (ACCURACY, {"direction": "equal"}, "a margin has to leave room"),
        (COST, {"direction": "equal"}, "a margin has to leave room"),
        (COST, {"margin": 0}, "the margin of a cost is a ratio"),
        (COST, {"cost": "euros"}, "claim: cost = 'euros' is not allowed"),
        (ACCURACY, {"directoin": "higher"}, "directoin is not a known key; did you mean direction?"),
    ],
)
def test_a_wrong_claim_is_one_sentence(values, changes, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        claim(values, **changes)


def test_files_that_do_not_fit_are_refused_in_words(tmp_path):
    with pytest.raises(UserError, match=r"--claims .* does not exist"):
        read_claims(tmp_path / "claims.yaml")
    (tmp_path / "claims.yaml").write_text("alpha: 0.05\npower: 0.8\neffect: 2\nclaims: {a: {says: b}}\n")
    with pytest.raises(UserError, match=r"claims.yaml: claims\.a\.\w+ is missing"):
        read_claims(tmp_path / "claims.yaml")
    row = pd.DataFrame([{"arm": "dart", "target": "ash", "seed": 1, "measure": "length_ratio", "value": 0.7}])
    row.drop(columns="seed").to_csv(tmp_path / "fidelity.csv")
    with pytest.raises(UserError, match="has no column seed"):
        read_fidelity(tmp_path / "fidelity.csv")
    pd.concat([row, row]).to_csv(tmp_path / "fidelity.csv")
    with pytest.raises(UserError, match="two values of the same arm, target, seed, measure"):
        read_fidelity(tmp_path / "fidelity.csv")
    with pytest.raises(UserError, match=r"--fidelity .* does not exist"):
        read_fidelity(tmp_path / "none.csv")


def test_the_claims_that_are_shipped_name_known_arms():
    config = load(["configs/base.yaml", "configs/arms.yaml", "configs/nano.yaml"])
    shipped = read_claims(Path("configs/claims.yaml"))
    arms = {name for one in shipped.claims.values() for name in (one.arm, one.reference) if name}
    assert arms <= set(config.arms)
    assert {one.family for one in shipped.claims.values()} == set(claims.TITLES)
    assert len({one.says for one in shipped.claims.values()}) == len(shipped.claims)
