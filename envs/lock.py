"""Resolve ``envs/dart.in`` into hashed locks: ``make lock`` (runs ``python envs/lock.py``; needs uv).

``dart.lock`` is complete for a machine without a GPU and is installed with ``--no-deps``; what only the CUDA build of
torch needs is in ``cuda.lock``. ``dart.yaml`` holds the pins of both for conda. ``torch-cpu.lock`` is kept by hand, as
the package index does not carry that build.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMPILE = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"]
CUDA = re.compile(r"(nvidia|cuda)-|triton==")
HEADER = "# Made by `make lock` from envs/dart.in; do not edit.\n"


def main() -> int:
    """Write ``dart.lock``, ``cuda.lock`` and ``dart.yaml`` beside this file."""
    command = ["uv", "pip", "compile", str(HERE / "dart.in"), *COMPILE, "--no-emit-index-url", "--no-emit-find-links"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    entries = [entry.strip() for entry in re.split(r"\n(?=\S)", text)]
    _write("dart.lock", [entry for entry in entries if not CUDA.match(entry)])
    _write("cuda.lock", [entry for entry in entries if CUDA.match(entry)])
    pins = [entry.split("\\")[0].strip() for entry in entries]
    lines = ["channels: [conda-forge]", "dependencies:", "  - python=3.11", "  - pip", "  - pip:"]
    lines += [f'      - "{pin}"' for pin in ["--no-deps", *pins]]
    (HERE / "dart.yaml").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _write(name: str, entries: list[str]) -> None:
    (HERE / name).write_text(HEADER + "\n".join(entries) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
