"""Two processes (gloo) train as one does: losses, rewards, weights, counts, resume; and what is refused.

Stated tolerances: losses and metrics 1e-5 of their value (1e-7 where they are near 0), gradient norms 1e-4, weights
5e-6 after three to seven updates of 1e-3. A start of two processes takes 20 s to 60 s on two busy cores, so that all
runs that are compared share one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from training_fixture import (
    PEAR,
    PROMPTS,
    arguments,
    data_input,
    demonstrations,
    grpo_knobs,
    mapper_spec,
    metric_rows,
    model_input,
    same_weights,
    sft_spec,
    weights,
)

from dart import chat, launch, processes
from dart.errors import UserError
from dart.manifest import read_manifest
from dart.reward.alignment import normalised
from dart.sections import Grpo, Prompts
from dart.stage import Context
from dart.training import guards
from dart.training.arguments import one_device, rows_per_device
from dart.training.checkpoints import check_processes, latest_checkpoint
from dart.training.grpo_arguments import check_shares
from dart.training.loading import load_tokenizer
from dart.training.supervised import Example, Settings, laid_out
from tests import two_processes

ROOT = Path(__file__).parent.parent
SETTINGS = Settings(12, 2, 1e-3, "constant", 0, 0.0, 1.0, 1000, 0)


def minmax(spec):
    """The spec with a reward that is normalised over the whole step."""
    spec["mapper"]["reward"]["normalise"] = "batch_minmax"
    return spec


def rl_spec(**changes):
    return {"labels": {"arm": "rl"}, "seed": 1, "prompts": PROMPTS, "rl": grpo_knobs(**changes)}


# Stage, spec, whether completions are made up. Batches of 12 leave 4 of 14 x 2 examples for the last update.
RUNS = {
    "nll": ("train_sft", sft_spec(batch_size=12, epochs=2, gradient_accumulation=2), False),
    "small": ("train_sft", sft_spec(batch_size=12, epochs=2, gradient_accumulation=6, export_at=[0.5]), False),
    "dft": ("train_sft", sft_spec(batch_size=12, epochs=2, loss="dft"), False),
    "pear": ("train_sft", sft_spec(batch_size=12, epochs=2, loss="pear", gradient_accumulation=2), False),
    "mean1": ("train_sft", sft_spec(batch_size=4, loss="pear", pear=PEAR | {"normalise": "mean1"}), False),
    "rl": ("train_rl", rl_spec(loss_type="dapo", scale_rewards="batch", gradient_accumulation=2, beta=0.1), True),
    "mapper": ("train_mapper", minmax(mapper_spec()), True),
}
ACCUMULATED = ("nll", "small", "pear", "rl")
LONG = {
    "sft": ("train_sft", sft_spec(batch_size=8, epochs=30, save_steps=7, gradient_accumulation=2), False),
    "mapper": ("train_mapper", mapper_spec(steps=16, save_steps=5, gradient_accumulation=2), False),
}


def behaviour(folder, model):
    """Made-up scores of the demonstrations under the policy that wrote them."""
    tokenizer, noise = load_tokenizer(model / "model"), torch.Generator().manual_seed(1)
    rows = []
    for record in demonstrations(14):
        length = len(chat.completion_ids(tokenizer, chat.solve_messages(Prompts(**PROMPTS), record), record.cot))
        rows.append({"id": record.id, "logps": (-5 + torch.randn(length, generator=noise)).tolist()})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "scores.parquet")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model_dir):
    folder = tmp_path_factory.mktemp("inputs")
    model, data = model_input(folder / "ash", tiny_model_dir), data_input(folder / "cot", demonstrations(14))
    scores = data_input(folder / "scores", [])
    behaviour(scores, model)
    return {
        "train_sft": {"model": model, "data": data, "behaviour": scores},
        "train_rl": {"model": model, "questions": data},
        "train_mapper": {"mapper": model, "target": model, "cot": data},
    }


def job(run, out, folders):
    stage, spec, pretend = run
    return [stage, arguments(spec, out, out.parent / "scratch", **folders[stage]), pretend]


def start(tmp_path, jobs, **options):
    """Start two processes that run the jobs."""
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "dart.launch", "--cpu", "2", "tests.two_processes", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)


def finish(process):
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, folders):
    """Run name -> folder of the run of one process, folder of the run of two."""
    root = tmp_path_factory.mktemp("runs")
    one, two = ({name: root / number / name for name in RUNS} for number in ("one", "two"))
    whole = {name: root / "two" / "whole" / name for name in LONG}
    jobs = [job(RUNS[name], two[name], folders) for name in RUNS]
    process = start(root, jobs + [job(LONG[name], whole[name], folders) for name in LONG])
    for name in RUNS:
        two_processes.run(*job(RUNS[name], one[name], folders))
    finish(process)
    return {name: (one[name], two[name]) for name in RUNS} | {"whole": whole}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(pairs, folders, name):
    alone, together = map(metric_rows, pairs[name])
    assert len(alone) == len(together) >= 3
    part_means = {"entropy", "token_accuracy", "kl"}  # TRL's means over parts of a batch, of whatever size
    for one, two in zip(alone, together, strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"device_seconds", "epoch"} - (part_means if name in ACCUMULATED else set()):
            exact = key in Context.COUNTERS or key == "step"
            wide = 1e-4 if key == "grad_norm" else 1e-5
            assert two[key] == (one[key] if exact else pytest.approx(one[key], rel=wide, abs=1e-7)), (one["step"], key)
    start_, left, right = weights(next(iter(folders[RUNS[name][0]].values()))), *map(weights, pairs[name])
    assert max((left[key] - start_[key]).abs().max() for key in left) > 1e-3
    worst = max((left[key] - right[key]).abs().max().item() for key in left)
    print(f"{name}: weights differ by {worst:.1e}")
    assert worst < 5e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_manifest_tells_two_processes_and_the_cost_of_both(pairs, name):
    one, two = map(read_manifest, pairs[name])
    assert (one.world_size, two.world_size) == (1, 2)
    assert two.device_seconds == pytest.approx(2 * two.seconds, rel=1e-3)
    for counter in Context.COUNTERS:
        assert getattr(one, counter) == getattr(two, counter)
    assert one.fingerprint == two.fingerprint and not list((pairs[name][1].parent / "scratch").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rl", "mapper"])
def test_all_completions_are_kept_in_their_order(pairs, name):
    one, two = (pyarrow.parquet.read_table(folder / "completions.parquet").to_pydict() for folder in pairs[name])
    assert one.keys() == two.keys()
    assert [one[key] for key in ("step", "id", "completion")] == [two[key] for key in ("step", "id", "completion")]
    assert two["reward"] == pytest.approx(one["reward"], rel=1e-5)
    assert two["advantage"] == pytest.approx(one["advantage"], rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_checkpoints_are_exported_once(pairs):
    for folder in pairs["small"]:
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000002"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_killed_and_resumed_equals_undisturbed(tmp_path, pairs, folders, name):
    """The launcher alone is killed: its processes must not live on."""
    whole, broken = pairs["whole"][name], tmp_path / "broken"
    process = start(tmp_path, [job(LONG[name], broken, folders)])
    deadline = time.monotonic() + 300
    while not any(latest_checkpoint(run) for run in (tmp_path / "scratch").glob("*")):
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # returns when the last process has closed stderr
    assert not (broken / "manifest.json").exists(), "the stage had finished before it was killed"
    finish(start(tmp_path, [job(LONG[name], broken, folders)]))
    assert same_weights(whole, broken)
    rows, again = metric_rows(whole), metric_rows(broken)
    for row in rows + again:
        del row["device_seconds"]
    assert rows == again and read_manifest(broken).resumed == 1


@pytest.mark.slow
def test_a_failure_of_any_process_ends_in_its_sentence(tmp_path, folders):
    stage, spec, _ = RUNS["nll"]
    spec = {**spec, "sft": {**spec["sft"], "batch_size": 7, "gradient_accumulation": 1}}
    argv = job((stage, spec, False), tmp_path / "out", folders)[1]
    command = [sys.executable, "-m", "dart.launch", "--cpu", "2", "dart.stages.train_sft", *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == launch.USER_ERROR
    last = done.stderr.splitlines()[-1]
    assert last == (
        "train_sft: gradient_accumulation 1 x 2 processes (the rule's gpu) do not divide batch_size 7; "
        "choose one that does."
    )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_user_s_error_is_told_rather_than_the_lost_connections():
    assert launch.first_failure({0: 1, 1: 2, 2: 1}) == (1, 2)
    assert launch.first_failure({1: -9, 0: 1}) == (0, 1)


def settings(batch_size, accumulation):
    return Settings(batch_size, accumulation, 1e-3, "constant", 0, 0.0, 1.0, 1000, 0)


@pytest.mark.parametrize(("count", "batch", "accumulation", "world"), [(14, 4, 1, 2), (9, 8, 2, 4), (25, 24, 3, 4)])
def test_every_update_holds_the_rows_of_one_process(count, batch, accumulation, world):
    examples = [Example([1], [5 + i] * (1 + i % 5)) for i in range(count)]
    alone = laid_out(examples, settings(batch, accumulation), 1)
    shared = laid_out(examples, settings(batch, accumulation), world)
    assert len(alone) == count and len(shared) % batch == 0
    for first in range(0, len(shared), batch):
        rows = [row for row in shared[first : first + batch] if len(row)]
        assert rows == alone[first : first + batch]
    size = batch // accumulation // world
    last = [sum(len(row) > 0 for row in shared[i : i + size]) for i in range(len(shared) - batch, len(shared), size)]
    assert max(last) - min(last) <= 1


def context(tmp_path, world_size):
    return Context("train_rl", tmp_path, tmp_path, {}, world_size=world_size)


def test_numbers_that_do_not_divide_are_refused(tmp_path):
    assert rows_per_device(context(tmp_path, 4), 64, "batch_size 64", 2) == 8
    with pytest.raises(UserError, match=r"gradient_accumulation 2 x 3 processes \(the rule's gpu\) do not divide"):
        rows_per_device(context(tmp_path, 3), 64, "batch_size 64", 2)
    with pytest.raises(UserError, match="cannot share prompts_per_step 2 in whole groups"):
        check_shares(Grpo(**grpo_knobs()), context(tmp_path, 4))
    with pytest.raises(UserError, match="loss_type bnpo averages over each process's own tokens"):
        check_shares(Grpo(**grpo_knobs(loss_type="bnpo")), context(tmp_path, 2))
    check_shares(Grpo(**grpo_knobs(loss_type="bnpo")), context(tmp_path, 1))


def test_a_checkpoint_of_another_number_of_processes_is_refused(tmp_path):
    for rank in range(2):
        (tmp_path / f"rng_state_{rank}.pth").touch()
    check_processes(tmp_path, 2)
    with pytest.raises(UserError, match="was written by 2 processes and this run has 1"):
        check_processes(tmp_path, 1)


def test_a_stage_for_one_process_refuses_several(tmp_path, monkeypatch, folders):
    from dart.stage import run_stage
    from dart.stages import score_data

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="score_data runs as one process, but 2 were started"):
        run_stage(score_data.STAGE, [])


def test_only_the_main_process_writes(tmp_path, capsys):
    second = Context("test", tmp_path, tmp_path, {}, world_size=2, rank=1)
    second.log(1, {"loss": 1.0})
    second.resume(1)
    second.progress(1, 1)
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().out


def test_sums_of_one_process_are_its_own_values():
    assert processes.totals([0.1, 3]) == [0.1, 3] and processes.extremes(0.1, 0.3) == (0.1, 0.3)
    assert normalised("batch_minmax", [1.0, 3.0, 2.0], [0.0] * 3, 3)[0] == [0.0, 1.0, 0.5]


def test_a_process_keeps_to_one_gpu():
    class Arguments:
        _n_gpu = 8
        n_gpu = property(lambda self: self._n_gpu)

    assert one_device(Arguments()).n_gpu == 1


@pytest.mark.parametrize(
    ("found", "refused"), [("0.15.1", False), ("0.15.2", True), ("0.18.9", True), ("0.19.0", False)]
)
def test_deepspeed_that_loses_gradients_is_refused(monkeypatch, found, refused):
    monkeypatch.setattr(guards.metadata, "version", lambda _: found)
    guards.check_deepspeed()  # not asked for
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    if refused:
        with pytest.raises(UserError, match=f"DeepSpeed {found} drops micro-batches"):
            guards.check_deepspeed()
    else:
        guards.check_deepspeed()


@pytest.mark.parametrize("seen", [0, 1])
def test_fewer_gpus_than_the_rule_asks_for_are_refused(monkeypatch, capsys, seen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    assert launch.main(["2", "dart.stages.train_rl", "--help"]) == launch.USER_ERROR
    said = capsys.readouterr().err
    assert said.startswith("train_rl: the rule train_rl has the resource gpu=2, but PyTorch")
    assert f"sees {seen} GPUs here" in said and f"--set-resources train_rl:gpu={seen}" in said
    launch.check_gpus(seen, "dart.stages.train_rl")


def test_one_process_runs_in_the_launcher_itself(monkeypatch, capsys):
    for name in ("CUDA_VISIBLE_DEVICES", "ACCELERATE_TORCH_DEVICE"):
        monkeypatch.setenv(name, "")  # set by --cpu; restored after the test
    monkeypatch.delitem(sys.modules, "dart.stages.train_rl")
    assert launch.main(["--cpu", "1", "dart.stages.train_rl", "--help"]) == 0
    assert "usage: python -m dart.stages.train_rl" in capsys.readouterr().out


def test_the_deepspeed_guard_stands_before_the_stages_compute(monkeypatch, folders, tmp_path):
    from dart.stage import run_stage
    from dart.stages import train_sft

    monkeypatch.setattr(guards.metadata, "version", lambda _: "0.16.0")
    monkeypatch.setitem(os.environ, "ACCELERATE_USE_DEEPSPEED", "1")
    argv = arguments(sft_spec(), tmp_path / "out", tmp_path / "scratch", **folders["train_sft"])
    with pytest.raises(UserError, match=r"DeepSpeed 0\.16\.0"):
        run_stage(train_sft.STAGE, argv)
