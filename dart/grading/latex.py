"""Equality of LaTeX answers by algebra (math_verify), in a child process that can be killed.

In a child because ``5^(5^(5^(5^5)))`` hangs math_verify, and because its own time-out works in a main thread only.
Run as a program, it is that child: a JSON pair a line in, ``true`` or ``false`` a line out.
"""

from __future__ import annotations

import json
import logging
import resource
import selectors
import subprocess
import sys
from collections.abc import Sequence

START_SECONDS = 60.0  # importing sympy on a busy machine
PAIR_SECONDS = 5.0
MEMORY_BYTES = 4 << 30


def equivalent(pairs: Sequence[tuple[str, str]], seconds: float = PAIR_SECONDS) -> list[bool]:
    """Whether each (answer, gold) is equal; a pair that takes longer than ``seconds`` is not."""
    verdicts: list[bool] = []
    while len(verdicts) < len(pairs):
        verdicts += _until_stuck(pairs[len(verdicts) :], seconds)
    return verdicts


def _until_stuck(pairs: Sequence[tuple[str, str]], seconds: float) -> list[bool]:
    """Verdicts of one child; the last is False if that pair hung or broke it."""
    command = [sys.executable, "-m", "dart.grading.latex"]
    verdicts: list[bool] = []
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child,
        selectors.DefaultSelector() as selector,
    ):
        assert child.stdin is not None and child.stdout is not None  # both are pipes
        selector.register(child.stdout, selectors.EVENT_READ)
        try:
            if not selector.select(START_SECONDS) or child.stdout.readline() != b"ready\n":
                raise RuntimeError("math_verify did not start; `python -m dart.grading.latex` shows why.")
            for pair in pairs:
                child.stdin.write(json.dumps(pair).encode() + b"\n")
                child.stdin.flush()
                line = child.stdout.readline() if selector.select(seconds) else b""
                verdicts.append(line == b"true\n")
                if not line:
                    break
        finally:
            child.kill()
    return verdicts


def _serve() -> None:
    logging.disable()
    from math_verify import parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        answer, gold = json.loads(line)
        try:
            equal = verify(parse(f"${gold}$", raise_on_error=False), parse(f"${answer}$", raise_on_error=False))
        except Exception:  # whatever an odd formula does to the parser, it is not the gold answer
            equal = False
        print(json.dumps(bool(equal)), flush=True)


if __name__ == "__main__":
    _serve()
