"""What an arm cost, its upstream stages included, by walking the manifests' inputs.

Rules of attribution, printed with every table and figure that uses them:

- *Shared stages* (``make_data``, ``train_zoo``, ``fetch_model``: questions and the models every arm starts from) are
  charged to no arm.
- Everything else upstream is charged in full to every arm whose training text was made with it, as to somebody who
  runs that arm alone: writing the original CoT is charged to SFT and to DART, mapper RL and rewriting to DART.
- A stage whose input is called ``questions`` (``train_rl``, ``pass_rate``, selection by pass rate) reads no CoT there,
  so that the original CoT is not charged to arms that use it in no other way.
- ``evaluate`` is measurement and is charged to no arm.

Trained tokens are those forwarded *and* backwarded, prompt included, mapper RL's own among them; tokens that were only
sampled or only scored are counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from analysis.study import Run, metrics
from dart.errors import UserError

COSTS = ("device_seconds", "tokens_generated", "tokens_scored", "tokens_trained", "flops")
SHARED = ("make_data", "train_zoo", "fetch_model")
QUESTIONS = "questions"
WRITES_COT = "generate_cot"
RULE = (
    "Questions and the models that every arm starts from are shared and charged to no arm; original CoT is charged in "
    "full to every arm that trains on text made from it, mapper RL and rewriting to the arms that train on rewrites, "
    "pass rates and scores to the arms whose data were chosen by them; an arm that goes on from another pays for it as "
    "well; evaluation is charged to none."
)


def by_fingerprint(runs: Iterable[Run]) -> dict[str, Run]:
    """Index runs by the fingerprint with which their descendants name them."""
    return {run.manifest.fingerprint: run for run in runs}


def parent(run: Run, name: str, index: Mapping[str, Run]) -> Run:
    """Return the run that made the input ``name`` of ``run``; raises :class:`UserError` when it was not handed in."""
    given = run.manifest.inputs[name]
    if given["fingerprint"] not in index:
        raise UserError(f"{run.folder} was made from {given['path']}, whose manifest was not given; add it.")
    return index[given["fingerprint"]]


def charged(run: Run, index: Mapping[str, Run]) -> list[Run]:
    """Upstream runs charged to the arm that ``run`` trains (``run`` itself not among them), each once."""
    found: dict[str, Run] = {}
    waiting = [run]
    while waiting:
        here = waiting.pop()
        for name in here.manifest.inputs:
            above = parent(here, name, index)
            if name == QUESTIONS and above.stage == WRITES_COT:
                continue
            if above.stage not in SHARED and above.manifest.fingerprint not in found:
                found[above.manifest.fingerprint] = above
                waiting.append(above)
    return list(found.values())


def depth(run: Run, index: Mapping[str, Run]) -> int:
    """Return the longest chain of inputs above a run: 0 for one that needs none."""
    return max((1 + depth(parent(run, name, index), index) for name in run.manifest.inputs), default=0)


def total(runs: Iterable[Run]) -> dict[str, float]:
    """Sum of each cost over runs."""
    sums = dict.fromkeys(COSTS, 0.0)
    for run in runs:
        for name in COSTS:
            sums[name] += getattr(run.manifest, name)
    return sums


def trained(evaluation: Run, index: Mapping[str, Run]) -> Run | None:
    """Return the training run that ``evaluation`` measured; None for a model of the zoo, which cost the arm nothing."""
    run = parent(evaluation, "run", index)
    return None if run.stage in SHARED else run


def along(run: Run | None, steps: Iterable[float], index: Mapping[str, Run]) -> pd.DataFrame:
    """Cumulative cost from zero at each evaluated step of a training run (NaN: the final model).

    Returns
    -------
    DataFrame
        One row a step, columns ``COSTS``: upstream costs in full plus the run's own until that step.
    """
    if run is None:
        return pd.DataFrame([dict.fromkeys(COSTS, 0.0) for _ in steps])
    before = total(charged(run, index))
    own = metrics(run).groupby("step")[list(COSTS)].max()  # counters only grow, so a step's last row is its largest
    rows = []
    for step in steps:
        if not pd.isna(step) and step not in own.index:
            raise UserError(f"{run.folder}/metrics.jsonl has no row for the exported step {step:g}; train it anew.")
        spent = {name: getattr(run.manifest, name) if pd.isna(step) else own.loc[step, name] for name in COSTS}
        rows.append({name: before[name] + spent[name] for name in COSTS})
    return pd.DataFrame(rows)
