"""Figure 3: the mapper's reward over training, one column a target, with its components and every cheat detector.

``python -m analysis.figure_reward_curves --out figures --manifests mapper/*/manifest.json`` writes the figure as PNG
and PDF and its numbers as CSV (the running means that are drawn).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis import files, style
from analysis.study import Run, metrics, of_stage, read_runs
from dart.errors import UserError

NAME = "figure_reward_curves"
WINDOWS = 20  # a running mean spans 1/20 of training
BINS = 24  # columns of the heat map
TICKS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0)  # of its colour bar
CHEAT = "cheat_"
PARTS = (
    ("align", "alignment", style.BLUE, "-"),
    ("correct", "answer correct", style.GREEN, (0, (5, 2))),
    ("penalty", "penalty", style.VERMILION, (0, (1, 1.2))),
)


def curves(runs: Sequence[Run]) -> pd.DataFrame:
    """Return mapper metrics smoothed run by run: one row a target, seed and step.

    Columns: target, seed, step, reward, align, correct, penalty and one a detector, each a centred running mean.
    """
    found = of_stage(runs, "train_mapper")
    if not found:
        raise UserError("No manifest of the stage train_mapper was given; add those of the mappers to be drawn.")
    frames = []
    for run in found:
        rows = metrics(run)
        names = ["reward", *(part[0] for part in PARTS), *(name for name in rows if name.startswith(CHEAT))]
        missing = sorted(set(names) - set(rows))
        if missing:
            raise UserError(f"{run.folder}/metrics.jsonl has no {missing[0]}; train that mapper anew.")
        rows = rows.dropna(subset=["reward"]).groupby("step").last().reset_index()
        window = max(1, round(len(rows) / WINDOWS))
        smooth = rows[names].rolling(window, min_periods=1, center=True).mean()
        frames.append(smooth.assign(step=rows["step"], target=run.labels["target"], seed=run.labels["seed"]))
    table = pd.concat(frames, ignore_index=True)
    first = ["target", "seed", "step"]
    return table[first + [name for name in table if name not in first]].sort_values(first, ignore_index=True)


def penalised(runs: Sequence[Run]) -> dict[str, float]:
    """Return detector -> weight in the reward; 0 means that it is logged only."""
    return of_stage(runs, "train_mapper")[0].manifest.spec["mapper"]["reward"]["penalties"]


def draw(table: pd.DataFrame, weights: dict[str, float]) -> Figure:
    """Draw reward, components and detectors, one column a target."""
    targets = list(dict.fromkeys(table["target"]))
    figure, axes = style.new_figure(3, len(targets), 8.6, height_ratios=(1.15, 1.15, 1.2))
    shares = {target: _shares(table[table["target"] == target]) for target in targets}
    top = max(0.05, *(float(share.to_numpy().max()) for share in shares.values()))
    for column, target in enumerate(targets):
        mine = table[table["target"] == target]
        _reward(axes[0][column], mine)
        axes[0][column].set_title(f"({'abcdefgh'[column]}) target {target}")
        _parts(axes[1][column], mine)
        picture = _detectors(axes[2][column], shares[target], weights, top, names=column == 0)
        axes[2][column].set_xlabel("mapper RL step")
        for row in (0, 1):
            axes[row][column].sharex(axes[2][column])
            axes[row][column].tick_params(labelbottom=False)
    for row, label in ((0, "reward"), (1, "component")):
        style.share_y(axes[row])
        axes[row][0].set_ylabel(label)
    axes[1][0].legend(loc="center left")
    ticks = [tick for tick in TICKS if tick <= top]
    bar = figure.colorbar(picture, ax=axes[2], location="bottom", aspect=40, shrink=0.6, pad=0.02, ticks=ticks)
    bar.set_label("share of rewrites that trip the detector")
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bar.outline.set_edgecolor(style.GRID)
    return figure


def _reward(ax: Axes, rows: pd.DataFrame) -> None:
    for _, one in rows.groupby("seed"):
        ax.plot(one["step"], one["reward"], color=style.BLUE, linewidth=0.8, alpha=0.45)
    _band(ax, rows, "reward", style.BLUE, "-", "reward")


def _parts(ax: Axes, rows: pd.DataFrame) -> None:
    for name, label, color, line in PARTS:
        _band(ax, rows, name, color, line, label)
    ax.set_ylim(min(0.0, float(rows[[part[0] for part in PARTS]].to_numpy().min())), None)


def _band(ax: Axes, rows: pd.DataFrame, name: str, color: str, line: object, label: str) -> None:
    """Mean over seeds, and the range of the seeds as a band."""
    by_step = rows.groupby("step")[name]
    mean = by_step.mean()
    ax.fill_between(mean.index, by_step.min(), by_step.max(), color=color, alpha=0.18, linewidth=0)
    ax.plot(mean.index, mean, color=color, linestyle=line, label=label)


def _shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean share per detector (rows) and bin of steps (columns, named by their middle), over seeds."""
    names = [name for name in rows if name.startswith(CHEAT)]
    bins = np.linspace(0.5, rows["step"].max() + 0.5, min(BINS, rows["step"].nunique()) + 1)
    middle = pd.cut(rows["step"], bins, labels=(bins[1:] + bins[:-1]) / 2).astype(float)
    return rows.groupby(middle)[names].mean().T


def _detectors(ax: Axes, share: pd.DataFrame, weights: dict[str, float], top: float, names: bool) -> AxesImage:
    width = share.columns[1] - share.columns[0] if share.shape[1] > 1 else 1.0
    extent = (share.columns[0] - width / 2, share.columns[-1] + width / 2, len(share) - 0.5, -0.5)
    scale = PowerNorm(0.5, vmin=0.0, vmax=top)
    picture = ax.imshow(share, aspect="auto", extent=extent, cmap="Blues", norm=scale, interpolation="nearest")
    for row, values in enumerate(share.to_numpy()):
        for value, x, side in ((values[0], extent[0], "left"), (values[-1], extent[1], "right")):
            color = "white" if scale(value) > 0.55 else style.INK
            ax.text(x, row, f" {value:.0%} ", ha=side, va="center", fontsize=10, color=color)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.hlines(np.arange(0.5, len(share) - 1), extent[0], extent[1], color="white", linewidth=2)
    detectors = [name.removeprefix(CHEAT) for name in share.index]
    labels = [name.replace("_", " ") + ("" if weights[name] else " *") for name in detectors]
    ax.set_yticks(range(len(share)), labels if names else [])
    ax.tick_params(axis="y", length=0)
    return picture


def describe(table: pd.DataFrame, weights: dict[str, float]) -> tuple[str, str]:
    """Return caption and text alternative, with the first and last values that were drawn."""
    ends = []
    for target, rows in table.groupby("target", sort=False):
        start, end = (rows[rows["step"] == step]["reward"].mean() for step in (rows["step"].min(), rows["step"].max()))
        ends.append(f"{target}: {start:.2f} to {end:.2f}")
    seeds = table.groupby("target")["seed"].nunique().max()
    free = any(not weights[name.removeprefix(CHEAT)] for name in table if name.startswith(CHEAT))
    caption = (
        f"Mapper reward over training ({'; '.join(ends)}). Top: thin lines are the {seeds} seeds, the thick line is "
        "their mean, the band their range. Middle: what the reward is made of: alignment with the target, share of "
        "correct answers (the gate), and the weighted penalty that is subtracted; mean and range over seeds. Bottom: "
        "mean share of rewrites that trip each cheat detector, on a square-root colour scale"
        + ("; * marks detectors that are logged but have no weight" if free else "")
        + f"; numbers are the first and last {BINS}th of training. "
        f"Every curve is a centred running mean over 1/{WINDOWS} of training."
    )
    alt = "Line charts of mapper reward and its components against RL step, by target, above a heat map of detectors. "
    alt += f"Reward goes from {'; '.join(ends)}."
    return caption, alt


def main() -> None:
    """Read the command line and write figure, numbers and caption."""
    arguments = files.parser(NAME, __doc__, view=False).parse_args()
    runs = read_runs(arguments.manifests)
    table, weights = curves(runs), penalised(runs)
    style.save(draw(table, weights), arguments.out, NAME)
    files.write_table(arguments.out / f"{NAME}.csv", table)
    files.write_caption(arguments.out, NAME, "Mapper reward over training", *describe(table, weights))


if __name__ == "__main__":
    files.command(main, NAME)
