"""Fidelity of rewrites against hand-made ones of known answers, and the distance between mappers."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from analysis import fidelity, mapper_distances, texts
from analysis.rewrite_measures import measure
from analysis.study import of_stage, read_runs
from dart.errors import UserError
from dart.records import Record
from tests.analysis_fixture import view

QUESTION = "Tom has 12 apples. He buys 5 more and then doubles what he has. How many apples has he?"
ORIGINAL = "Let a = 12. Let b = a + 5 = 17. Let c = b * 2 = 34. Let d = c + 2 = 36. #### 36"
FAITHFUL = "12 + 5 = 17. 17 * 2 = 34. 34 + 2 = 36. #### 36"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He pays $1,200.50, then 3,4.", {1200.50, 3, 4}),
        ("It is = -3 or \u22124 or -$7.", {-3, -4, -7}),
        ("5 - 3 is 5-2 and 5 -1; (5)-6; 20%-8; a top-9", {5, 3, 2, 1, 6, 20, 8, 9}),
        ("1. He has 5\n2) Step 3: then .5 of x2", {5, 0.5}),
        ("33. 33.0 and 1{,}000", {33, 1000}),
        ("no figures", set()),
    ],
)
def test_numbers_are_found_with_separators_decimals_and_signs(text, expected):
    assert texts.numbers(text) == {Decimal(str(value)) for value in expected}


def test_spelled_numbers_count_as_named():
    assert texts.named_numbers("Half of twelve and 7") == {Decimal(2), Decimal(12), Decimal(7)}


def test_sentences_end_at_stops_before_spaces_and_at_line_ends():
    assert [texts.sentences(text) for text in ("12.5 is it. So 3! #### 4", "a\nb\n", "", "one")] == [3, 2, 1, 1]


def test_edit_distance_equals_the_plain_dynamic_programme():
    draw = random.Random(0)
    for _ in range(300):
        first, second = (draw.choices("abcd", k=draw.randrange(0, 70)) for _ in range(2))
        row = list(range(len(second) + 1))
        for i, one in enumerate(first, start=1):
            before, row[0] = row[0], i
            for j, other in enumerate(second, start=1):
                before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
        assert texts.edit_distance(first, second) == row[-1]
    assert texts.distance(["a", "b", "c", "d"], ["a", "x", "c"]) == 0.5
    assert texts.distance([], []) == 0


def record(name, **changes):
    fields = {"kind": "math", "question": QUESTION, "answer": "36", "cot": ORIGINAL}
    return Record(id=name, **{**fields, **changes})


def sample(name, text, **changes):
    row = {
        "id": name, "sample": 0, "text": text, "correct": True, "truncated": False, "chosen": True, "tokens": 10,
        "tokens_original": 20, "length_ratio": 0.5, "copy_ratio": 0.25, "logprob_original": -1.0,
        "logprob_rewrite": -0.5, "cheat_length": 0.0, "cheat_false_equation": 0.0,
    }  # fmt: skip
    return {**row, **changes}


def measured(*rows, records=None, own=True):
    known = records or {row["id"]: record(row["id"]) for row in rows}
    return measure(pd.DataFrame(rows), known, own)


def test_a_faithful_rewrite_deletes_and_adds_nothing():
    found = measured(sample("a", FAITHFUL))
    assert (found["results_deleted"], found["results_added"], found["hallucinated"]) == (0, 0, 0)
    assert found["copy_rate"] == 0
    assert found["sentences_ratio"] == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("text", "deleted", "added"),
    [
        ("#### 36", 1.0, 0),  # 17 and 34 are gone; 36 is the answer, no intermediate result
        ("12 + 5 = 17. The rest is easy. #### 36", 0.5, 0),
        ("12 + 5 = 18. 18 * 2 = 34. #### 36", 0.5, 1),
        ("12 + 5 = 19. 19 * 3 = 57. #### 36", 1.0, 3),
        ("Step 1: 12 + 5 gives 17. Step 2: twice that is 34. Step 3: 36. #### 36", 0.0, 0),
        ("Twelve and five make seventeen. Then 34. #### 36", 0.0, 0),
        ("12.0 + 5.0 = 17.00. 17.0 * 2 = 34. #### 36.0", 0.0, 0),
    ],
)
def test_steps_deleted_and_added_are_counted(text, deleted, added):
    found = measured(sample("a", text))
    assert found["results_deleted"] == deleted
    assert (found["results_added"], found["hallucinated"]) == (added, float(added > 0))


def test_results_are_pooled_and_shares_are_over_rewrites():
    found = measured(sample("a", FAITHFUL), sample("b", "12 + 5 = 90. 91. #### 36"), sample("c", ORIGINAL))
    assert found["results_deleted"] == pytest.approx(2 / 6)
    assert found["results_added"] == pytest.approx(2 / 3)
    assert found["hallucinated"] == found["copy_rate"] == pytest.approx(1 / 3)


def test_programs_have_no_intermediate_results():
    code = record("p", kind="code", answer="", cot="return x + 5")
    found = measured(sample("p", "y = x + 7; return y"), records={"p": code})
    assert np.isnan(found["results_deleted"]) and np.isnan(found["hallucinated"])


def test_only_chosen_rewrites_count_but_answers_of_all_samples():
    found = measured(
        sample("a", FAITHFUL),
        sample("a", "99 #### 99", chosen=False, correct=False, cheat_length=0.3),
        sample("b", "98 #### 36", chosen=False, truncated=True),
        sample("b", "97 #### 97", chosen=False, correct=False),
    )
    assert found["answer_preserved"] == 0.5 and found["acceptance"] == 0.5
    assert found["hallucinated"] == 0
    assert (found["cheat_length"], found["sampled_length"]) == (0, 0.25)


def test_false_equations_are_told_by_whether_the_original_has_one():
    wrong = ORIGINAL.replace("= 34", "= 35")
    records = {name: record(name, cot=cot) for name, cot in (("a", ORIGINAL), ("b", wrong), ("c", wrong))}
    rows = (sample("a", FAITHFUL, cheat_false_equation=1.0), sample("b", FAITHFUL, cheat_false_equation=1.0))
    found = measured(*rows, sample("c", FAITHFUL), records=records)
    assert found["false_introduced"] == found["false_inherited"] == pytest.approx(1 / 3)


def test_perplexity_is_over_all_tokens_and_for_the_own_target_only():
    rows = (sample("a", FAITHFUL), sample("b", FAITHFUL, tokens=30, logprob_rewrite=-0.1, logprob_original=-2.0))
    found = measured(*rows)
    assert found["perplexity_after"] == pytest.approx(np.exp((10 * 0.5 + 30 * 0.1) / 40))
    assert found["perplexity_before"] == pytest.approx(np.exp(1.5))
    assert found["perplexity_ratio"] == pytest.approx(found["perplexity_after"] / found["perplexity_before"])
    assert np.isnan(measured(*rows, own=False)["perplexity_after"])


def test_uniform_rewrites_compress_better_than_their_originals():
    names = [f"a{i}" for i in range(60)]
    records = {name: record(name, cot=f"{ORIGINAL} {i * 7919 % 1009}") for i, name in enumerate(names)}
    same = measured(*[sample(name, FAITHFUL) for name in names], records=records)
    copied = measured(*[sample(name, records[name].cot) for name in names], records=records)
    assert same["compression_ratio"] < 0.5
    assert copied["compression_ratio"] == 1


def test_nothing_chosen_gives_no_values():
    found = measured(sample("a", "#### 1", chosen=False, correct=False))
    assert found["acceptance"] == 0
    assert np.isnan([found[name] for name in ("hallucinated", "copy_rate", "compression_ratio", "length_ratio")]).all()
    assert np.isnan(found["perplexity_after"]) and np.isnan(found["cheat_length"])


def test_the_distance_of_mappers_is_measured_against_that_of_seeds():
    def texts_of(middle):
        return {"q1": ["a", "b", "c", middle], "q2": ["same"]}

    rewrites = {
        ("dart", "ash", 1): texts_of("d"), ("dart", "ash", 2): texts_of("e"),
        ("dart", "birch", 1): {"q1": list("wxyz")}, ("dart", "birch", 2): texts_of("e"),
        ("other", "ash", 1): texts_of("d"),
    }  # fmt: skip
    table = mapper_distances.pairs(rewrites)
    found = table.set_index(["compared", "target", "other_target", "seed", "other_seed"])
    assert len(found) == 4  # never two arms, never both target and seed
    row = found.loc[(mapper_distances.SEEDS, "ash", "ash", 1, 2)]
    assert (row["demonstrations"], row["distance"], row["equal"]) == (2, 0.125, 0.5)
    row = found.loc[(mapper_distances.TARGETS, "ash", "birch", 1, 1)]
    assert (row["demonstrations"], row["distance"], row["equal"]) == (1, 1.0, 0.0)
    (summary,) = mapper_distances.summary(table).to_dict("records")
    assert summary["distance_targets"] == 0.5  # 1 with seed 1, 0 with seed 2
    assert summary["distance_seeds"] == pytest.approx((0.125 + 1.0) / 2)
    assert summary["ratio"] == pytest.approx(0.5 / 0.5625)


@pytest.fixture
def shared(study, tmp_path):
    """The study with an arm ``other`` for ash that trains on dart's data for birch."""
    root = shutil.copytree(study[0], tmp_path / "study")
    scores, trained = root / "scores/ash-dart-s1", root / "runs/ash-dart-s1"
    birch = json.loads((root / "runs/birch-dart-s1/manifest.json").read_text())["inputs"]["data"]
    for folder, name, given in ((trained, "data", birch), (scores, "run", {"path": "", "fingerprint": "other"})):
        copy = shutil.copytree(folder, root / f"{folder.parent.name}/other")
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["spec"]["labels"]["arm"] = "other"
        manifest["fingerprint"] = "other" if name == "data" else "evaluated"
        manifest["inputs"][name] = given
        (copy / "manifest.json").write_text(json.dumps(manifest))
    return read_runs(sorted(root.glob("**/manifest.json")))


def test_the_data_of_an_arm_is_found_by_manifests(shared):
    own = view(arms=("other", "base", "sft", "dart", "rl"))
    found = fidelity.served(shared, own)
    assert [(one.arm, one.target, one.seed) for one in found] == [
        *[("dart", target, seed) for target in ("ash", "birch") for seed in (1, 2, 3)],
        ("other", "ash", 1),
    ]
    assert found[-1].adapted.labels == {"target": "birch", "seed": 1}
    assert fidelity.owners(found) == {"dart": "dart", "other": "dart"}
    values = fidelity.table(found).set_index(["arm", "target", "seed", "measure"])["value"]
    assert np.isnan(values["other", "ash", 1, "perplexity_after"])  # known for birch only
    assert values["other", "ash", 1, "hallucinated"] == values["dart", "birch", 1, "hallucinated"] == 0
    assert set(fidelity.distances(found)["arm"]) == {"dart"}


def test_studies_without_adapted_data_are_refused(study):
    runs = [run for run in read_runs(study[1]) if run.labels.get("arm") != "dart"]
    with pytest.raises(UserError, match="None of the evaluated runs given was trained on adapted data"):
        fidelity.served(runs, view())
    without = [run for run in read_runs(study[1]) if run not in of_stage(read_runs(study[1]), "adapt_data")]
    with pytest.raises(UserError, match="manifest was not given"):
        fidelity.served(without, view())


def test_the_command_writes_tables_and_legend(study, tmp_path):
    line = ["--out", str(tmp_path), "--view", view().model_dump_json(), "--manifests", *map(str, study[1])]
    code = "import sys; from analysis import fidelity; fidelity.main(); sys.exit('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, *line], check=True, capture_output=True, text=True)
    found = pd.read_csv(tmp_path / "fidelity.csv")
    ratio = found[(found["target"] == "birch") & (found["measure"] == "length_ratio")]["value"].mean()
    [printed] = [row for row in ran.stdout.splitlines() if row.startswith("| birch ")]
    assert "| 100.0% [100.0, 100.0] " in printed and f"| {ratio:.2f} [" in printed
    assert list(found) == ["arm", "target", "seed", "measure", "value"]
    assert set(found["arm"]) == {"dart"} and set(found["seed"]) == {1, 2, 3}
    text = (tmp_path / "fidelity.md").read_text()
    assert "## Target ash" in text and "DART: SFT on adapted CoT | 100.0% [100.0, 100.0]" in text
    assert all(f"- {name.replace('_', ' ')}: " in text for name in fidelity.MEASURES)
    assert len(pd.read_csv(tmp_path / "fidelity_distances.csv")) == 3 + 2 * 3
