"""Speed of mapper RL, scoring and SFT at the true size: ``python -m dart.bench_gpu [--tiny] [--out FOLDER]``.

The model has the architecture of Qwen3-0.6B and random weights (``dart.bench_inputs``); the stages' own code runs on
made-up texts of fixed length. Writes ``bench.json`` and ``bench.md`` with hardware and versions. ``--tiny`` runs the
same on any machine, to show that the command works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from trl.trainer.utils import get_peak_flops

from dart import manifest
from dart.bench_inputs import COPIES, TINY, TRUE, Size, prepare, specs
from dart.scoring import score
from dart.stage import Context
from dart.stages import train_mapper, train_sft
from dart.training.grpo import QuietGRPOTrainer
from dart.training.loading import device, load_model, parameters
from dart.world.tokenizer import SPECIAL


@dataclass(frozen=True)
class Figure:
    """One measured kind of work.

    Attributes
    ----------
    tokens_per_second : float
        Median over the repetitions; of sampled tokens in RL, of forwarded tokens (prompts included) else.
    peak_share : float or None
        FLOPs a second (2 x parameters a sampled or scored token, 6 x a trained one; attention is left out) over the
        card's dense bfloat16 peak as TRL lists it; None for a card that is not listed.
    peak_memory_bytes : int
        Of the GPU's memory; of the process where there is none.
    """

    name: str
    tokens_per_second: float
    peak_share: float | None
    peak_memory_bytes: int
    repetitions: int


def wait() -> float:
    """Wait until the GPU has done what it was told, and return the time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory() -> int:
    """Return the most memory in use since the last call, and let go of what is no longer needed."""
    if not torch.cuda.is_available():
        return manifest.peak_memory_bytes()
    most = torch.cuda.max_memory_allocated()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return most


def figure(name: str, tokens: Sequence[float], seconds: Sequence[float], flops: Sequence[float], memory: int) -> Figure:
    """Summarise the repetitions."""
    peak = get_peak_flops(torch.cuda.get_device_name(), "bfloat16") if torch.cuda.is_available() else None
    speed = statistics.median(count / time_ for count, time_ in zip(tokens, seconds, strict=True))
    rate = statistics.median(count / time_ for count, time_ in zip(flops, seconds, strict=True))
    return Figure(name, speed, rate / peak if peak else None, memory, len(seconds))


def run_stage(run: Callable[..., Any], spec: Any, inputs: dict[str, Path], folder: Path) -> list[dict[str, float]]:
    """Run a stage's body in new folders and return what each step but the first added to the counters."""
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    context = Context("bench_gpu", folder / "out", folder / "scratch", {})
    run(spec, inputs, context)
    rows = [json.loads(line) for line in (context.scratch / "metrics.jsonl").read_text("utf-8").splitlines()]
    names = ("device_seconds", *Context.COUNTERS)
    return [{n: after[n] - before[n] for n in names} for before, after in itertools.pairwise(rows)]


@contextmanager
def timed_generation(found: list[tuple[int, float]]) -> Iterator[None]:
    """Note (sampled tokens, seconds) of every call of the trainer's generation."""
    generate = QuietGRPOTrainer._generate_single_turn

    def timed(self: QuietGRPOTrainer, *args: Any, **kwargs: Any) -> Any:
        start = wait()
        result = generate(self, *args, **kwargs)
        found.append((sum(map(len, result[0])), wait() - start))
        return result

    with mock.patch.object(QuietGRPOTrainer, "_generate_single_turn", timed):
        yield


def columns(steps: list[dict[str, float]], tokens: str) -> tuple[list[float], list[float], list[float]]:
    """Return tokens, seconds and FLOPs of every step."""
    counts, seconds, flops = ([step[name] for step in steps] for name in (tokens, "device_seconds", "flops"))
    return counts, seconds, flops


def bench_rl(spec: Any, inputs: dict[str, Path], folder: Path) -> list[Figure]:
    """Measure whole steps of mapper RL (sampling, scoring under the target, update), and their sampling alone."""
    calls: list[tuple[int, float]] = []
    with timed_generation(calls):
        steps = run_stage(train_mapper.run, spec, inputs, folder)
    memory = peak_memory()
    size = parameters(load_model(inputs["mapper"] / "model"))
    sampled, seconds = zip(*calls[1:], strict=True)
    return [
        figure("mapper RL: whole step", *columns(steps, "tokens_generated"), memory),
        figure("mapper RL: sampling", sampled, seconds, [2.0 * size * count for count in sampled], memory),
    ]


def bench_sft(spec: Any, inputs: dict[str, Path], folder: Path) -> Figure:
    """Measure updates of SFT."""
    steps = run_stage(train_sft.run, spec, inputs, folder)
    return figure("SFT", *columns(steps, "tokens_trained"), peak_memory())


def bench_scoring(size: Size, inputs: dict[str, Path], repetitions: int) -> tuple[list[Figure], float]:
    """Measure scoring in float32, as the stages do it, and in bfloat16; return also the latter's error.

    The error is the greatest difference of a completion's mean log-probability, in nats.
    """
    model, rng = load_model(inputs["target"] / "model"), random.Random(1)
    rows = [[rng.randrange(len(SPECIAL), size.vocabulary) for _ in range(size.tokens)] for _ in range(size.rows)]
    prompts = [row[: size.tokens // 4] for row in rows]
    count = sum(map(len, prompts + rows))
    figures, means = [], []
    for name in ("float32", "bfloat16"):
        cast = nullcontext() if name == "float32" else torch.autocast(device().type, torch.bfloat16)
        seconds = []
        for _ in range(repetitions + 1):
            start = wait()
            with cast:
                found = score(model, 0, prompts, rows, size.part)
            seconds.append(wait() - start)
        flops = [2.0 * parameters(model) * count] * repetitions
        figures.append(figure(f"scoring in {name}", [count] * repetitions, seconds[1:], flops, peak_memory()))
        means.append(torch.stack([logps_T.mean() for logps_T in found]))
    return figures, (means[0] - means[1]).abs().max().item()


def bench(size: Size, repetitions: int) -> dict[str, Any]:
    """Measure everything and return the contents of ``bench.json``."""
    mapper, sft = specs(size, repetitions)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = prepare(size, folder, repetitions)
        scoring, error = bench_scoring(size, inputs, repetitions)
        figures = [*scoring, bench_sft(sft, inputs, folder / "sft"), *bench_rl(mapper, inputs, folder / "rl")]
    return {
        "size": {**asdict(size), "architecture": size.architecture.model_dump()},
        "figures": [asdict(one) for one in figures],
        "bfloat16_scoring_error": error,
        "hardware": manifest.hardware(),
        "versions": manifest.library_versions(),
        "git": manifest.git_state(),
    }


def markdown(found: dict[str, Any]) -> str:
    """Return the table for ``docs/gpu.md``."""
    size, hardware = found["size"], found["hardware"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    rows = f"{size['rows']} rows of about {size['tokens'] * 5 // 4} tokens"
    lines = [
        f"{hardware['device']}; {versions}; commit {found['git']['commit']}.",
        f"{size['name']}, random weights. A step of RL: {size['questions']} questions x {COPIES} completions of "
        f"{size['tokens']} tokens; of SFT: {rows}; {size['part']} rows at once.",
        "",
        "| work | tokens/s | share of the bf16 peak | peak memory (GiB) | repetitions |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in found["figures"]:
        share = "unknown card" if one["peak_share"] is None else f"{one['peak_share']:.1%}"
        memory = f"{one['peak_memory_bytes'] / 2**30:.1f}"
        lines.append(f"| {one['name']} | {one['tokens_per_second']:,.0f} | {share} | {memory} | {one['repetitions']} |")
    error = found["bfloat16_scoring_error"]
    lines += ["", f"Scoring in bfloat16 changes a mean log-probability by at most {error:.1e} nats."]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    """Measure and write; a machine without a GPU is told what to do."""
    parser = argparse.ArgumentParser(prog="python -m dart.bench_gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on the CPU if need be")
    parser.add_argument("--out", type=Path, default=Path("results/bench_gpu"), help="where bench.json and bench.md go")
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args(argv)
    os.environ.setdefault("WANDB_MODE", "disabled")
    if not given.tiny and not torch.cuda.is_available():
        print(f"bench_gpu: PyTorch {torch.__version__} sees no GPU here; try the command with --tiny.", file=sys.stderr)
        return 2
    found = bench(TINY if given.tiny else TRUE, given.repetitions)
    given.out.mkdir(parents=True, exist_ok=True)
    manifest.write_json(given.out / "bench.json", found)
    (given.out / "bench.md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
