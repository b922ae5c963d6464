"""The table of runs, the configurations and the statuses of their values."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dart import knobs, runs
from dart.config import Config, load
from dart.errors import UserError
from dart.parsing import merge, parse

ROOT = Path(__file__).parents[1]
SCALES = {"nano": ["nano"], "smoke": ["nano", "smoke"], "rehearsal": ["rehearsal"], "paper": ["paper"]}


def config(scale: str) -> Config:
    return load([ROOT / f"configs/{name}.yaml" for name in ["base", "arms", *SCALES[scale]]])


def changed(scale: str, **changes: object) -> Config:
    return parse(Config, merge(config(scale).model_dump(mode="json"), changes), "test")


@pytest.mark.parametrize("scale", SCALES)
def test_every_run_is_what_its_stage_takes(scale):
    for run in runs.table(config(scale)):
        stage = importlib.import_module(f"dart.stages.{run.stage}").STAGE
        spec = parse(stage.spec, json.loads(json.dumps(run.spec)), run.folder)
        assert spec.labels == run.spec["labels"]
        assert set(run.inputs) <= set(stage.inputs), run
        assert set(stage.inputs) - stage.optional <= set(run.inputs), run
        assert runs.stage_version(run.stage) == stage.version


@pytest.mark.parametrize("scale", SCALES)
def test_table_is_closed_and_ids_are_unique(scale):
    table = runs.table(config(scale))
    assert table == runs.table(config(scale))
    folders = {run.folder for run in table}
    assert len(folders) == len(table) == len({(run.stage, run.id) for run in table})
    assert all(folder in folders for run in table for folder in run.inputs.values())


def test_main_arms_make_one_evaluation_a_target_and_seed():
    table = runs.table(config("nano"))
    evaluated = runs.evaluated(table, config("nano").main_arms, config("nano").seeds)
    labels = sorted((run.spec["labels"]["target"], run.arm, run.spec["labels"]["seed"]) for run in evaluated)
    trained = [(t, arm, seed) for t in ("ash", "birch") for arm in ("dart", "rl", "sft") for seed in (1, 2, 3)]
    assert labels == sorted([*trained, ("ash", "base", 0), ("birch", "base", 0)])


def test_an_arm_is_a_row_of_yaml():
    table = runs.table(
        changed("nano", arms={"mine": {"title": "Mine", "group": "ablations", "trainer": "sft", "data": "adapted"}})
    )
    mine = runs.find(table, "train_sft", "birch-mine-s2")
    assert mine.inputs == {"model": "models/birch", "data": "adapted/birch-s2"}
    assert mine.spec["seed"] == 2 and mine.spec["labels"] == {"arm": "mine", "target": "birch", "seed": 2}


def arm(data="adapted", start="target", trainer="sft", **knobs):
    return {"title": "Mine", "group": "ablations", "start": start, "trainer": trainer, "data": data, "knobs": knobs}


def test_an_ablation_changes_its_own_runs_and_shares_the_rest():
    before = runs.table(config("nano"))
    table = runs.table(changed("nano", arms={"mine": arm(adapt={"samples": 2}, sft={"epochs": 1})}))
    added = {run.folder: run for run in table if run.folder not in {other.folder for other in before}}
    kinds = ("adapted/{}-mine-s{}", "runs/{}-mine-s{}", "scores/{}-mine-s{}")
    assert set(added) == {kind.format(t, seed) for kind in kinds for t in ("ash", "birch") for seed in (1, 2, 3)}
    assert all(run in table for run in before), "no other arm's run has changed"
    mine = added["adapted/ash-mine-s2"]
    assert mine.spec["adapt"]["samples"] == 2 and mine.inputs["mapper"] == "mapper/ash-s2"
    assert added["runs/ash-mine-s2"].inputs["data"] == "adapted/ash-mine-s2"
    assert added["runs/ash-mine-s2"].spec["sft"]["epochs"] == 1


def test_arms_of_equal_knobs_share_their_mapper():
    gate = {"reward": {"gate": "additive"}}
    arms = {"one": arm(mapper=gate), "two": arm(mapper=gate, sft={"epochs": 1}), "three": arm(sft={"epochs": 1})}
    table = runs.table(changed("nano", arms=arms))
    data = {name: runs.find(table, "train_sft", f"ash-{name}-s1").inputs["data"] for name in arms}
    shared = runs.find(table, "train_sft", "ash-additive_gate-s1").inputs["data"]
    assert data == {"one": shared, "two": shared, "three": "adapted/ash-s1"}
    assert runs.find(table, "train_mapper", "ash-additive_gate-s1").spec["mapper"]["reward"]["gate"] == "additive"


def test_an_arm_s_knobs_are_checked_like_the_configuration():
    with pytest.raises(
        UserError, match=r"arms\.mine\.knobs: mapper\.reward\.gat is not a known key; did you mean gate"
    ):
        runs.table(changed("nano", arms={"mine": arm(mapper={"reward": {"gat": "none"}})}))
    with pytest.raises(UserError, match=r"arms\.mine\.knobs\.data"):  # shared by all arms
        changed("nano", arms={"mine": arm() | {"knobs": {"data": {"train_size": 3}}}})


def test_the_documented_example_is_an_arm():
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/adding_an_arm.md").read_text(), re.DOTALL)
    table = runs.table(changed("nano", **yaml.safe_load(block)))
    assert runs.find(table, "train_mapper", "ash-gentle_mapper-s1").spec["mapper"]["grpo"]["learning_rate"] == 2.5e-5
    assert runs.find(table, "train_sft", "birch-gentle_mapper-s3").inputs["data"] == "adapted/birch-gentle_mapper-s3"


def test_main_arms_have_further_seeds_and_sweeps_fewer():
    table = runs.table(changed("nano", seeds=[1, 2], main_seeds=[1, 2, 3], sweep_seeds=[2]))
    seeds = {name: {run.spec["labels"]["seed"] for run in runs.evaluated(table, [name])} for name in
             ("base", "dart", "no_gate", "dart_mapper_steps_x2")}  # fmt: skip
    assert seeds == {"base": {0}, "dart": {1, 2, 3}, "no_gate": {1, 2}, "dart_mapper_steps_x2": {2}}
    chosen = runs.evaluated(table, ["sft", "sft_learning_rate_x4"], split="validation")
    assert {tuple(run.spec["evaluate"]["tasks"]) for run in chosen} == {("validation",)}
    assert sorted(run.id for run in chosen if "ash" in run.id) == [
        "ash-sft-s2-validation", "ash-sft_learning_rate_x4-s2-validation",
    ]  # fmt: skip


def test_checkpoints_are_kept_where_they_are_evaluated():
    kept = {"sft": {"export_at": [0.5]}, "rl": {"export_at": [0.5]}}
    table = runs.table(changed("nano", **kept, arms={"mine": arm(evaluate={"checkpoints": "all"})}))
    trained = {run.arm: run for run in table if run.stage in ("train_sft", "train_rl")}
    exports = {name: run.spec.get("sft", run.spec.get("rl"))["export_at"] for name, run in trained.items()}
    assert {name for name, shares in exports.items() if shares == [0.5]} == {"sft", "dart", "rl", "mine"}
    assert {name for name, shares in exports.items() if not shares} >= {"rft", "rl_equal_cost", "dart_data_size_x0.5"}
    watched = {run.arm for run in table if run.stage == "evaluate" and run.spec["evaluate"]["checkpoints"] == "all"}
    assert watched == {"sft", "dart", "rl", "mine"}


def test_a_sweep_multiplies_its_knob_and_nothing_else():
    found = config("nano")
    arms = found.every_arm()
    assert arms["rl_learning_rate_x4"].knobs["rl"] == {"learning_rate": 8e-5}
    assert arms["dart_mapper_steps_x0.25"].knobs["mapper"] == {"grpo": {"steps": 15}}
    assert [(p.arm, p.value, p.name) for p in found.points("data_size")][:3] == [
        ("sft", 375, "sft_data_size_x0.25"), ("sft", 750, "sft_data_size_x0.5"), ("sft", 1500, "sft"),
    ]  # fmt: skip
    # An arm that differs from the swept one in the knob alone is a point as well: no other has an untrained mapper and
    # chooses among as many rewrites.
    assert [(p.value, p.name) for p in found.points("mapper_steps")] == [
        (0, "best_of_n"), (15, "dart_mapper_steps_x0.25"), (60, "dart"), (120, "dart_mapper_steps_x2"),
    ]  # fmt: skip
    assert [p.name for p in found.points("learning_rate") if "_x" not in p.name] == ["sft", "dart", "rl"]
    with pytest.raises(UserError, match=r"sweeps\.data_size\.knob is 'sft\.exampels', which is no number"):
        changed("nano", sweeps={"data_size": {"knob": "sft.exampels"}}).every_arm()
    with pytest.raises(UserError, match=r"sweeps\.data_size names the arm 'sfd'"):
        changed("nano", sweeps={"data_size": {"arms": ["sfd"]}}).every_arm()


def test_another_target_s_data_and_an_untrained_mapper_need_no_mapper_rl_of_their_own():
    table = runs.table(config("nano"))
    assert runs.find(table, "train_sft", "ash-cross_target-s2").inputs["data"] == "adapted/birch-s2"
    assert runs.find(table, "adapt_data", "ash-best_of_n-s1").inputs["mapper"] == "models/mapper"
    assert runs.find(table, "adapt_data", "ash-self_rewrite-s1").inputs["mapper"] == "models/ash"
    trained = {run.id for run in table if run.stage == "train_mapper"}
    assert not [name for name in trained if "cross" in name or "self" in name or "untrained" in name]


def test_an_arm_goes_on_from_another_of_the_same_target_and_seed():
    table = runs.table(config("nano"))
    assert runs.find(table, "train_rl", "birch-dart_rl-s3").inputs == {
        "model": "runs/birch-dart-s3",
        "questions": "cot",
    }
    second = runs.find(table, "train_sft", "ash-stage_specific-s1")
    assert second.inputs["model"] == "runs/ash-stage_specific_loop-s1"
    reworked = runs.find(table, "rework_data", "ash-stage_specific-s1")
    assert reworked.inputs["rollouts"] == "rollouts/ash-stage_specific_loop-s1" and reworked.spec["critique"] is True
    rollouts = runs.find(table, "pass_rate", "ash-stage_specific_loop-s1")
    assert rollouts.inputs["model"] == "runs/ash-stage_specific_loop-s1"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mine": arm("questions", "base", "rl")}, "arms.mine.start names 'base', no trained arm"),
        ({"one": arm(start="two"), "two": arm(start="one")}, r"arms.one starts from itself \(one <- two <- one\)"),
        ({"mine": arm("questions", "dart_mapper_steps_x2", "rl")}, r"arms.mine has the seeds \[3\]"),
        ({"mine": arm("none")}, "arms.mine: trainer sft needs data"),
        ({"mine": arm(sft={"loss": "pear"})}, "known for data: original only"),
    ],
)  # fmt: skip
def test_an_arm_that_cannot_be_made_is_refused_in_words(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        runs.table(changed("nano", arms=changes))


def test_models_of_the_hub_and_of_the_zoo_are_alike_to_all_that_use_them():
    table = runs.table(config("paper"))
    found = {run.id: run for run in table if run.stage == "fetch_model"}
    assert set(found) == set(config("paper").models) and not [run for run in table if run.stage == "train_zoo"]
    llama = found["llama3_2_1b"]
    assert (llama.folder, llama.inputs) == ("models/llama3_2_1b", {})
    assert llama.spec == {"labels": {"model": "llama3_2_1b"}, **config("paper").models["llama3_2_1b"].model_dump(
        exclude={"vocabulary"})}  # fmt: skip
    trained = runs.find(table, "train_mapper", "llama3_2_1b-s1")
    assert trained.inputs["mapper"] == "models/qwen3_1_7b" and trained.inputs["target"] == "models/llama3_2_1b"
    assert runs.find(table, "generate_cot").inputs["model"] == "models/qwen2_5_7b"
    assert runs.find(table, "make_data").spec["tokenizer"] is None


def test_pear_is_for_targets_whose_token_ids_are_the_expert_s():
    table = runs.table(config("paper"))
    pear = ("pear_sequence", "pear_block", "pear_token", "pear_rl")
    assert {run.spec["labels"]["target"] for run in runs.evaluated(table, pear)} == {"qwen2_5_0_5b"}
    assert {run.arm for run in table if run.id.startswith("qwen2_5_0_5b-")} >= set(pear)
    same = {name: {"vocabulary": "one"} for name in config("paper").models}
    table = runs.table(changed("paper", models=same))
    assert {run.spec["labels"]["target"] for run in runs.evaluated(table, pear)} == set(config("paper").targets)


def test_an_overlay_extends_the_file_that_it_names():
    paper, found = config("paper"), config("rehearsal")
    assert found.scale == "rehearsal" and found.targets == ("tiny",)
    assert found.evaluate.tasks == paper.evaluate.tasks and found.prompts == paper.prompts
    assert found.data.train["mbpp"].repo == paper.data.train["mbpp"].repo
    assert found.data.train["mbpp"].size < paper.data.train["mbpp"].size


def test_only_benchmarks_that_are_evaluated_are_read():
    (made,) = (run for run in runs.table(config("rehearsal")) if run.stage == "make_data")
    assert set(made.spec["data"]["benchmarks"]) == {"gsm8k", "math500", "svamp", "multiarith", "humaneval", "mbpp"}
    (made,) = (run for run in runs.table(config("paper")) if run.stage == "make_data")
    assert set(made.spec["data"]["benchmarks"]) == set(config("paper").data.benchmarks)


@pytest.mark.parametrize(
    ("scale", "changes", "sentence"),
    [
        ("paper", {"zoo": {"models": {"qwen3_0_6b": {"start": None, "style": "", "others": 0, "mixture": {}, "steps": 0,
          "learning_rate": 1, "seed": 1}}}}, r"'qwen3_0_6b' is in zoo\.models and in models; rename one"),
        ("paper", {"evaluate": {"further": ["aime"]}}, r"task 'aime', for which data\.benchmarks has no data set; it"),
        ("nano", {"data": {"train_size": None}}, r"data\.train_size is not set; say how many"),
    ],
)  # fmt: skip
def test_models_and_data_that_are_not_declared_once(scale, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        runs.table(changed(scale, **changes))


def test_with_inputs_reaches_the_data():
    table = runs.table(config("nano"))
    upstream = runs.with_inputs(table, [runs.find(table, "evaluate", "ash-dart-s1")])
    assert [run.folder for run in upstream] == [
        "data",
        "models/ash",
        "models/expert",
        "models/mapper",
        "cot",
        "mapper/ash-s1",
        "adapted/ash-s1",
        "runs/ash-dart-s1",
        "scores/ash-dart-s1",
    ]


def test_a_changed_value_changes_only_the_runs_it_affects():
    before = {run.folder: run.spec for run in runs.table(config("nano"))}
    after = {run.folder: run.spec for run in runs.table(changed("nano", rework={"attempts": 9}))}
    differing = {folder for folder in before if before[folder] != after[folder]}
    arms = ("stage_specific_sft", "stage_specific")
    assert differing == {f"reworked/{t}-{arm}-s{seed}" for t in ("ash", "birch") for arm in arms for seed in (1, 2, 3)}


def test_unknown_names_are_told_with_the_nearest():
    with pytest.raises(UserError, match="no run 'ash-drat-s1'; the nearest is ash-dart-s1"):
        runs.find(runs.table(config("nano")), "train_sft", "ash-drat-s1")
    table = runs.table(config("nano"))
    for good in ("table1", "-n", "results/nano/runs/ash-dart-s1/manifest.json", "results/nano/tables/table1.csv"):
        runs.check_targets(table, "results/nano", [good])
    with pytest.raises(UserError, match=r"no run results/nano/runs/ash-drat-s1; the nearest is .*/ash-dart-s1 "):
        runs.check_targets(table, "results/nano", ["results/nano/runs/ash-drat-s1/manifest.json"])
    with pytest.raises(UserError, match=r"'oak', which zoo\.models and models lack; they have ash, .*"):
        runs.table(changed("nano", targets=["oak"]))
    with pytest.raises(UserError, match="'dort', which arms lacks"):
        runs.table(changed("nano", main_arms=["dort"]))
    with pytest.raises(UserError, match="native data"):
        runs.table(changed("rehearsal", main_arms=["native"]))


def test_every_result_affecting_value_has_a_status_and_nothing_else_has():
    statuses = knobs.read(ROOT / "configs/knobs.yaml")
    assert set(statuses) == set(knobs.keys())
    listed = {knob.key: knob.value for knob in knobs.join(config("nano"), statuses)}
    assert listed["zoo.models.ash.style"] == config("nano").zoo.models["ash"].style
    assert not [key for key in listed if key.startswith(("data.train.", "data.benchmarks.", "models."))]
    listed = {knob.key: knob for knob in knobs.join(config("paper"), statuses)}
    assert listed["data.train.math.size"].value == config("paper").data.train["math"].size
    assert listed["models.qwen3_0_6b.repo"].status == "inferred"


def test_schema_is_in_step():
    written = json.loads((ROOT / "configs/schemas/config.schema.json").read_text())
    assert written == Config.model_json_schema(), "run `python -m dart.config`"


def test_commands_print_the_table_and_the_knobs():
    files = [str(ROOT / f"configs/{name}.yaml") for name in ("base", "arms", "nano")]
    for module, line in (("dart.runs", "scores/ash-dart-s1"), ("dart.knobs", "rl.learning_rate = ")):
        done = subprocess.run([sys.executable, "-m", module, *files], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0 and line in done.stdout
        done = subprocess.run([sys.executable, "-m", module, "absent.yaml"], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 2 and "does not exist" in done.stderr
