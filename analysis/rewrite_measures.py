"""What one run's rewrites preserve, delete and add, how their form changes, and which cheats they hold.

Pure functions from ``rewrites.parquet`` and the original demonstrations to numbers; ``MEASURES`` defines each in words.
``analysis.fidelity`` makes tables of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from analysis import texts
from dart.records import Record
from dart.reward.equations import false_equations

CHEAT, SAMPLED = "cheat_", "sampled_"
MEASURES = {
    "answer_preserved": "share of all samples whose final answer verifies",
    "acceptance": "share of the demonstrations with a valid sample: it ended by itself and its answer verifies",
    "results_deleted": "share of the originals' intermediate results that the rewrite lacks; an intermediate result is "
    "a number of the original that neither the question states nor the final answer is",
    "results_added": "mean count of distinct new numbers in a rewrite: in neither question nor original",
    "hallucinated": "share of rewrites with at least one such new number (a wrong intermediate result is one, but so "
    "is a right number that the original skipped)",
    "false_introduced": "share of rewrites that state a false equation though their original states none",
    "false_inherited": "share of rewrites that state a false equation and whose original states one, too",
    "sentences_ratio": "sentences of the rewrite over sentences of the original, mean over demonstrations",
    "length_ratio": "tokens of the rewrite over tokens of the original, mean over demonstrations",
    "copy_ratio": "share of the rewrite's word 4-grams that the original holds, mean over demonstrations",
    "copy_rate": "share of rewrites that are the original word by word",
    "compression_ratio": "compressed bytes per byte of all rewrites together, over the same for their originals; "
    "below 1 the rewrites are more uniform",
    "perplexity_before": "the target's perplexity per token on the originals of the rewritten demonstrations, given "
    "the question, before any training",
    "perplexity_after": "the same on the rewrites",
    "perplexity_ratio": "perplexity after over perplexity before",
}


def measure(rows: pd.DataFrame, records: dict[str, Record], own: bool = True) -> dict[str, float]:
    """Return every measure of one run's rewrites; NaN where nothing was chosen.

    Parameters
    ----------
    rows : DataFrame
        ``rewrites.parquet``: one row a sample.
    records : dict
        Demonstration id -> question and original CoT.
    own : bool
        Whether the log-probabilities in ``rows`` are those of the arm's own target; else perplexities are NaN.
    """
    chosen = rows[rows["chosen"]].sort_values("id")
    valid = (rows["correct"] & ~rows["truncated"]).groupby(rows["id"]).any()
    pairs = [(records[name], text) for name, text in zip(chosen["id"], chosen["text"], strict=True)]
    found = {"answer_preserved": rows["correct"].mean(), "acceptance": valid.mean(), **steps(pairs), **form(pairs)}
    found |= false_steps(pairs, chosen[f"{CHEAT}false_equation"] > 0)
    found |= {name: chosen[name].mean() for name in ("length_ratio", "copy_ratio")}
    before = perplexity(chosen["tokens_original"], chosen["logprob_original"]) if own else np.nan
    after = perplexity(chosen["tokens"], chosen["logprob_rewrite"]) if own else np.nan
    found |= {"perplexity_before": before, "perplexity_after": after, "perplexity_ratio": after / before}
    found = {name: found[name] for name in MEASURES}
    detectors = [name for name in rows if name.startswith(CHEAT)]
    found |= {name: _mean(chosen[name] > 0) for name in detectors}
    found |= {name.replace(CHEAT, SAMPLED): _mean(rows[name] > 0) for name in detectors}
    return {name: float(value) for name, value in found.items()}


def steps(pairs: Sequence[tuple[Record, str]]) -> dict[str, float]:
    """Compare the numbers of originals and rewrites, of demonstrations with a number for an answer (not programs)."""
    results, lost, added = 0, 0, []
    for record, text in pairs:
        if record.kind != "math":
            continue
        asked, written = texts.named_numbers(record.question), texts.numbers(text)
        middle = texts.numbers(record.cot) - asked - texts.numbers(record.answer)
        results += len(middle)
        lost += len(middle - texts.named_numbers(text))
        added.append(len(written - asked - texts.named_numbers(record.cot) - texts.numbers(record.answer)))
    return {
        "results_deleted": lost / results if results else np.nan,
        "results_added": _mean(added),
        "hallucinated": _mean([count > 0 for count in added]),
    }


def false_steps(pairs: Sequence[tuple[Record, str]], false: Sequence[bool] | pd.Series) -> dict[str, float]:
    """Tell the rewrites with a ``false`` equation by whether their original holds one."""
    before = [record.kind == "math" and _is_false(record.cot) for record, _ in pairs]
    return {
        "false_introduced": _mean([now and not then for now, then in zip(false, before, strict=True)]),
        "false_inherited": _mean([now and then for now, then in zip(false, before, strict=True)]),
    }


@cache  # every run of a study was made from the same few thousand originals
def _is_false(text: str) -> bool:
    return bool(false_equations(text))


def form(pairs: Sequence[tuple[Record, str]]) -> dict[str, float]:
    """Return how the rewrites' form differs from that of the originals: sentences, copies, compressibility."""
    before, after = [record.cot for record, _ in pairs], [text for _, text in pairs]
    ratios = [texts.sentences(text) / texts.sentences(record.cot) for record, text in pairs]
    shares = [texts.compressed_share(part) for part in (after, before)] if pairs else [np.nan, np.nan]
    return {
        "sentences_ratio": _mean(ratios),
        "copy_rate": _mean([text.split() == record.cot.split() for record, text in pairs]),
        "compression_ratio": shares[0] / shares[1],
    }


def perplexity(tokens: pd.Series, logprobs: pd.Series) -> float:
    """Return exp(-mean log-probability) over all tokens of texts, from their tokens and means per token (nats)."""
    return float(np.exp(-(tokens * logprobs).sum() / tokens.sum())) if len(tokens) else np.nan


def _mean(values: Sequence[float] | pd.Series) -> float:
    return float(np.mean(values)) if len(values) else np.nan
