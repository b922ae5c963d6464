"""The report: self-contained, accessible, and saying what the numbers say whatever their sign."""

from __future__ import annotations

import base64
import itertools
import json
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest

from analysis import (
    cost_ledger,
    figure_efficiency,
    figure_example,
    figure_mismatch,
    figure_reward_curves,
    findings,
    report,
    table1,
)
from dart import knobs
from dart.config import Config, load
from dart.errors import UserError
from tests.analysis_fixture import TITLES, view

FILES = ["configs/base.yaml", "configs/arms.yaml", "configs/nano.yaml"]


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # well-formed

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def build(study, out, monkeypatch, the_view):
    """Run every script as the rules do; returns the page."""
    every = ["--manifests", *map(str, study[1])]
    seen = ["--view", the_view.model_dump_json()]
    config = load(FILES).model_dump_json()
    statuses = {key: {"status": "assumed", "why": f"because <{key}>"} for key in knobs.keys(Config)}
    (out / "knobs.yaml").write_text(json.dumps(statuses))
    session = {"started_at": 1_700_000_000.0, "finished_at": 1_700_002_000.0, "cores": 2}
    (out / "run.json").write_text(json.dumps([session]))
    extra = [
        "--config",
        config,
        "--knobs",
        out / "knobs.yaml",
        "--tables",
        out / "tables",
        "--figures",
        out / "figures",
    ]
    extra += ["--run", out / "run.json"]
    for module, folder, options in (
        (table1, "tables", seen),
        (cost_ledger, "tables", seen),
        (figure_reward_curves, "figures", []),
        (figure_efficiency, "figures", seen),
        (figure_example, "figures", []),
        (figure_mismatch, "figures", seen),
        (report, "report", [*seen, *map(str, extra)]),
    ):
        monkeypatch.setattr(sys, "argv", [module.NAME, "--out", str(out / folder), *options, *every])
        module.main()
    return (out / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        return out, build(study, out, patch, view(titles={**TITLES, "rl": "Direct <RL> & more"}))


@pytest.fixture(scope="module")
def page(made):
    return Page(made[1])


def test_the_page_needs_nothing_but_itself(made, page):
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert "@import" not in made[1] and "url(" not in made[1] and "http" not in made[1]
    png = (made[0] / "figures/figure_efficiency.png").read_bytes()
    assert base64.b64encode(png).decode() in made[1]


def test_links_are_relative_and_lead_somewhere(made, page):
    targets = [link["href"] for link in page.all("a")]
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert len(targets) > 15
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in ids
        else:
            assert not target.startswith("/") and (made[0] / "report" / target).is_file(), target


def test_the_page_is_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert len(page.all("img")) == 4 and all(len(image["alt"]) > 40 for image in page.all("img"))
    assert len(page.all("table")) == len(page.all("caption")) >= 7
    assert all("scope" in head for head in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert levels.count(1) == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_table_1_shows_the_numbers_of_the_csv(made, page):
    for row in pd.read_csv(made[0] / "tables/table1.csv").to_dict("records"):
        assert f"{row['mean']:.1f} {row['low']:.1f} to {row['high']:.1f}" in page.text
    for row in pd.read_csv(made[0] / "tables/table1_differences.csv").to_dict("records"):
        assert f"{findings.points(row['low'])} to {findings.points(row['high'])}" in page.text


def test_ledger_overhead_knobs_and_provenance_are_there(made, page, study):
    assert "DART: SFT on adapted CoT total 105 s 120 k 100 k 420 k" in page.text
    total = sum(json.loads(path.read_text())["seconds"] for path in study[1])
    assert f"Overhead: {100 * (1 - total / 4000):.1f} %" in page.text
    assert "because <reward.align>" not in page.text and "because <mapper.reward.align>" in page.text
    assert "assumed: 0" not in page.text and "stated: 0" in page.text
    assert "c" * 40 in page.text and "torch 2.13.0" in page.text and "Seeds 1, 2, 3" in page.text


def test_text_of_the_configuration_cannot_break_the_page(made):
    assert "Direct &lt;RL&gt; &amp; more" in made[1] and "Direct <RL>" not in made[1]


def test_findings_follow_the_sign_of_the_numbers(made):
    gaps = pd.read_csv(made[0] / "tables/table1_differences.csv")
    the_view = view()
    mirrored = gaps.assign(mean=-gaps["mean"], low=-gaps["high"], high=-gaps["low"])
    mirrored["verdict"] = gaps["verdict"].map({"higher": "lower", "lower": "higher", "unclear": "unclear"})
    nothing = gaps.assign(mean=0.4, low=-1.0, high=2.0, verdict="unclear")
    good, bad, none = (findings.comparisons(rows, the_view)[0] for rows in (gaps, mirrored, nothing))
    assert good.verdict == "higher" and " points above SFT on original CoT" in good.text
    assert bad.verdict == "lower" and " points below SFT on original CoT" in bad.text and "above" not in bad.text
    assert "Clearly lower on" in bad.text and "nano_math \N{MINUS SIGN}" in bad.text
    assert none.verdict == "unclear" and "do not differ clearly (+0.4 points" in none.text
    assert none.text.endswith("None of the 6 benchmarks differs clearly.")


def test_findings_at_equal_cost_say_what_the_reference_was():
    row = {"target": "ash", "arm": "dart", "reference": "rl", "cost": "device_seconds", "spent": 200.0,
           "reference_spent": 150.0, "reference_final": False, "mean": -2.0, "low": -3.0, "high": -1.0,
           "verdict": "lower"}  # fmt: skip
    (found,) = findings.equal_cost(pd.DataFrame([row]), view())
    assert found.text == (
        "At no more device time, DART: SFT on adapted CoT averages 2.0 points below Direct RL (95% interval "
        "\N{MINUS SIGN}3.0 to \N{MINUS SIGN}1.0); the reference's last checkpoint within it took 75% of that cost."
    )


def test_forest_places_zero_and_intervals_on_one_scale():
    rows = pd.DataFrame({"target": "ash", "arm": "dart", "reference": ["sft", "rl"], "mean": [2.0, -1.0],
                         "low": [1.0, -2.0], "high": [3.0, 0.0], "verdict": ["higher", "unclear"]})  # fmt: skip
    drawn = report.forest(rows, view())
    first, second = (row["at"] for row in drawn["rows"])
    assert second["high"] == drawn["zero"] < first["low"] < first["mean"] < first["high"] <= 100
    assert second["low"] >= 0
    assert first["high"] - first["low"] == pytest.approx(second["high"] - second["low"], abs=0.02)


def test_a_missing_figure_is_named(made):
    with pytest.raises(UserError, match="snakemake figure_mismatch"):
        report.read_figures(made[0] / "nowhere", made[0])
