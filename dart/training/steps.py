"""Which updates of a training run leave a checkpoint; imports without torch, as a plan must."""

from __future__ import annotations

from collections.abc import Iterable


def export_steps(shares: Iterable[float], steps: int) -> frozenset[int]:
    """Return the updates after which a checkpoint is exported, at least one and before the last (the final model)."""
    return frozenset(step for share in shares if 0 < (step := max(1, round(share * steps))) < steps)
