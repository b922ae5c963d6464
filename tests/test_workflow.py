"""The workflow as a user meets it: style, dry runs, the whole DAG in small, what bad input gets."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SMOKE = ["--configfile", "configs/nano.yaml", "configs/smoke.yaml"]
REHEARSAL = ["--configfile", "configs/rehearsal.yaml"]
PAPER = ["--configfile", "configs/paper.yaml"]
SCALES = {"nano": [], "smoke": SMOKE, "rehearsal": REHEARSAL, "paper": PAPER}


def snakemake(results: Path, *arguments: str, config: Sequence[str] = (), **env: str) -> subprocess.CompletedProcess:
    """Run Snakemake on the repository with results elsewhere; its output is in ``stdout``."""
    command = [str(BIN / "snakemake"), "--nolock", *arguments, "--config", f"results={results}", *config]
    merged = {**os.environ, "DART_DATA": "", **env}
    merged.pop("WANDB_MODE", None)  # as a user has it
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, cwd=ROOT, env=merged, timeout=600, **pipe)


def planned(output: str) -> dict[str, int]:
    """Jobs by rule in a dry run's table."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total ", output, re.MULTILINE | re.DOTALL)
    return {name: int(number) for name, number in (line.split() for line in table[1].splitlines())} if table else {}


def test_style():
    lint = subprocess.run([BIN / "snakemake", "--lint"], cwd=ROOT, capture_output=True, text=True)
    assert lint.returncode == 0 and "in a good condition" in lint.stderr, lint.stderr
    files = ["Snakefile", *map(str, sorted((ROOT / "rules").iterdir()))]
    layout = subprocess.run([BIN / "snakefmt", "--check", *files], cwd=ROOT, capture_output=True, text=True)
    assert layout.returncode == 0, layout.stderr
    assert len((ROOT / "Snakefile").read_text().splitlines()) < 60


def test_snakemake_still_has_the_rate_limit_that_is_switched_off():
    """`begin` in rules/common.smk sets it to None; under another name that would do nothing, silently."""
    assert "self.job_rate_limiter = (" in inspect.getsource(JobScheduler.__init__)


def test_rules_bear_the_names_of_their_modules():
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    start = r"\"(?:DART_GPU={resources.gpu} )?start {log} ([\w.]+) "
    called = re.findall(rf"^rule (\w+):(?:(?!^rule ).)*?{start}", rules, re.MULTILINE | re.DOTALL)
    assert len(called) == 28
    assert all(module in (f"dart.stages.{rule}", f"analysis.{rule}") for rule, module in called)
    stages = {path.stem for path in (ROOT / "dart/stages").glob("[a-z]*.py")}
    assert stages == {rule for rule, module in called if module.startswith("dart.")}


@pytest.mark.parametrize("scale", SCALES)
def test_dry_run_of_every_configuration(tmp_path, scale):
    done = snakemake(tmp_path, "-n", *SCALES[scale])
    jobs = planned(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {"make_data", "train_mapper", "train_sft", "train_rl", "evaluate", "report"} <= set(jobs)
    assert not list(tmp_path.iterdir()), "a dry run leaves nothing behind"


def test_a_stage_that_computes_on_a_gpu_is_told_how_many_it_was_given(tmp_path):
    """It then refuses to start where there are fewer, rather than run for days on a CPU."""
    computing = {path.stem for path in (ROOT / "dart/stages").glob("[a-z]*.py")}
    computing -= {"make_data", "select_data", "fetch_model"}
    given = {stage: str(number) for number, stage in enumerate(sorted(computing), 1)}
    wanted = ("--set-resources", *(f"{stage}:gpu={number}" for stage, number in given.items()))
    done = snakemake(tmp_path, "all", "-n", "-p", "--quiet", "host", *wanted)
    started = re.findall(r"DART_GPU=(\d+) start \S+ dart\.stages\.(\w+)", done.stdout)
    assert {stage: number for number, stage in started} == given


@pytest.mark.parametrize("scale", SCALES)
def test_all_makes_every_arm_and_the_claims(tmp_path, scale):
    done = snakemake(tmp_path, "all", "-n", *SCALES[scale])
    jobs = planned(done.stdout)
    assert done.returncode == 0, done.stdout
    analysed = {"claims", "fidelity", "figure_arms", "study_report"}
    assert {"pass_rate", "score_data", "select_data", "rework_data", *analysed} <= set(jobs)
    assert jobs["compare"] >= 25
    assert jobs.get("fetch_model", 0) == (5 if scale == "paper" else 0)
    assert jobs.get("train_zoo", 0) == {"paper": 0, "rehearsal": 2}.get(scale, 4)


def test_learning_rates_are_compared_for_the_pairs_of_the_main_table(tmp_path):
    said = snakemake(tmp_path, "learning_rates", "-n", "-p", "--quiet", "host").stdout
    (view,) = re.findall(r"analysis\.learning_rates .* --view '(\{.*?\})' --validation", said.replace("'\"'\"'", ""))
    assert ["dart", "sft"] in json.loads(view)["comparisons"] and ["sft", "base"] in json.loads(view)["comparisons"]


def test_named_targets_cover_every_arm_of_their_group(tmp_path):
    jobs = planned(snakemake(tmp_path, "ablations", "-n").stdout)
    assert jobs["compare"] == 8
    one = planned(snakemake(tmp_path, "ablation_no_gate", "-n").stdout)
    assert one["compare"] == one["ablation_no_gate"] == 1 and one["train_mapper"] == 12  # those of dart and its own


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The whole DAG with a few steps of everything, from nothing to the report."""
    results = tmp_path_factory.mktemp("results")
    done = snakemake(results, *SMOKE)
    assert done.returncode == 0, done.stdout
    return results, done.stdout


def test_the_whole_dag_ends_in_a_report(smoke):
    results, output = smoke
    root = results / "smoke"
    assert len((root / "report/index.html").read_text()) > 10_000
    assert f"{root}/report/index.html" in output
    for name in ("figure_reward_curves", "figure_efficiency", "figure_example", "figure_mismatch"):
        assert all((root / f"figures/{name}.{kind}").stat().st_size for kind in ("png", "pdf", "csv"))
    (session,) = json.loads((root / "run.json").read_text())
    assert session["finished_at"] > session["started_at"] and session["cores"] >= 1
    assert not list((root / "scratch").iterdir()), "finished stages leave no checkpoints"


def test_a_progress_line_shows_stage_step_speed_and_time_left(smoke):
    pattern = r"^(\w+) +[\w ]+ \w+ [\d.]+/[\d.]+  [\d.e+-]+ \w+/s  \d+ s left$"
    told = {line[1] for line in re.finditer(pattern, smoke[1], re.MULTILINE)}
    assert {"train_zoo", "train_mapper", "adapt_data", "train_sft", "train_rl", "evaluate"} <= told, smoke[1]
    assert re.search(r"^\d+ of \d+ steps \(\d+%\) done$", smoke[1], re.MULTILINE)


def test_a_finished_run_has_nothing_to_do(smoke):
    done = snakemake(smoke[0], "-n", *SMOKE)
    assert "Nothing to be done" in done.stdout and planned(done.stdout) == {}, done.stdout
    again = snakemake(smoke[0], *SMOKE)
    assert "Nothing to be done" in again.stdout
    assert len(json.loads((smoke[0] / "smoke/run.json").read_text())) == 1


def test_a_changed_value_reruns_what_it_affects(smoke):
    done = snakemake(smoke[0], "-n", *SMOKE, config=["rl={learning_rate: 1.0e-6}"])
    jobs = planned(done.stdout)
    assert {"train_rl", "evaluate"} <= set(jobs)
    assert jobs["train_rl"] == jobs["evaluate"] == len(list((smoke[0] / "smoke/runs").glob("*-rl-*")))
    assert not {"make_data", "train_zoo", "train_mapper", "adapt_data", "train_sft"} & set(jobs)


def test_an_arm_by_name_makes_only_what_it_needs_and_prints_its_comparison(smoke):
    jobs = planned(snakemake(smoke[0], "-n", "arm_samples_1", *SMOKE).stdout)
    assert jobs == {"adapt_data": 4, "train_sft": 4, "evaluate": 4, "compare": 1, "arm_samples_1": 1}
    done = snakemake(smoke[0], "arm_samples_1", *SMOKE)
    assert done.returncode == 0, done.stdout
    rows = re.findall(r"^\| (ash|birch) +\| (.+?) +\| +([\d.]+) \[.*?\] +\| +(.*?) *\|$", done.stdout, re.MULTILINE)
    assert len(rows) == 10 and sum(gain == "" for *_, gain in rows) == 2, done.stdout  # five arms a target
    saved = (smoke[0] / "smoke/tables/arms/samples_1.md").read_text()
    assert "# Arm samples_1: DART with one rewrite a demonstration (smoke)" in saved


UNPINNED = "`python -m dart.pin configs/paper.yaml` asks the hub and fills them in"
BAD = {
    "unknown key": (["--config", "learning_rat=1"], "learning_rat is not a known key; did you mean learning_rate?"),
    "wrong value": (["--config", "seeds=many"], "The configuration: seeds = 'many' is not allowed"),
    "unknown model": (
        ["--config", "targets=[oak]"],
        "targets: oak names the model 'oak', which zoo.models and models lack",
    ),
    "unknown run": (["{root}/nano/runs/ash-drat-s1/manifest.json"], "nano/runs/ash-drat-s1; the nearest is"),
    "unpinned revision": (
        [*REHEARSAL, "--config", "data={train: {gsm8k: {revision: main}}}"],
        "data.train.gsm8k.revision = 'main' is not allowed: a revision is pinned by the 40 hex digits",
    ),
    "open revision": (
        ["-n", *REHEARSAL, "--config", "data={train: {math: {revision: ''}}}"],
        f"data.train.math (DigitalLearningGmbH/MATH-lighteval) has no pinned revision; {UNPINNED}",
    ),
    "open revisions": (
        [*PAPER, "--config", "data={train: {mbpp: {revision: ''}}}", "models={qwen3_0_6b: {revision: ''}}"],
        "data.train.mbpp (google-research-datasets/mbpp) has no pinned revision and 1 more has none either; "
        f"{UNPINNED}, or DART_DATA and DART_MODELS name folders with local copies.",
    ),
    "unread benchmark": (
        [*PAPER, "--config", "evaluate={further: [aime]}"],
        "evaluate names the task 'aime', for which data.benchmarks has no data set",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_before_any_compute(tmp_path, case):
    words, sentence = BAD[case]
    words = [word.replace("{root}", str(tmp_path)) for word in words]
    split = words.index("--config") if "--config" in words else len(words)
    done = snakemake(tmp_path, *words[:split], config=words[split + 1 :])
    assert done.returncode != 0 and sentence in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_missing_environment_is_told_before_any_compute(tmp_path):
    done = snakemake(tmp_path, "--configfile", "configs/nano.yaml", config=["environment=gpu"])
    assert done.returncode != 0 and "need the environment" in done.stdout and "make .venv-gpu" in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_a_run_is_given_changes_no_run(smoke):
    more = "resources={train_sft: {gpu: 2, mem_mb: 9000, cpus_per_task: 8, runtime: 9}}"
    jobs = planned(snakemake(smoke[0], "-n", *SMOKE, config=[more]).stdout)
    assert set(jobs) <= {"configuration", "report", "reproduce"}


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("{root}/nowhere", "DART_DATA names {root}/nowhere, which is no folder"),
        ("{root}", "DART_DATA names {root}, which lacks gsm8k_test.jsonl"),
        ("", "openai/gsm8k at e53f0488 cannot be had from the Hugging Face hub"),
    ],
)
def test_missing_data_is_told_at_once(tmp_path, folder, sentence):
    done = snakemake(
        tmp_path / "results",
        *REHEARSAL,
        DART_DATA=folder.format(root=tmp_path),
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path),
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("make_data: ")]
    assert done.returncode != 0 and told and sentence.format(root=tmp_path) in told[0], done.stdout
    assert not list((tmp_path / "results").rglob("manifest.json"))


def test_a_failing_stage_is_told_in_its_own_words_and_loses_nothing(tmp_path):
    root = tmp_path / "smoke"
    target = str(root / "cot/manifest.json")
    done = snakemake(tmp_path, target, *SMOKE, config=["cot={source: expert}"])  # an untrained expert verifies nothing
    told = [line for line in done.stdout.splitlines() if line.startswith("generate_cot: ")]
    assert done.returncode != 0 and len(told) == 2 and told[0] == told[1], done.stdout  # at once, and at the end
    assert told[0].endswith(f"(status 2, log {root}/logs/generate_cot.log)")
    kept = (root / "data/manifest.json").stat().st_mtime_ns
    cured = snakemake(tmp_path, target, *SMOKE)
    assert cured.returncode == 0, cured.stdout
    assert (root / "data/manifest.json").stat().st_mtime_ns == kept
