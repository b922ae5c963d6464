"""Outcomes of two arms on the seeds that both have (stands in for ``analysis.study.paired``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.study import cell, outcomes
from dart.errors import UserError

UNTRAINED = 0


def paired(
    answers: pd.DataFrame, arm: str, reference: str, target: str, tasks: Sequence[str]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return the outcomes of an arm and of its reference on common seeds; an untrained arm goes with every seed."""
    first, second = cell(answers, arm, target), cell(answers, reference, target)
    seeds = [set(first["seed"]), set(second["seed"])]
    if {UNTRAINED} in seeds:
        return outcomes(first, tasks), outcomes(second, tasks)
    both = seeds[0] & seeds[1]
    if not both:
        raise UserError(f"Arms {arm} and {reference} have no seed in common for target {target}; train both with one.")
    return outcomes(first[first["seed"].isin(both)], tasks), outcomes(second[second["seed"].isin(both)], tasks)
