"""Durations and counts as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``48 s``, ``6.2 min``, ``3.4 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def count(number: float) -> str:
    """Return a count with its scale: ``950``, ``12.3 k``, ``4.56 M``, ``7.80 T``; FLOPs in powers of ten above that."""
    if number >= 1e15:
        return f"{number:.2e}"
    for scale, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:.0f}"
