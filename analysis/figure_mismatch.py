"""The premise: how likely the target finds the original CoT, and how likely the adapted one.

``python -m analysis.figure_mismatch --out figures --view VIEW --manifests adapted/*/manifest.json`` reads
``rewrites.parquet`` and draws, per target, how the target's mean log-probability per token is distributed over
demonstrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import files, style
from analysis.study import Run, of_stage, read_runs
from dart.errors import UserError

NAME = "figure_mismatch"
SHOWN = 0.97  # share of each kind of text that lies on the axis, at least
TEXTS = (
    ("original", "original CoT", style.ORANGE, "////"),
    ("sampled", "all sampled rewrites", style.SKY, ""),
    ("adapted", "adapted CoT (chosen)", style.BLUE, ""),
)


def likelihoods(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row a text: target, seed, text (of ``TEXTS``), id, logprob (nats per token under the target)."""
    found = of_stage(runs, "adapt_data")
    if not found:
        raise UserError("No manifest of the stage adapt_data was given; add those of the adapted data to be drawn.")
    frames = []
    for run in found:
        rows = pd.read_parquet(
            run.folder / "rewrites.parquet", columns=["id", "chosen", "logprob_original", "logprob_rewrite"]
        )
        parts = {
            "original": rows.drop_duplicates("id").rename(columns={"logprob_original": "logprob"}),
            "sampled": rows.rename(columns={"logprob_rewrite": "logprob"}),
            "adapted": rows[rows["chosen"]].rename(columns={"logprob_rewrite": "logprob"}),
        }
        labels = {name: run.labels[name] for name in ("target", "seed")}
        frames += [part[["id", "logprob"]].assign(text=text, **labels) for text, part in parts.items()]
    return pd.concat(frames, ignore_index=True)[["target", "seed", "text", "id", "logprob"]]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return median, quartiles and perplexity (exp of minus the mean) by target and kind of text."""
    grouped = table.groupby(["target", "text"], sort=False)["logprob"]
    found = grouped.quantile([0.25, 0.5, 0.75]).unstack()
    found.columns = ["lower_quartile", "median", "upper_quartile"]
    return found.assign(perplexity=np.exp(-grouped.mean()), texts=grouped.size()).reset_index()


def axis_start(table: pd.DataFrame) -> float:
    """Return where the axis starts: a few broken rewrites, far below all others, would squeeze the rest into a line."""
    return float(table.groupby(["target", "text"])["logprob"].quantile(1 - SHOWN).min())


def draw(table: pd.DataFrame, targets: Sequence[str]) -> Figure:
    """Draw one row a target, a violin and the middle half for each kind of text."""
    figure, axes = style.new_figure(len(targets), 1, 0.7 + 1.75 * len(targets), sharex=True)
    start = axis_start(table)
    for (ax,), target in zip(axes, targets, strict=True):
        for place, (text, _, color, hatch) in enumerate(TEXTS):
            values = table[(table["target"] == target) & (table["text"] == text)]["logprob"].to_numpy()
            if not len(values):  # no rewrite was valid, so that the originals were kept or dropped
                ax.text(0.02, -place, "none", transform=ax.get_yaxis_transform(), va="center", color=style.MUTED)
                continue
            visible = values[values >= start]
            if len(np.unique(visible)) > 1:
                parts: Any = ax.violinplot(visible, [-place], orientation="horizontal", widths=0.85, showextrema=False)
                parts["bodies"][0].set(facecolor=color, edgecolor=color, alpha=0.35, hatch=hatch)
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
            ax.plot([low, high], [-place] * 2, color=color, linewidth=5, solid_capstyle="round")
            ax.plot(median, -place, "o", color="white", markeredgecolor=style.INK, markersize=7)
            above = ax.annotate(style.signed(median), (median, -place), (0, 8), textcoords="offset points", ha="center")
            above.set_fontsize(11)
        ax.set_yticks([-place for place in range(len(TEXTS))], [label for _, label, _, _ in TEXTS])
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="y", visible=False)
        ax.set_title(f"target {target}")
    axes[-1][0].set_xlabel("target's mean log-probability per token (nats; 0 = certain)")
    return figure


def _left_out(table: pd.DataFrame) -> str:
    share = (table["logprob"] < axis_start(table)).mean()
    return f"Left of the axis: {share:.2%} of the texts, down to {table['logprob'].min():.1f}." if share else ""


def describe(table: pd.DataFrame, targets: Sequence[str]) -> tuple[str, str]:
    """Return caption and text alternative, with the medians and perplexities."""
    found = summary(table).set_index(["target", "text"])
    told = []
    for target in targets:
        words = {text: f"{found['perplexity'].get((target, text), np.nan):.2f}" for text in ("original", "adapted")}
        told.append(f"{target}: perplexity {words['original']} on original and {words['adapted']} on adapted CoT")
    caption = (
        "How likely each target finds the text that it would be trained on, given the question only, before any "
        f"training ({'; '.join(told)}). Violins: all demonstrations and seeds; bars: middle half; dots: median. "
        f"{_left_out(table)}"
    ).strip()
    alt = "Violin plots of the target's mean log-probability per token by kind of text. " + "; ".join(told) + "."
    return caption, alt


def main() -> None:
    """Read the command line and write figure, numbers and caption."""
    arguments = files.parser(NAME, __doc__).parse_args()
    targets = files.read_view(arguments.view).targets
    table = likelihoods(read_runs(arguments.manifests))
    style.save(draw(table, targets), arguments.out, NAME)
    files.write_table(arguments.out / f"{NAME}.csv", summary(table))
    files.write_caption(
        arguments.out, NAME, "How foreign the training text is to the target", *describe(table, targets)
    )


if __name__ == "__main__":
    files.command(main, NAME)
