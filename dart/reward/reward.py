"""The reward of a rewrite: ``gate * align - sum_k weight_k * cheat_k``, every component kept apart for the log.

Used by mapper RL (``train_mapper``) and by the selection of rewrites (``adapt_data``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dart import grading
from dart.errors import UserError
from dart.records import Record
from dart.reward.alignment import TargetScore, TargetScorer, normalised, raw_alignment
from dart.reward.detectors import DETECTORS, Rewrite, overlap
from dart.sections import Prompts, Reward

COPY_NGRAM = 4  # words; of the copy ratio, which is reported and never part of the reward


@dataclass(frozen=True)
class Scores:
    """The reward and its components, one value a completion.

    Attributes
    ----------
    total : list of float
        The reward.
    align : list of float
        Alignment as it enters the reward (after normalisation, before the gate).
    correct : list of float
        1 when the completion's answer verifies (its program passes), else 0.
    penalty : list of float
        Weighted sum of the cheat detectors.
    cheats : dict of str to list of float
        Every detector's value in 0..1, unweighted, also where its weight is 0.
    mean_prob, logprob : list of float
        Mean token probability and log-probability under the target, whatever ``align`` is.
    tokens : list of int
        Length of each completion in the target's tokens, the turn end included.
    length_ratio : list of float
        Tokens relative to those of the original CoT.
    copy_ratio : list of float
        Share of the completion's n-grams that the original CoT holds: 1 for a mere copy.
    tokens_scored : int
        Tokens that the target forwarded for this call, prompts included.
    """

    total: list[float]
    align: list[float]
    correct: list[float]
    penalty: list[float]
    cheats: dict[str, list[float]]
    mean_prob: list[float]
    logprob: list[float]
    tokens: list[int]
    length_ratio: list[float]
    copy_ratio: list[float]
    tokens_scored: int


class RewardModel:
    """The reward for one frozen target; ``record.cot`` is the original CoT of each completion."""

    def __init__(
        self,
        target: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Prompts,
        reward: Reward,
        scoring_batch: int,
    ) -> None:
        self.scorer = TargetScorer(target, tokenizer, prompts, scoring_batch)
        self.tokenizer = tokenizer
        self.reward = reward

    def __call__(self, records: Sequence[Record], texts: Sequence[str], group_size: int) -> Scores:
        """Score completions; those of one question stand together, ``group_size`` of them.

        Raises
        ------
        UserError
            When any component is not finite: TRL sums rewards with ``nansum``, so a NaN would pass as 0 and win.
        """
        if len(texts) % group_size:
            raise ValueError(f"{len(texts)} completions are not groups of {group_size}.")
        before = self.scorer.tokens_scored
        scores = self.scorer(records, texts)
        originals = self._original_scores(records) if self.reward.align == "gain_over_original" else None
        lengths = self._original_lengths(records)
        correct = [float(verdict.correct) for verdict in grading.verify_many(records, texts)]
        rewrites = [
            Rewrite(record, record.cot, text, found.tokens, length)
            for record, text, found, length in zip(records, texts, scores, lengths, strict=True)
        ]
        cheats = {
            name: [detect(rewrite, self.reward.thresholds) for rewrite in rewrites]
            for name, detect in DETECTORS.items()
        }
        values, floors = raw_alignment(self.reward.align, scores, originals, self.scorer.floor)
        align, floors = normalised(self.reward.normalise, values, floors, group_size)
        total, penalty = combine(self.reward, align, floors, correct, cheats)
        _check_finite(records, {"align": align, "penalty": penalty, "total": total})
        return Scores(
            total=total,
            align=align,
            correct=correct,
            penalty=penalty,
            cheats=cheats,
            mean_prob=[found.mean_prob for found in scores],
            logprob=[found.mean_logprob for found in scores],
            tokens=[found.tokens for found in scores],
            length_ratio=[r.tokens / r.original_tokens for r in rewrites],
            copy_ratio=[overlap(r.text, r.original, COPY_NGRAM) for r in rewrites],
            tokens_scored=self.scorer.tokens_scored - before,
        )

    def _original_scores(self, records: Sequence[Record]) -> list[TargetScore]:
        return self.scorer(records, [record.cot for record in records])

    def _original_lengths(self, records: Sequence[Record]) -> list[int]:
        """Tokens of the original CoT and its turn end."""
        texts = list(dict.fromkeys(record.cot for record in records))
        rows = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        length = {text: len(row) + 1 for text, row in zip(texts, rows, strict=True)}
        return [length[record.cot] for record in records]


def combine(
    reward: Reward,
    align: Sequence[float],
    floors: Sequence[float],
    correct: Sequence[float],
    cheats: dict[str, list[float]],
) -> tuple[list[float], list[float]]:
    """Return total reward and weighted penalty of every completion.

    - ``multiplicative``: ``floor + correct * (align - floor) - penalty``. The floor is 0 for probabilities: that leaves
      ``correct * align``; where alignment can be negative, 0 would make a wrong answer the best of its group, so a
      wrong answer gets the least alignment there is.
    - ``additive``: ``align + gate_weight * correct - penalty``.
    - ``none``: ``align - penalty``.
    """
    weights = reward.penalties.model_dump()
    penalty = [sum(weights[name] * values[i] for name, values in cheats.items()) for i in range(len(align))]
    if reward.gate == "multiplicative":
        gated = [low + right * (value - low) for value, low, right in zip(align, floors, correct, strict=True)]
    elif reward.gate == "additive":
        gated = [value + reward.gate_weight * right for value, right in zip(align, correct, strict=True)]
    else:
        gated = list(align)
    return [value - cheat for value, cheat in zip(gated, penalty, strict=True)], penalty


def _check_finite(records: Sequence[Record], components: dict[str, list[float]]) -> None:
    for name, values in components.items():
        for record, value in zip(records, values, strict=True):
            if not math.isfinite(value):
                raise UserError(
                    f"The reward's {name} for a rewrite of {record.id} is {value}; check the reward's weights in the "
                    "configuration and the target's weights."
                )
