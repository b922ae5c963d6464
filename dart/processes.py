"""Several processes that train one model, one a GPU: who am I, how many are we, sums over all of us.

``dart.launch`` (or torchrun) starts them and sets the environment that is read here. Torch is imported by the functions
that talk to other processes only, and these return what they are given where there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence


def rank() -> int:
    """Number of this process among all; 0 is the main one, the only one that writes files."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process on its machine: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """How many processes train together; 1 outside a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def totals(values: Sequence[float]) -> list[float]:
    """Return the sum of each value over all processes, which must all call this; exact for integers below 2^53."""
    return _reduced(values, "SUM")


def extremes(low: float, high: float) -> tuple[float, float]:
    """Return the least ``low`` and the greatest ``high`` of all processes, which must all call this."""
    least, greatest = _reduced([low, -high], "MIN")
    return least, -greatest


def _reduced(values: Sequence[float], operation: str) -> list[float]:
    if world_size() == 1:
        return list(values)
    import torch
    import torch.distributed

    device = torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    values_N = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(values_N, getattr(torch.distributed.ReduceOp, operation))
    return values_N.tolist()
