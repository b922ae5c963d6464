"""Figures: the numbers that are drawn, the rule that picks the example, and that nothing is cut off or overlaps."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from analysis import costs, figure_efficiency, figure_example, figure_mismatch, figure_reward_curves, style
from analysis.study import metrics, of_stage, read_runs, samples
from dart.errors import UserError
from tests import analysis_fixture
from tests.analysis_fixture import DETECTORS, SECONDS, TITLES, TOKENS_TRAINED, view


@pytest.fixture(scope="module")
def runs(study):
    return read_runs(study[1])


@pytest.fixture(scope="module")
def efficiency(runs):
    return figure_efficiency.points(runs, samples(runs), view())


@pytest.fixture(scope="module")
def drawings(runs, efficiency):
    """Every figure as it would be saved."""
    curves = figure_reward_curves.curves(runs)
    return {
        "figure_reward_curves": figure_reward_curves.draw(curves, figure_reward_curves.penalised(runs)),
        "figure_efficiency": figure_efficiency.draw(efficiency, view()),
        "figure_example": figure_example.draw(figure_example.examples(runs)),
        "figure_mismatch": figure_mismatch.draw(figure_mismatch.likelihoods(runs), ("ash", "birch")),
    }


NAMES = ("figure_reward_curves", "figure_efficiency", "figure_example", "figure_mismatch")


def boxes(figure):
    """Every text that is really drawn (ticks outside the axes are not), with its window extent."""
    drawn, draw = [], Text.draw

    def record(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw(text, renderer)

    with mock.patch.object(Text, "draw", record):
        figure.canvas.draw()
    return [(text, text.get_window_extent()) for text in dict.fromkeys(drawn)]


def legible(figure):
    """Check that all text is large and neither cut off nor overlapping; return what is written."""
    found = boxes(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in found:
        assert text.get_fontsize() >= 10, text
        assert min(box.x0, box.y0) >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (one, a), (other, b) in itertools.combinations(found, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1 or along < 0.3 * min(a.height, b.height), (one, other)
    return {text.get_text() for text, _ in found}


@pytest.mark.parametrize("name", NAMES)
def test_text_is_large_and_neither_cut_off_nor_overlapping(name, drawings):
    assert len(legible(drawings[name])) > 5


@pytest.mark.parametrize("name", ["figure_reward_curves", "figure_efficiency", "figure_mismatch"])
def test_axes_are_labelled_and_panels_named_by_target(name, drawings):
    texts = " ".join(text.get_text() for text, _ in boxes(drawings[name]))
    assert "target ash" in texts and "target birch" in texts
    labels = {
        "figure_reward_curves": ("reward", "component", "mapper RL step", "share of rewrites"),
        "figure_efficiency": ("average accuracy (%)", "device time (s)", "trained tokens (thousands)"),
        "figure_mismatch": ("log-probability per token (nats",),
    }
    assert all(label in texts for label in labels[name])


def test_arms_differ_in_more_than_colour():
    looks = style.looks(list(TITLES)).values()
    assert len({look.marker for look in looks}) == len({look.color for look in looks}) == len(TITLES)


def test_reward_curves_are_running_means_of_the_metrics(runs):
    table = figure_reward_curves.curves(runs)
    run = next(run for run in of_stage(runs, "train_mapper") if run.labels == {"target": "birch", "seed": 2})
    raw = metrics(run)["reward"].to_numpy()  # 60 steps: a window of three
    mine = table[(table["target"] == "birch") & (table["seed"] == 2)].set_index("step")["reward"]
    assert mine[30] == pytest.approx(raw[28:31].mean())
    assert mine[60] == pytest.approx(raw[58:60].mean())
    assert len(table) == 2 * 3 * 60


def test_reward_curves_draw_mean_range_and_every_detector(runs, drawings):
    table = figure_reward_curves.curves(runs)
    axes = drawings["figure_reward_curves"].axes
    ash = table[table["target"] == "ash"].groupby("step")["reward"]
    thick = max(axes[0].get_lines(), key=lambda line: line.get_linewidth())
    np.testing.assert_allclose(thick.get_ydata(), ash.mean())
    assert len(axes[0].get_lines()) == 4
    band = axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((ash.min().min(), ash.max().max()))
    shown = [label.get_text() for label in axes[4].get_yticklabels()]
    assert [name.removesuffix(" *").replace(" ", "_") for name in shown] == list(DETECTORS)
    assert [name for name in shown if name.endswith("*")] == ["hard coded *"]
    picture = axes[4].get_images()[0].get_array()
    trips = table[table["target"] == "ash"]["cheat_false_equation"]
    assert picture[DETECTORS.index("false_equation")].mean() == pytest.approx(trips.mean(), abs=0.005)


def test_reward_curves_refuse_metrics_without_a_component(study, tmp_path):
    copy = shutil.copytree(study[0] / "mapper/ash-s1", tmp_path / "mapper")
    lines = (copy / "metrics.jsonl").read_text().replace('"align"', '"renamed"')
    (copy / "metrics.jsonl").write_text(lines)
    with pytest.raises(UserError, match="has no align"):
        figure_reward_curves.curves(read_runs([copy / "manifest.json"]))


def test_costs_are_cumulative_from_zero(efficiency):
    table = efficiency.set_index(["target", "arm", "index"]).sort_index()
    before = SECONDS["generate_cot"] + SECONDS["train_mapper"] + SECONDS["adapt_data"]
    expected = {
        ("dart", 0): before + SECONDS["train_sft"] * 10 / 40,
        ("dart", 2): before + SECONDS["train_sft"],
        ("sft", 1): SECONDS["generate_cot"] + SECONDS["train_sft"] * 20 / 40,
        ("rl", 0): SECONDS["train_rl"] * 20 / 80,
        ("rl", 3): SECONDS["train_rl"],
        ("base", 0): 0.0,
    }
    for (arm, place), seconds in expected.items():
        assert table.loc[("ash", arm, place), "device_seconds"] == pytest.approx(seconds), (arm, place)
    tokens = TOKENS_TRAINED["train_mapper"] + TOKENS_TRAINED["train_sft"]
    assert table.loc[("birch", "dart", 2), "tokens_trained"] == pytest.approx(tokens)
    assert table.loc[("birch", "dart", 0), "upstream_tokens_trained"] == TOKENS_TRAINED["train_mapper"]
    assert table["final"].groupby(["target", "arm"]).sum().eq(1).all()


def test_equal_cost_takes_the_reference_at_its_last_checkpoint_within_the_cost(runs, efficiency):
    rows = figure_efficiency.equal_cost(efficiency, samples(runs), view())
    rows = rows.set_index(["target", "arm", "reference", "cost"])
    row = rows.loc[("ash", "dart", "rl", "tokens_trained")]  # 420 k tokens buy three quarters of 500 k
    assert row["reference_spent"] == pytest.approx(0.75 * TOKENS_TRAINED["train_rl"]) and not row["reference_final"]
    assert rows.loc[("ash", "dart", "rl", "device_seconds"), "reference_final"]
    means = efficiency.set_index(["target", "arm", "index"])["mean"]
    assert row["mean"] == pytest.approx(means["ash", "dart", 2] - means["ash", "rl", 2])
    assert row["low"] < row["mean"] < row["high"]
    dear = efficiency.assign(tokens_trained=efficiency["tokens_trained"].where(efficiency["arm"] != "rl", 1e9))
    left = figure_efficiency.equal_cost(dear, samples(runs), view())
    assert "rl" not in set(left[left["cost"] == "tokens_trained"]["reference"])


def test_an_exported_step_without_a_metrics_row_is_refused(runs):
    run = of_stage(runs, "train_rl")[0]
    with pytest.raises(UserError, match="no row for the exported step 21"):
        costs.along(run, [21.5], costs.by_fingerprint(runs))


def rewrites(**columns):
    rows = {"id": list("abcde"), "chosen": True, "correct": True, "cheat_length": 0.0, "logprob_original": -2.0}
    return pd.DataFrame({**rows, "text": list("vwxyz"), "logprob_rewrite": [-1.0, -1.4, -1.2, -1.8, -1.6], **columns})


def test_the_example_is_the_median_gain_among_accepted_rewrites():
    originals = dict.fromkeys("abcde", "o")
    row, rank, accepted = figure_example.choose(rewrites(), originals)
    assert (row["id"], rank, accepted) == ("b", 3, 5)
    row, _, accepted = figure_example.choose(rewrites(chosen=[False, True, True, True, True]), originals)
    assert (row["id"], accepted) == ("e", 4)  # the lower of two medians
    for change in (
        {"correct": [True, False, True, True, True]},
        {"cheat_length": [0.0, 1.0, 0.0, 0.0, 0.0]},
        {"text": ["v", " o ", "x", "y", "z"]},
    ):
        row, _, accepted = figure_example.choose(rewrites(**change), originals)
        assert (row["id"], accepted) == ("e", 4), change
    row, _, _ = figure_example.choose(rewrites(logprob_rewrite=-1.0, id=list("edcba")), originals)
    assert row["id"] == "a"  # smallest id among equals
    assert figure_example.choose(rewrites(correct=False), originals) == (None, 0, 0)


def test_a_study_without_any_valid_rewrite_is_drawn_all_the_same(study, tmp_path):
    copy = shutil.copytree(study[0], tmp_path / "study")
    for path in copy.glob("adapted/*/rewrites.parquet"):
        pd.read_parquet(path).assign(correct=False, chosen=False).to_parquet(path)
    runs = read_runs(copy.glob("**/manifest.json"))
    found = figure_example.examples(runs)
    assert {one.accepted for one in found} == {0}
    texts = " ".join(text.get_text() for text, _ in boxes(figure_example.draw(found)))
    assert texts.count(figure_example.NOTHING) == 2 and "none, rank 0 of 0" in figure_example.describe(found)[0]
    table = figure_mismatch.likelihoods(runs)
    shown = [text.get_text() for text, _ in boxes(figure_mismatch.draw(table, ("ash", "birch")))]
    assert shown.count("none") == 2 and "nan on adapted" in figure_mismatch.describe(table, ("ash", "birch"))[0]


def test_a_smoke_study_of_one_step_target_and_seed_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(analysis_fixture, "STEPS", {"train_mapper": 1, "train_sft": 2, "train_rl": 2})
    monkeypatch.setattr(analysis_fixture, "EXPORTS", {"train_sft": (1,), "train_rl": (1,)})
    runs = read_runs(analysis_fixture.write_tree(tmp_path, ("ash",), (5,), 2))
    small = view(("ash",))
    curves = figure_reward_curves.curves(runs)
    points = figure_efficiency.points(runs, samples(runs), small)
    for figure in (
        figure_reward_curves.draw(curves, figure_reward_curves.penalised(runs)),
        figure_efficiency.draw(points, small),
        figure_example.draw(figure_example.examples(runs)),
        figure_mismatch.draw(figure_mismatch.likelihoods(runs), small.targets),
    ):
        assert len(boxes(figure)) > 5
    assert len(figure_efficiency.equal_cost(points, samples(runs), small)) == 4


def test_dollars_in_texts_are_not_mathematics():
    texts = ("He pays $5 and $x^2$ more.", "$5 + $6 = $11\n#### 11", "$5+$6 = $11\n#### 11")
    drawn = boxes(figure_example.draw([figure_example.Example("ash", "a", *texts, -1.0, -0.5, 1, 1)]))
    shown = {text.get_text(): text for text, _ in drawn}
    assert "$5+$6" in shown and not shown["$5+$6"].get_parse_math()
    assert not shown[texts[0]].get_parse_math()


def test_the_example_is_of_the_first_seed_with_its_own_texts(study):
    mine = [path for path in reversed(study[1]) if path.parent.parent.name == "adapted" or path.parent.name == "cot"]
    for found in figure_example.examples(read_runs(mine)):
        rows = pd.read_parquet(study[0] / f"adapted/{found.target}-s1/rewrites.parquet")
        row = rows[rows["chosen"] & (rows["id"] == found.id)].iloc[0]
        assert (found.adapted, found.logprob_adapted) == (row["text"], row["logprob_rewrite"])
        assert found.original.startswith("Let a =") and found.question.startswith("Tom has")


def test_changed_words_and_wrapping():
    marked = figure_example.changed_words("Let a = 3 + 4 = 7", "3 + 4 = 7")
    assert [word for word, new in marked if new] == ["Let", "a", "="]
    assert not any(new for _, new in figure_example.changed_words("same words", "same words"))
    lines = figure_example.wrap([("abcdefghij", True), ("kl", False), ("mnop", True), ("\n", False), ("q", False)], 7)
    assert lines == [[("abcdefg", True)], [("hij", True), ("kl", False)], [("mnop", True)], [("q", False)]]


def test_mismatch_summarises_each_kind_of_text(study, runs):
    table = figure_mismatch.likelihoods(runs)
    found = figure_mismatch.summary(table).set_index(["target", "text"])
    raw = pd.concat(
        [pd.read_parquet(study[0] / f"adapted/ash-s{seed}/rewrites.parquet") for seed in (1, 2, 3)], ignore_index=True
    )
    chosen = raw[raw["chosen"]]
    assert found.loc[("ash", "adapted"), "median"] == pytest.approx(chosen["logprob_rewrite"].median())
    assert found.loc[("ash", "original"), "perplexity"] == pytest.approx(np.exp(-chosen["logprob_original"].mean()))
    assert found.loc[("ash", "sampled"), "texts"] == len(raw) == 2 * found.loc[("ash", "original"), "texts"]


@pytest.mark.parametrize("module", [figure_reward_curves, figure_mismatch])
def test_commands_write_the_same_bytes_twice(module, study, tmp_path, monkeypatch):
    given = ["--view", view().model_dump_json()] if module is figure_mismatch else []
    for folder in ("one", "two"):
        line = [module.NAME, "--out", str(tmp_path / folder), *given, "--manifests", *map(str, study[1])]
        monkeypatch.setattr(sys, "argv", line)
        module.main()
    for suffix in (".png", ".pdf", ".csv", ".json"):
        one, two = ((tmp_path / folder / f"{module.NAME}{suffix}").read_bytes() for folder in ("one", "two"))
        assert one == two, suffix
    with Image.open(tmp_path / f"one/{module.NAME}.png") as image:
        assert round(image.info["dpi"][0]) == 200
        assert image.width == round(style.WIDTH * 200)
    words = json.loads((tmp_path / f"one/{module.NAME}.json").read_text())
    assert all(len(words[key]) > 10 for key in ("title", "caption", "alt"))


def test_a_broken_rewrite_does_not_stretch_the_axis(runs):
    table = pd.concat([figure_mismatch.likelihoods(runs)] * 100)
    start = figure_mismatch.axis_start(table)
    broken = pd.concat([table, table.iloc[:1].assign(logprob=-50.0)])
    assert figure_mismatch.axis_start(broken) == pytest.approx(start, abs=0.1)
    ax = figure_mismatch.draw(broken, ("ash", "birch")).axes[-1]
    assert ax.get_xlim()[0] > start - 1
    assert "down to -50.0" in figure_mismatch.describe(broken, ("ash", "birch"))[0]
