"""The workflow on a real Slurm: `pytest -m slurm`. What is cut short goes on, and what was done is not done again.

Skipped where Slurm's daemons or Snakemake's plugin for it are missing; ``.ci/run`` installs the former.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from rig import NODE, ask, missing, slurm, wait_for

from dart.manifest import Manifest, read_manifest
from dart.stage import run_stage
from dart.stages import train_sft
from dart.training.checkpoints import latest_checkpoint

REPOSITORY = Path(__file__).parents[2]
PARTS = ("Snakefile", "rules", "configs", "dart", "analysis", "profiles", "slurm")
# Long enough to be cut short after its first checkpoint.
LONG = {"sft": {"epochs": 80, "save_steps": 5}}
LACKING = [*missing(), *([] if importlib.util.find_spec("snakemake_executor_plugin_slurm") else ["Snakemake's plugin"])]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(LACKING), reason=f"no Slurm on this machine: {', '.join(LACKING)} not installed"),
]


@dataclass
class Place:
    """A copy of the repository, in which Snakemake runs on a private Slurm."""

    root: Path
    environment: dict[str, str]

    @property
    def results(self) -> Path:
        return self.root / "results/smoke"

    def start(self, *words: str) -> subprocess.Popen:
        """Start Snakemake as a user would, but for the hurry; its output is in the file ``output``."""
        command = [sys.executable, str(Path(__file__).with_name("fastpoll.py")), "--profile", "slurm", *words]
        with (self.root / "output").open("w") as out:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT}
            return subprocess.Popen(command, cwd=self.root, env=self.environment, **streams)

    def run(self, *words: str) -> str:
        """Run Snakemake to its end; returns what it printed."""
        status = self.start(*words).wait(600)
        assert status == 0, self.printed()
        return self.printed()

    def printed(self) -> str:
        return (self.root / "output").read_text()

    def make(self, *folders: str) -> list[str]:
        """Words that ask for the manifests of these folders; training takes its time."""
        configuration = ["--configfile", "configs/nano.yaml", "configs/smoke.yaml", "long.yaml"]
        return [*configuration, "--", *(f"results/smoke/{folder}/manifest.json" for folder in folders)]

    def job(self, run: str) -> str:
        """Id of the job in the queue that makes ``run``; '' where there is none."""
        lines = ask(self.environment, "squeue", "-h", "-o", "%i %k").splitlines()
        return next((line.split()[0] for line in lines if line.endswith(f"_wildcards_{run}")), "")

    def wait_for_checkpoints(self, number: int) -> None:
        """Return once so many trainings have saved something to go on from."""
        scratch = self.results / "scratch"
        wait_for(lambda: sum(bool(latest_checkpoint(run)) for run in scratch.glob("*")) >= number, "checkpoints", 300)

    def done(self) -> dict[Path, int]:
        """When each finished stage wrote its manifest."""
        return {path: path.stat().st_mtime_ns for path in self.results.glob("**/manifest.json")}

    def trained(self, run: str) -> Manifest:
        return read_manifest(self.results / "runs" / run)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A cluster, and a copy of the repository that it shares."""
    work = tmp_path_factory.mktemp("slurm") / "work"
    ignore = shutil.ignore_patterns(".*", "__pycache__", "results", "wandb")
    shutil.copytree(REPOSITORY, work, symlinks=True, ignore=ignore)
    (work / "long.yaml").write_text(yaml.safe_dump(LONG))
    root = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short name: sockets lie in it
    with slurm(root) as environment:
        yield Place(work, environment | {"OMP_NUM_THREADS": "1", "DART_DATA": ""})
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def finished(place: Place) -> dict[Path, int]:
    """One arm from nothing to its trained model, each stage a job: what is there afterwards."""
    wanted = place.make("runs/ash-sft-s1")
    printed = place.run("--set-resources", "make_data:gpu=1", *wanted)
    assert "4 of 4 steps (100%) done" in printed
    assert "Nothing to be done" in place.run("-n", *wanted)
    return place.done()


@contextlib.contextmanager
def nothing_redone(place: Place) -> Iterator[None]:
    """What was finished before keeps its manifest."""
    before = place.done()
    yield
    after = place.done()
    assert {path: after[path] for path in before} == before


def undisturbed(place: Place, run: str, folder: Path) -> bytes:
    """Weights of the same training, never interrupted and without Slurm."""
    manifest = place.trained(run)
    inputs = [word for name, one in manifest.inputs.items() for word in (f"--{name}", str(place.root / one["path"]))]
    places = ["--out", str(folder / "out"), "--scratch", str(folder / "scratch")]
    run_stage(train_sft.STAGE, ["--config", json.dumps(manifest.spec), *places, *inputs])
    return (folder / "out/model/model.safetensors").read_bytes()


def weights(place: Place, run: str) -> bytes:
    return (place.results / "runs" / run / "model/model.safetensors").read_bytes()


def test_a_plain_run_leaves_manifests_and_no_logs_of_successes(place, finished):
    assert {path.parent.name for path in finished} == {"data", "cot", "ash", "ash-sft-s1"}
    assert not list((place.root / "results/slurm_logs").rglob("*.log"))
    assert place.trained("ash-sft-s1").resumed == 0
    (session,) = json.loads((place.results / "run.json").read_text())
    assert session["cores"] is None and session["finished_at"]


def test_jobs_bear_their_names_and_what_they_asked_for(place, finished):
    columns = "Name:50,Comment:50,MinMemory:10,TimeLimit:12,tres-per-job:20"
    shown = ask(place.environment, "squeue", "-h", "-t", "all", "-O", columns).splitlines()
    jobs = {words[1]: words for words in map(str.split, shown)}
    name, _, *asked = jobs["rule_train_sft_wildcards_ash-sft-s1"]
    assert name.startswith("dart_") and asked == ["3000M", "2:00:00", "N/A"]
    assert jobs["rule_generate_cot"][2:] == ["3000M", "2:00:00", "N/A"]
    # The one stage that runs although the GPU that it asked for is none: it computes on no device.
    assert jobs["rule_make_data"][2:] == ["2000M", "30:00", "gres:gpu:1"]


def test_a_cancelled_job_and_one_out_of_time_go_on_by_themselves(place, finished, tmp_path):
    runs = ("ash-sft-s2", "ash-sft-s3")
    wanted = place.make(*(f"runs/{run}" for run in runs))
    with nothing_redone(place):
        snakemake = place.start(*wanted)
        place.wait_for_checkpoints(2)
        cancelled, late = map(place.job, runs)
        ask(place.environment, "scancel", "--signal=STOP", late)  # it would finish before Slurm notices the time
        ask(place.environment, "scontrol", "update", f"jobid={late}", "EndTime=now+1")
        ask(place.environment, "scancel", cancelled)
        assert snakemake.wait(600) == 0, place.printed()
    printed = place.printed()
    for word, run in (("CANCELLED", runs[0]), ("TIMEOUT", runs[1])):
        assert f"SLURM status is: '{word}' (log results/smoke/logs/train_sft/{run}.log" in printed
    assert [place.trained(run).resumed for run in runs] == [1, 1]
    assert not list((place.results / "scratch").iterdir())
    assert weights(place, runs[1]) == undisturbed(place, runs[1], tmp_path) != weights(place, runs[0])


def test_a_killed_snakemake_and_a_drained_node(place, finished, tmp_path):
    runs = ("ash-native-s1", "ash-native-s2")
    wanted = place.make(*(f"runs/{run}" for run in runs))
    snakemake = place.start(*wanted)
    place.wait_for_checkpoints(2)
    ask(place.environment, "scancel", "--signal=STOP", place.job(runs[1]))  # so that it is still there after the other
    snakemake.send_signal(signal.SIGKILL)
    snakemake.wait()
    wait_for(lambda: not place.job(runs[0]), "the job to end, which outlives Snakemake", 300)
    assert place.trained(runs[0]).resumed == 0
    options = wanted[: wanted.index("--")]
    told = ask(place.environment, sys.executable, "profiles/slurm/recover.py", *options, folder=place.root)
    assert "1 jobs of this folder are still there: cancelling them" in told

    with nothing_redone(place):
        ask(place.environment, "scontrol", "update", f"nodename={NODE}", "state=drain", "reason=test")
        snakemake = place.start(*wanted)
        wait_for(lambda: place.job(runs[1]), "the next job in the queue", 300)
        assert ask(place.environment, "squeue", "-h", "-o", "%T %k") == f"PENDING rule_train_sft_wildcards_{runs[1]}"
        ask(place.environment, "scontrol", "update", f"nodename={NODE}", "state=resume")
        assert snakemake.wait(600) == 0, place.printed()
    assert place.trained(runs[1]).resumed == 1
    assert weights(place, runs[1]) == undisturbed(place, runs[1], tmp_path)
    assert "Nothing to be done" in place.run("-n", *wanted)
