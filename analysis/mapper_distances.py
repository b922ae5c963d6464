"""Do mappers of different targets write differently? How far apart their rewrites lie, and how far those of two seeds.

Two mappers are compared on the demonstrations that both rewrote: the mean edit distance over words (as a share of the
longer text), and the share of equal texts. Compared are the mappers of two targets with the same seed, and, as the
yardstick, those of two seeds for the same target: what differs there is chance. ``analysis.fidelity`` writes both.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis import texts
from dart.reward.detectors import words

TARGETS, SEEDS = "other target", "other seed"
COLUMNS = ("arm", "compared", "target", "other_target", "seed", "other_seed", "demonstrations", "distance", "equal")
Key = tuple[str, str, int]  # arm, target, seed
Chosen = Mapping[str, Sequence[str]]  # demonstration -> words of its rewrite


def split(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return the words of every chosen rewrite by demonstration, from ``rewrites.parquet``."""
    chosen = rows[rows["chosen"]]
    return {name: words(text) for name, text in zip(chosen["id"], chosen["text"], strict=True)}


def pairs(rewrites: Mapping[Key, Chosen]) -> pd.DataFrame:
    """Return one row a compared pair of mappers, columns ``COLUMNS``.

    ``compared`` says what differs, ``TARGETS`` or ``SEEDS``; ``distance`` and ``equal`` are shares from 0 to 1, NaN
    where the two rewrote no demonstration in common.
    """
    rows = []
    for one, other in itertools.combinations(rewrites, 2):
        (arm, target, seed), (other_arm, other_target, other_seed) = one, other
        if arm == other_arm and (target == other_target) != (seed == other_seed):
            compared = SEEDS if target == other_target else TARGETS
            both = compare(rewrites[one], rewrites[other])
            rows.append((arm, compared, target, other_target, seed, other_seed, *both))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def compare(first: Chosen, second: Chosen) -> tuple[int, float, float]:
    """Return the number of demonstrations that both hold, the mean distance and the share of equal texts."""
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return 0, np.nan, np.nan
    apart = [texts.distance(first[name], second[name]) for name in shared]
    return len(shared), float(np.mean(apart)), float(np.mean([value == 0 for value in apart]))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm and two targets: means over pairs, and how they compare.

    Columns: arm, target, other_target, distance_targets, equal_targets (mappers of the two targets), distance_seeds,
    equal_seeds (two seeds for either target), ratio (distance_targets over distance_seeds; NaN without a second seed).
    """
    rows = []
    across = table[table["compared"] == TARGETS]
    for (arm, *both), mine in across.groupby(["arm", "target", "other_target"], sort=False):
        same = table[(table["compared"] == SEEDS) & (table["arm"] == arm) & table["target"].isin(both)]
        means = {"distance_targets": mine["distance"].mean(), "equal_targets": mine["equal"].mean()}
        means |= {"distance_seeds": same["distance"].mean(), "equal_seeds": same["equal"].mean()}
        yardstick = means["distance_seeds"] or np.nan  # two seeds that write the same are no yardstick
        ratio = means["distance_targets"] / yardstick
        rows.append({"arm": arm, "target": both[0], "other_target": both[1], **means, "ratio": ratio})
    columns = ["distance_targets", "equal_targets", "distance_seeds", "equal_seeds", "ratio"]
    return pd.DataFrame(rows, columns=["arm", "target", "other_target", *columns])
