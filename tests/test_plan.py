"""Plans: counts against hand computation, sums, every stage's cost, and how a finished study is compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analysis import costs as ledger
from dart import plan, runs
from dart.errors import UserError
from dart.manifest import Manifest, fingerprint, write_manifest
from dart.plan import cost_model, costs, forecast_error, workload
from dart.plan.cost_model import Size
from dart.plan.expected import Expected, lengths
from dart.recipes import Run
from dart.sections import Architecture
from tests.test_runs import SCALES, changed, config
from tests.test_workflow import SMOKE, snakemake

ROOT = Path(__file__).parents[1]
CPU = cost_model.device("cpu-core")


def loads(scale: str, **changes: object):
    table = runs.table(changed(scale, **changes) if changes else config(scale))
    expected = Expected(table)
    return table, expected, lambda stage, run_id="": workload.load(runs.find(table, stage, run_id), expected)


@pytest.mark.parametrize("scale", SCALES)
def test_every_run_has_a_cost(scale):
    table, expected, _ = loads(scale)
    for run in table:
        load = workload.load(run, expected)
        assert cost_model.seconds(load, CPU) >= 0 and cost_model.memory(load, CPU) > 0 and cost_model.disk(load) > 0
        assert load.flops == sum(work.flops for work in load.work)


def test_every_stage_has_a_cost():
    _, expected, _ = loads("nano")
    stages = {run.stage for scale in ("nano", "paper") for run in loads(scale)[0]}
    assert stages == {path.stem for path in (ROOT / "dart/stages").glob("[a-z]*.py")}
    with pytest.raises(ValueError, match="no cost of the stage distil"):
        workload.load(Run("distil", "", "distilled", {}), expected)


def test_supervised_training_by_hand():
    known = lengths("world")
    _, _, load = loads("smoke", sft={"examples": 20, "epochs": 2, "batch_size": 16})
    found = load("train_sft", "ash-sft-s1")  # 20 demonstrations of the human source, twice: 3 steps of 16
    tokens = 40 * (known.question + known.original)
    parameters = 123 * 32 + 2 * (2 * 32 * (2 + 1) * 16 + 2 * 16 + 3 * 32 * 64 + 2 * 32) + 32
    assert found.tokens("train") == pytest.approx(tokens) and found.flops == pytest.approx(6 * parameters * tokens)
    assert (found.rows, found.saved) == (3, 2)  # one checkpoint at half of the steps


def test_mapper_rl_by_hand():
    known = lengths("world")
    _, expected, load = loads("smoke")
    found, size = load("train_mapper", "ash-s1"), expected.size("mapper/ash-s1")
    rollouts, completion = 3 * 2 * 2, 24  # 24 tokens at most, fewer than expected
    prompt = known.question + known.original + known.frame
    scored = rollouts * known.distinct_rollouts * (known.question + completion)
    assert found.tokens("generate") == rollouts * completion
    assert found.tokens("train") == pytest.approx(rollouts * (prompt + completion))
    assert found.tokens("score") == pytest.approx(scored)
    flops = size.parameters * (2 * rollouts * completion + 6 * rollouts * (prompt + completion) + 2 * scored)
    assert found.flops == pytest.approx(flops)


def test_evaluation_by_hand():
    _, _, load = loads("smoke", evaluate={"tasks": ["nano_math"], "in_domain": []})
    known = lengths("world").benchmarks["nano_math"]
    found = load("evaluate", "ash-dart-s1")  # the final model and one checkpoint, 8 questions each, 24 tokens at most
    assert found.tokens("generate") == 16 * 24 and found.tokens("score") == pytest.approx(16 * known.prompt)


def test_rejection_sampling_by_hand():
    known, (_, expected, _) = lengths("world"), loads("nano")
    asked, kept = expected.attempts(2, expected.size("models/expert"))
    assert kept == pytest.approx(known.solvable * (known.right + (1 - known.right) * known.right))
    assert asked == pytest.approx(1 + known.solvable * (1 - known.right) + (1 - known.solvable))
    assert expected.attempts(3, Size(1, 1, 1, 1, 1, 1, skilled=False)) == (3, 0)


def test_sizes_are_those_of_the_models():
    from dart.world.tokenizer import word_tokenizer
    from dart.zoo_model import build_model

    found = config("nano")
    tokenizer, made = word_tokenizer(found.prompts), found.zoo.architecture
    (size,) = {*Expected(runs.table(found)).models.values()}
    assert size.parameters == sum(p.numel() for p in build_model(made, tokenizer, seed=0).parameters())
    odd = Architecture(**{**made.model_dump(), "hidden_size": 48, "heads": 3, "kv_heads": 1, "layers": 5})
    built = build_model(odd, tokenizer, seed=0)
    assert Size.built(odd, len(tokenizer), True).parameters == sum(p.numel() for p in built.parameters())


def test_a_published_size_gets_proportions_like_qwen3():
    size = Size.estimated(596_000_000)
    assert size.parameters == 596_000_000 and 900 < size.hidden < 1150 and size.intermediate == 3 * size.hidden


def test_sums_add_up():
    found = config("nano")
    table = runs.table(found)
    by_run = costs.costs(costs.chosen(found, table, "all"), table, CPU)
    whole = sum(cost.seconds for cost in by_run.values())
    assert set(by_run) == {run.folder for run in table}
    arms = {arm.name: arm for arm in costs.by_arm(by_run)}
    assert set(arms) == {*found.every_arm()}
    assert all(arm.saved <= 1.0001 * arm.total < whole for arm in arms.values())
    assert costs.wall(by_run, 1) == pytest.approx(whole) and costs.wall(by_run, 10_000) < whole / 10
    chain = ("data", "models/expert", "cot", "mapper/ash-s1", "adapted/ash-s1", "runs/ash-dart-s1")
    assert costs.wall(by_run, 10_000) >= sum(by_run[folder].seconds for folder in chain)
    main_seeds = {f"{t}-s{s}" for t in found.targets for s in found.main_seeds}
    upstream = sum(
        cost.seconds
        for folder, cost in by_run.items()
        if folder.count("/") and folder.split("/")[0] in ("mapper", "adapted") and folder.split("/")[1] in main_seeds
    )
    assert arms["dart"].upstream == pytest.approx(upstream + by_run["cot"].seconds)
    assert arms["rl"].upstream == 0 and arms["base"].training == 0


def test_arms_are_charged_as_the_ledger_charges():
    assert costs.SHARED == ledger.SHARED
    found = config("nano")
    table = runs.table(found)
    by_run = costs.costs(costs.chosen(found, table, "all"), table, CPU)
    paid = costs.charged(runs.find(table, "train_rl", "ash-dart_rl-s1"), by_run)
    assert {*paid} == {"runs/ash-dart-s1", "adapted/ash-s1", "mapper/ash-s1", "cot"}
    assert costs.charged(runs.find(table, "train_rl", "ash-rl-s1"), by_run) == {}


@pytest.mark.parametrize("scale", ["nano", "paper"])
def test_direct_rl_at_dart_s_cost_costs_no_less(scale):
    found = config(scale)
    table = runs.table(found)
    by_run = costs.costs(costs.chosen(found, table, "dart,rl_equal_cost"), table, CPU)

    def flops(run: Run) -> float:
        return sum(cost.load.flops for cost in (*costs.charged(run, by_run).values(), by_run[run.folder]))

    for target in found.targets:
        dart = runs.find(table, "train_sft", f"{target}-dart-s1")
        assert flops(runs.find(table, "train_rl", f"{target}-rl_equal_cost-s1")) >= flops(dart), target


def test_a_selection_takes_what_it_needs():
    found = config("nano")
    table = runs.table(found)
    main = costs.chosen(found, table, "main")
    assert {run.arm for run in main if run.stage == "evaluate"} == {*found.main_arms}
    assert {run.spec["seed"] for run in main if run.stage == "train_mapper"} == {*found.seeds}
    assert {run.stage for run in costs.chosen(found, table, "rft")} >= {"pass_rate", "select_data", "train_sft"}
    with pytest.raises(UserError, match="--targets names 'rtf'; it takes main, all, or arms: base, sft"):
        costs.chosen(found, table, "rft,rtf")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("device", cost_model.devices())
def test_a_plan_fits_the_terminal(scale, device):
    lines = plan.text(config(scale), device, 2).splitlines()
    assert max(map(len, lines)) <= 100 and lines[0].startswith(f"{scale} (all) on {device} (")
    table = runs.table(config(scale))
    needed = runs.with_inputs(table, [run for run in table if run.stage == "evaluate"])
    assert lines[1].startswith(f"{len(needed)} jobs · device time ")


def test_an_unknown_device_is_told_in_one_sentence():
    with pytest.raises(UserError, match=r"no device 'V100'; configs/devices\.yaml has cpu-core, H200, H100, A100-80GB"):
        plan.text(config("nano"), "V100", 1)


def test_memory_beyond_the_device_is_told():
    big = {"hidden_size": 1024, "intermediate_size": 3072, "layers": 28, "heads": 16, "kv_heads": 8, "head_dim": 128}
    said = plan.text(changed("rehearsal", zoo={"vocabulary": 151_936, "architecture": big}), "RTX-4090", 1, "main")
    assert "! train_sft needs up to " in said and "but the device has 24 GB" in said


def finished(root: Path, factor: float) -> None:
    """Write manifests of the smoke study's main arms that took ``factor`` x what is planned."""
    found = config("smoke")
    table = runs.table(found)
    expected, prints = Expected(table), {}
    for run in costs.chosen(found, table, "main"):
        load, inputs = workload.load(run, expected), {name: prints[folder] for name, folder in run.inputs.items()}
        prints[run.folder] = fingerprint(run.stage, 1, run.spec, inputs)
        kinds = zip(("tokens_generated", "tokens_scored", "tokens_trained"), cost_model.FLOPS_PER_TOKEN, strict=True)
        (root / run.folder).mkdir(parents=True)
        manifest = Manifest(
            run.stage, 1, prints[run.folder], run.spec, {n: {"path": "", "fingerprint": p} for n, p in inputs.items()},
            result={}, started_at=0, finished_at=1, seconds=factor * cost_model.seconds(load, CPU) or 1,
            device_seconds=1, world_size=1, resumed=0, flops=factor * load.flops,
            peak_memory_bytes=round(factor * cost_model.memory(load, CPU)), hardware={}, versions={}, git={},
            **{name: factor * load.tokens(kind) for name, kind in kinds},
        )  # fmt: skip
        write_manifest(root / run.folder, manifest)


def test_a_finished_study_is_compared_run_by_run(tmp_path):
    finished(tmp_path, 2.0)
    found = forecast_error.read(tmp_path)
    ratios = forecast_error.ratios(found, CPU)
    assert set(ratios["train_mapper"]) == set(forecast_error.MEASURES) and ratios["make_data"]["tokens"] == []
    for stage in ("train_mapper", "train_sft", "evaluate"):
        for name in ("tokens", "FLOPs", "seconds", "memory"):
            assert ratios[stage][name] == pytest.approx([0.5] * len(ratios[stage][name]), rel=1e-6)
    assert forecast_error.totals(found, CPU)["FLOPs"] == pytest.approx(0.5)
    said = plan.check(tmp_path, "cpu-core", fit=False)
    assert "0.50 (0.50)" in said and max(map(len, said.splitlines()[2:])) <= 100


def test_the_fit_finds_what_a_device_achieved(tmp_path):
    finished(tmp_path, 1.0)
    found = forecast_error.fit(forecast_error.read(tmp_path), CPU)
    assert found["generate"] == pytest.approx(CPU.generate, rel=0.05)
    assert found["train"] == pytest.approx(CPU.train, rel=0.05)


def test_check_of_nothing_is_told(tmp_path):
    with pytest.raises(UserError, match="holds no finished study"):
        forecast_error.read(tmp_path)


def test_the_command_prints_without_torch():
    files = [f"configs/{name}.yaml" for name in ("base", "arms", "nano")]
    code = f"import sys; from dart.plan.__main__ import main; main({files!r}); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "device time" in done.stdout, done.stderr
    wrong = subprocess.run(
        [sys.executable, "-m", "dart.plan", *files, "--device", "V100"], cwd=ROOT, capture_output=True
    )
    assert wrong.returncode == 2 and wrong.stderr.count(b"\n") == 1


def test_snakemake_plans_and_leaves_nothing(tmp_path):
    done = snakemake(tmp_path, "plan", *SMOKE)
    assert done.returncode == 0 and "smoke (all) on cpu-core" in done.stdout, done.stdout
    assert "1 of 1 steps" in done.stdout and not list(tmp_path.iterdir())
