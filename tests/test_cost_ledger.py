"""The ledger against costs that were made up: who pays for what, and the overhead share."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from analysis import cost_ledger, costs
from analysis.study import read_runs
from dart.errors import UserError
from tests.analysis_fixture import SECONDS, TOKENS_TRAINED, view


@pytest.fixture(scope="module")
def runs(study):
    return read_runs(study[1])


@pytest.fixture(scope="module")
def arms(runs):
    return cost_ledger.by_arm(runs, view()).set_index(["target", "arm", "stage"]).sort_index()


def test_each_arm_pays_for_what_made_its_training_text(arms):
    paid = {arm: set(rows.index.get_level_values("stage")) for arm, rows in arms.groupby("arm")}
    assert paid == {
        "base": {"total"},
        "sft": {"generate_cot", "train_sft", "total"},
        "dart": {"generate_cot", "train_mapper", "adapt_data", "train_sft", "total"},
        "rl": {"train_rl", "total"},
    }


def test_totals_count_every_stage_once_and_are_means_over_seeds(arms):
    cot, sft = SECONDS["generate_cot"], SECONDS["train_sft"]
    expected = {
        "base": 0.0,
        "sft": cot + sft,
        "dart": cot + SECONDS["train_mapper"] + SECONDS["adapt_data"] + sft,
        "rl": SECONDS["train_rl"],
    }
    for arm, seconds in expected.items():
        assert arms.loc[("birch", arm, "total"), "device_seconds"] == pytest.approx(seconds)
    tokens = TOKENS_TRAINED["train_mapper"] + TOKENS_TRAINED["train_sft"]
    assert arms.loc[("ash", "dart", "total"), "tokens_trained"] == tokens
    assert arms.loc[("ash", "dart", "total"), "seeds"] == 3
    parts = arms.loc[("ash", "dart")].drop("total")
    assert parts[list(costs.COSTS)].sum().to_dict() == pytest.approx(
        arms.loc[("ash", "dart", "total"), list(costs.COSTS)].to_dict()
    )


def test_stages_sum_over_runs_with_shared_ones_apart(runs):
    table = cost_ledger.by_stage(runs).set_index("stage")
    assert table.loc["train_zoo", "device_seconds"] == pytest.approx(4 * SECONDS["train_zoo"])
    assert set(table.index[table["shared"]]) == {"make_data", "train_zoo"}
    assert table.loc["total", "device_seconds"] == pytest.approx(sum(run.manifest.device_seconds for run in runs))
    assert table.loc["total", "peak_memory_bytes"] == max(run.manifest.peak_memory_bytes for run in runs)
    assert list(table.index[:3]) == ["make_data", "train_zoo", "generate_cot"]


def test_a_missing_upstream_manifest_is_named(runs):
    without = [run for run in runs if run.stage != "generate_cot"]
    with pytest.raises(UserError, match=r"was made from .*cot, whose manifest was not given"):
        cost_ledger.by_arm(without, view())


def test_overhead_share_from_sessions_and_without(runs):
    compute = sum(run.manifest.seconds for run in runs)
    first, last = min(r.manifest.started_at for r in runs), max(r.manifest.finished_at for r in runs)
    alone = cost_ledger.spent_outside(runs, [], now=0.0)
    assert alone.share == pytest.approx(1 - compute / (2 * (last - first)))
    session = {"started_at": first - 10, "finished_at": None, "cores": 1}
    watched = cost_ledger.spent_outside(runs, [session], now=last + 30)
    assert watched.wall_seconds == pytest.approx(last - first + 40)
    assert watched.share == pytest.approx(1 - compute / (last - first + 40))
    cluster = cost_ledger.spent_outside(runs, [session, session | {"cores": None}], now=last + 30)
    assert watched.known and not cluster.known
    with pytest.raises(UserError, match=r"run\.json"):
        cost_ledger.spent_outside(runs, [{"started_at": 0.0, "finished_at": 1.0, "cores": 2}], now=1.0)


def test_markdown_shows_every_arm_and_the_rule(runs, arms):
    text = cost_ledger.render(cost_ledger.by_stage(runs), arms.reset_index(), view())
    assert costs.RULE in text
    assert "DART: SFT on adapted CoT: total | 105 s |" in text
    assert "Base model: total | 0 s |" in text


def test_other_sessions_and_other_runs_are_no_overhead_of_these(runs):
    first, last = min(r.manifest.started_at for r in runs), max(r.manifest.finished_at for r in runs)
    session = {"started_at": first - 10, "finished_at": last + 10, "cores": 1}
    alone = cost_ledger.spent_outside(runs, [session], now=0.0)
    later = {"started_at": last + 20, "finished_at": last + 9_000, "cores": 1}
    other = asdict(runs[0].manifest) | {"seconds": 5.0, "started_at": last, "finished_at": last + 5}
    assert cost_ledger.spent_outside(runs, [session, later], now=0.0) == alone
    found = cost_ledger.spent_outside(runs, [session], 0.0, [*(asdict(run.manifest) for run in runs), other])
    assert found.share == pytest.approx(alone.share - 5.0 / alone.core_seconds)
