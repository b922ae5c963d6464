"""The look of every figure: colours that colour-blind readers can tell apart, fonts readable at half a page.

A figure is drawn ``WIDTH`` inches wide; at half a page (3.3 inches) its 12-point text still measures 6 points.
Colours are those of Okabe and Ito (2008); arms also differ in marker and line, so that nothing rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 6.8
INK = "#1d2433"
MUTED = "#667085"
GRID = "#e4e7ec"
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"

SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#98a2b3",
    "axes.linewidth": 0.8,
    "xtick.color": "#475467",
    "ytick.color": "#475467",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text stays text: searchable and editable
    "svg.hashsalt": "dart",
}


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    color: str
    marker: str
    line: Any  # a name, or (offset, dashes)


LOOKS = (
    Look("#7a7f8a", "D", (0, (4, 2))),
    Look(ORANGE, "s", (0, (5, 1.5, 1, 1.5))),
    Look(BLUE, "o", "-"),
    Look(VERMILION, "^", "-"),
    Look(GREEN, "v", "-"),
    Look(PURPLE, "P", "-"),
    Look(SKY, "X", "-"),
)


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """Return arm -> look, by position: the same arm looks the same in every figure of a report."""
    return {arm: LOOKS[i % len(LOOKS)] for i, arm in enumerate(arms)}


def new_figure(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Return a styled figure of ``height`` inches and its axes as rows of columns."""
    matplotlib.rcdefaults()
    plt.rcParams.update(SETTINGS)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained", **options
    )  # fmt: skip
    return figure, [list(row) for row in axes]


def share_y(axes: Sequence[Axes]) -> None:
    """Give axes of a row the same limits, wide enough for all of them, and label only the first."""
    limits = [ax.get_ylim() for ax in axes]
    for ax in axes:
        ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for ax in axes[1:]:
        ax.tick_params(labelleft=False)


def signed(number: float) -> str:
    """Return two decimals with a true minus sign."""
    return f"{number:.2f}".replace("-", "\N{MINUS SIGN}")


def save(figure: Figure, out: Path, name: str) -> None:
    """Write ``<name>.png`` (200 dpi) and ``<name>.pdf``; the same figure gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / f"{name}.png", metadata={"Software": None})
    figure.savefig(out / f"{name}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)
