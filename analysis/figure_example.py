"""Figure 5: an original CoT beside its adapted one, one row a target, chosen by a rule and not by eye.

The rule: of the first seed's accepted rewrites (chosen as training text, answer correct, no cheat detector tripped, not
the original itself), the one with the median gain in the target's mean log-probability per token; the lower of two
medians, the smallest id among equals. ``python -m analysis.figure_example --out figures --manifests
adapted/*/manifest.json cot/manifest.json`` writes the figure and the texts (``figure_example.csv``).
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis import costs, files, style
from analysis.study import Run, of_stage, read_runs
from dart.errors import UserError
from dart.records import read_records

NAME = "figure_example"
COLUMNS = 35  # characters a line
POINTS = 10.5  # font size of the texts
LINE = 0.21  # inches a line of text
CHEAT = "cheat_"
FILE = "demonstrations.jsonl"
RULE = (
    "the rewrite with the median gain in the target's mean log-probability per token among those accepted (correct, no "
    "cheat detector tripped, not the original) for the first seed; the smallest id among equals"
)


NOTHING = "No rewrite was accepted for this target, so there is no example to show."


@dataclass(frozen=True)
class Example:
    """A demonstration before and after; log-probabilities are the target's means per token, in nats."""

    target: str
    id: str
    question: str
    original: str
    adapted: str
    logprob_original: float
    logprob_adapted: float
    rank: int
    accepted: int


def choose(rewrites: pd.DataFrame, originals: dict[str, str]) -> tuple[pd.Series | None, int, int]:
    """Return the row picked by the rule (None: no rewrite was accepted), its rank (from 1) and the number accepted.

    Parameters
    ----------
    rewrites : DataFrame
        ``rewrites.parquet`` of one target and seed.
    originals : dict
        Demonstration id -> original CoT.
    """
    cheats = [name for name in rewrites if name.startswith(CHEAT)]
    clean = (rewrites[cheats] == 0).all(axis=1)
    changed = rewrites["text"].str.strip() != rewrites["id"].map(originals).str.strip()
    accepted = rewrites[rewrites["chosen"] & (rewrites["correct"] > 0) & clean & changed]
    if accepted.empty:
        return None, 0, 0
    gain = accepted["logprob_rewrite"] - accepted["logprob_original"]
    ordered = accepted.assign(gain=gain).sort_values(["gain", "id"], ignore_index=True)
    median = ordered["gain"].iloc[(len(ordered) - 1) // 2]
    row = ordered[ordered["gain"] == median].iloc[0]
    return row, int(row.name) + 1, len(ordered)


def examples(runs: Sequence[Run]) -> list[Example]:
    """Return one example a target, in the order of the manifests."""
    index = costs.by_fingerprint(runs)
    first: dict[str, Run] = {}
    for run in of_stage(runs, "adapt_data"):
        known = first.setdefault(run.labels["target"], run)
        if run.labels["seed"] < known.labels["seed"]:
            first[run.labels["target"]] = run
    if not first:
        raise UserError("No manifest of the stage adapt_data was given; add those of the adapted data.")
    found = []
    for target, run in first.items():
        records = {record.id: record for record in read_records(costs.parent(run, "cot", index).folder / FILE)}
        originals = {name: record.cot for name, record in records.items()}
        row, rank, accepted = choose(pd.read_parquet(run.folder / "rewrites.parquet"), originals)
        if row is None:  # such a target is shown, too: nothing came out
            found.append(Example(target, "", NOTHING, "", "", float("nan"), float("nan"), rank, accepted))
            continue
        record = records[row["id"]]
        before, after = float(row["logprob_original"]), float(row["logprob_rewrite"])
        texts = (record.question, record.cot, str(row["text"]))
        found.append(Example(target, record.id, *texts, before, after, rank, accepted))
    return found


def changed_words(text: str, other: str) -> list[tuple[str, bool]]:
    """Split ``text`` into words and line ends, each with whether ``other`` lacks it at that place."""
    words, others = (re.findall(r"\S+|\n", one.strip()) for one in (text, other))
    matcher = difflib.SequenceMatcher(a=words, b=others, autojunk=False)
    kept = {i for block in matcher.get_matching_blocks() for i in range(block.a, block.a + block.size)}
    return [(word, i not in kept and word != "\n") for i, word in enumerate(words)]


def wrap(words: Sequence[tuple[str, bool]], width: int) -> list[list[tuple[str, bool]]]:
    """Break words into lines of at most ``width`` characters; a longer word is cut, a line end is kept."""
    lines: list[list[tuple[str, bool]]] = [[]]
    used = 0
    for word, new in words:
        if word == "\n":
            lines.append([])
            used = 0
            continue
        for piece in (word[start : start + width] for start in range(0, len(word), width)):
            if used and used + 1 + len(piece) > width:
                lines.append([])
                used = 0
            lines[-1].append((piece, new))
            used += len(piece) + (1 if used else 0)
    return lines


def draw(found: Sequence[Example]) -> Figure:
    """Draw one row a target: the question, and below it both texts with the words that differ marked."""
    blocks = [_block(example) for example in found]
    heights = [LINE * (len(question) + max(len(left), len(right)) + 4.2) for question, left, right in blocks]
    figure, axes = style.new_figure(len(found), 1, sum(heights) + 0.2, height_ratios=heights)
    for (ax,), example, block, height in zip(axes, found, blocks, heights, strict=True):
        _row(ax, example, block, height)
    return figure


def _block(example: Example) -> tuple[list[str], list, list]:
    question = textwrap.wrap(example.question, 2 * COLUMNS + 6)
    left = wrap(changed_words(example.original, example.adapted), COLUMNS)
    right = wrap(changed_words(example.adapted, example.original), COLUMNS)
    return question, left, right


def _row(ax: Axes, example: Example, block: tuple[list[str], list, list], height: float) -> None:
    """Coordinates are inches from the top left corner."""
    question, left, right = block
    ax.set(xlim=(0, style.WIDTH), ylim=(height, 0))
    ax.axis("off")
    ax.text(0, LINE * 0.5, f"target {example.target}", fontsize=13, fontweight="bold", va="center")
    for number, line in enumerate(question):
        ax.text(
            0,
            LINE * (1.7 + number),
            line,
            fontsize=POINTS,
            va="center",
            color="#475467",
            style="italic",
            parse_math=False,
        )
    top = LINE * (len(question) + 2.5)
    sides = (
        (0.0, left, "original CoT", example.logprob_original, style.ORANGE),
        (style.WIDTH / 2 + 0.05, right, "adapted CoT", example.logprob_adapted, style.BLUE),
    )
    for x, lines, title, logprob, color in sides if example.accepted else ():
        width = style.WIDTH / 2 - 0.05
        ax.add_patch(Rectangle((x, top - LINE * 0.75), width, height - top + LINE * 0.4, color=color, alpha=0.07, lw=0))
        ax.add_patch(Rectangle((x, top - LINE * 0.75), 0.045, height - top + LINE * 0.4, color=color, lw=0))
        ax.text(x + 0.12, top, title, fontsize=11, fontweight="bold", va="center")
        ax.text(x + width - 0.06, top, style.signed(logprob) + " nats/token", fontsize=11, va="center", ha="right")
        _words(ax, x + 0.12, top + LINE * 1.25, lines, color)


def _words(ax: Axes, left: float, top: float, lines: Sequence[Sequence[tuple[str, bool]]], color: str) -> None:
    step = POINTS * 0.602 / 72  # DejaVu Sans Mono: every character is 0.602 em wide
    for number, line in enumerate(lines):
        place = 0
        for word, new in line:
            x, y = left + place * step, top + number * LINE
            if new:
                size = (len(word) * step + 0.02, LINE * 0.86)
                ax.add_patch(Rectangle((x - 0.01, y - LINE * 0.43), *size, color=color, alpha=0.28, lw=0))
            ax.text(x, y, word, family="DejaVu Sans Mono", fontsize=POINTS, va="center", parse_math=False)
            place += len(word) + 1


def describe(found: Sequence[Example]) -> tuple[str, str]:
    """Return caption and text alternative."""
    told = [f"{one.target}: {one.id or 'none'}, rank {one.rank} of {one.accepted}" for one in found]
    caption = (
        f"An original CoT beside its adapted one, chosen by rule: {RULE} ({'; '.join(told)}). Marked words are those "
        "that the other text lacks at that place; numbers are the target's mean log-probability per token, given the "
        "question."
    )
    alt = " ".join(
        f"For target {one.target}, original: {one.original} Adapted: {one.adapted}" if one.accepted else one.question
        for one in found
    )
    return caption, alt


def main() -> None:
    """Read the command line and write figure, texts and caption."""
    arguments = files.parser(NAME, __doc__, view=False).parse_args()
    found = examples(read_runs(arguments.manifests))
    style.save(draw(found), arguments.out, NAME)
    files.write_table(arguments.out / f"{NAME}.csv", pd.DataFrame([vars(one) for one in found]))
    files.write_caption(arguments.out, NAME, "An original CoT and its adapted one", *describe(found))


if __name__ == "__main__":
    files.command(main, NAME)
