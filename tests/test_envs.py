"""The locks: hashed throughout, one version set, and the same pins for pip and for conda."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ENVS = Path(__file__).parents[1] / "envs"
LOCKS = {"dart": ["dart.lock", "cuda.lock"], "flow": ["flow.lock"], "gpu": ["gpu.lock"]}
# vLLM's numba wants an older numpy, and its CUDA libraries older bindings.
OLDER_FOR_VLLM = {"numpy", "cuda-bindings"}


def entries(name: str) -> list[str]:
    text = "\n".join((ENVS / lock).read_text() for lock in LOCKS[name])
    return [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]


def pins(name: str) -> set[str]:
    """``package==version``; a package has one for each range of Pythons."""
    return {entry.split()[0] for entry in entries(name)}


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_its_hashes_and_conda_the_same_pins(name):
    assert all("--hash=sha256:" in entry for entry in entries(name))
    *_, pip = yaml.safe_load((ENVS / f"{name}.yaml").read_text())["dependencies"]
    assert sorted(pip["pip"]) == sorted(["--no-deps", *(entry.split("\\")[0].strip() for entry in entries(name))])


def test_environments_share_their_versions():
    assert pins("flow") < pins("dart")
    both = {pin.partition("==")[0] for pin in pins("dart")}
    other = {pin.partition("==")[0] for pin in pins("gpu") - pins("dart")}
    assert other & both == OLDER_FOR_VLLM
    assert {"torch==2.13.0", "trl==1.16.0", "transformers==5.17.0", "lm-eval==0.4.13"} < pins("dart") & pins("gpu")
    assert "vllm==0.31.0" in pins("gpu") and "snakemake-executor-plugin-slurm==2.8.0" in pins("flow")
