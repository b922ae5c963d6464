"""What a sampling stage has finished so far, kept in its scratch folder: a killed one loses one block of work."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


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
