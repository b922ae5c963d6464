"""Resolve ``envs/*.in`` into hashed locks: ``make lock`` (runs ``python envs/lock.py``; needs uv).

Versions in the present locks stay unless a requirement moves them; ``python envs/lock.py --upgrade`` takes the newest.
Each environment gets a ``.lock`` for pip, installed with ``--no-deps``, and a ``.yaml`` with the same pins for conda:

========  ==================================================  =========================================
``dart``  everything on one machine, without vLLM             Python 3.11 and newer, any platform
``flow``  Snakemake and the analysis                          the same
``gpu``   the stages, with vLLM                               CPython 3.11 and 3.12 on Linux, x86-64
========  ==================================================  =========================================

All share versions where vLLM lets them. ``dart.lock`` is complete for a machine without a GPU; what only the CUDA build
of torch needs is in ``cuda.lock``. ``torch-cpu.lock`` is kept by hand, as the package index does not carry that build.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
COMPILE = ["--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
COMPILE += ["--no-emit-index-url", "--no-emit-find-links"]
EVERYWHERE = ["--universal"]
LINUX = ["--python-platform", "x86_64-manylinux_2_28"]
CUDA = re.compile(r"(nvidia|cuda)-|triton==")
HEADER = "# Made by `make lock` from envs/{}.in; do not edit.\n"


def main(argv: Sequence[str]) -> int:
    """Write all locks and YAML files beside this file; ``argv`` is empty or ``--upgrade``."""
    locks = [HERE / "dart.lock", HERE / "cuda.lock"]
    common = "" if "--upgrade" in argv else "".join(path.read_text(encoding="utf-8") for path in locks)
    dart = _resolve("dart", EVERYWHERE, common)
    common = "\n".join(dart)  # the other two follow
    _write("dart.lock", "dart", [entry for entry in dart if not CUDA.match(entry)])
    _write("cuda.lock", "dart", [entry for entry in dart if CUDA.match(entry)])
    _write_conda("dart", dart)
    for name, platform in (("flow", EVERYWHERE), ("gpu", LINUX)):
        kept = HERE / f"{name}.lock"
        own = kept.read_text(encoding="utf-8") if kept.is_file() and "--upgrade" not in argv else ""
        entries = _resolve(name, platform, _without(own, common) + common)
        _write(f"{name}.lock", name, entries)
        _write_conda(name, entries)
    return 0


def _resolve(name: str, platform: Sequence[str], preferred: str) -> list[str]:
    """Entries of the lock of ``envs/<name>.in``; uv keeps the versions that it finds in the file it is to write."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "lock"
        lock.write_text(preferred, encoding="utf-8")
        command = ["uv", "pip", "compile", str(HERE / f"{name}.in"), *platform, *COMPILE, "--output-file", str(lock)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return _entries(lock.read_text(encoding="utf-8"))


def _entries(text: str) -> list[str]:
    """A lock's packages, each with its hashes."""
    return [entry.strip() for entry in re.split(r"\n(?=\S)", text) if entry and not entry.startswith("#")]


def _without(text: str, other: str) -> str:
    """What of a lock's packages the other lacks."""
    known = {entry.partition("==")[0] for entry in _entries(other)}
    return "".join(f"{entry}\n" for entry in _entries(text) if entry.partition("==")[0] not in known)


def _write(file: str, name: str, entries: Sequence[str]) -> None:
    (HERE / file).write_text(HEADER.format(name) + "\n".join(entries) + "\n", encoding="utf-8")


def _write_conda(name: str, entries: Sequence[str]) -> None:
    """Pins stand in the YAML itself: Snakemake rebuilds an environment when its YAML changes, not a file it names."""
    pins = [entry.split("\\")[0].strip() for entry in entries]
    lines = ["channels: [conda-forge]", "dependencies:", "  - python=3.11", "  - pip", "  - pip:"]
    lines += [f'      - "{pin}"' for pin in ["--no-deps", *pins]]
    (HERE / f"{name}.yaml").write_text(HEADER.format(name) + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
