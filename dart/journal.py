"""What a sampling stage has finished so far, kept in its scratch folder: a killed one loses one block of work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dart.stage import Context

T = TypeVar("T")
Payload = TypeVar("Payload")


class Journal:
    """Results of the blocks of a stage, in order, one JSON line each.

    Parameters
    ----------
    path : Path
        The file in the stage's scratch folder; a line torn by a kill, and what follows it, is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks: list[Any] = []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        for line in lines:
            if not line.endswith("\n"):
                break
            self.blocks.append(json.loads(line))
        if len(lines) != len(self.blocks):
            path.write_text("".join(lines[: len(self.blocks)]), encoding="utf-8")

    def add(self, block: Any) -> None:
        """Append the result of the next block and wait until it is on the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(block) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.blocks.append(block)


def in_blocks(
    context: Context,
    items: Sequence[T],
    size: int,
    work: Callable[[int, Sequence[T]], tuple[Payload, Mapping[str, Any]]],
    unit: str,
) -> list[Payload]:
    """Return what ``work(number, block)`` makes of each block of ``size`` items; a resumed stage skips finished blocks.

    ``work`` also returns the block's metrics, which are logged as a step.
    """
    journal = Journal(context.scratch / "blocks.jsonl")
    if journal.blocks:
        context.resume(len(journal.blocks))
    starts = range(0, len(items), size)
    for number in range(len(journal.blocks), len(starts)):
        block = items[starts[number] : starts[number] + size]
        payload, metrics = work(number, block)
        context.log(number + 1, metrics)
        journal.add(payload)
        context.progress(min(starts[number] + size, len(items)), len(items), unit)
    return journal.blocks
