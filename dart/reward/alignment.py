"""Agreement of a text with the target: how likely the frozen target finds it as its own answer to the question.

The target sees the *student's* prompt only (the question), never the original CoT: a rewrite must be likely for someone
who solves the problem. The paper's own formula is not public (docs/method.md); mean probability with batch min-max is
TAMTRL's (2603.21663), mean log-probability GRAPE's (2502.04194).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dart import chat, processes
from dart.errors import UserError
from dart.records import Record
from dart.scoring import score
from dart.sections import Prompts

Align = Literal["mean_prob", "mean_logprob", "gain_over_original"]
Normalise = Literal["none", "group", "batch_minmax"]
SPREAD = 1e-6  # a smaller spread is rounding, not preference


@dataclass(frozen=True)
class TargetScore:
    """One text under the target.

    Attributes
    ----------
    tokens : int
        Completion tokens scored, the turn end included; 1 for an empty text.
    mean_prob, mean_logprob : float
        Means over those tokens; natural logarithm.
    empty : bool
        Whether the text was blank; its alignment is then the floor, however likely the turn end is.
    """

    tokens: int
    mean_prob: float
    mean_logprob: float
    empty: bool = False


class TargetScorer:
    """Scores texts as the target's answers; equal (question, text) pairs within one call are scored once.

    Nothing is remembered between calls: batches of another make-up differ in the last digit, and a resumed run has to
    see the same numbers as an undisturbed one.
    """

    def __init__(
        self, target: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Prompts, batch_size: int
    ) -> None:
        self.target = target.eval()
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.batch_size = batch_size
        self.floor = -math.log(target.config.vocab_size)
        self.tokens_scored = 0

    def __call__(self, records: Sequence[Record], texts: Sequence[str]) -> list[TargetScore]:
        """Return one score a text; ``tokens_scored`` grows by the tokens forwarded, prompts included.

        Raises
        ------
        UserError
            When the target gives a log-probability that is not finite: TRL would silently treat it as 0.
        """
        pairs = {(record.question, text): record for record, text in zip(records, texts, strict=True)}
        prompt_rows, completion_rows = [], []
        for (_, text), record in pairs.items():
            messages = chat.solve_messages(self.prompts, record)
            prompt_rows.append(chat.prompt_ids(self.tokenizer, messages))
            completion_rows.append(chat.completion_ids(self.tokenizer, messages, text))
        self.tokens_scored += sum(map(len, prompt_rows)) + sum(map(len, completion_rows))
        logps = score(self.target, self.tokenizer.pad_token_id, prompt_rows, completion_rows, self.batch_size)
        found = {
            pair: _summary(record, pair[1], logps_T)
            for (pair, record), logps_T in zip(pairs.items(), logps, strict=True)
        }
        return [found[record.question, text] for record, text in zip(records, texts, strict=True)]


def _summary(record: Record, text: str, logps_T: torch.Tensor) -> TargetScore:
    if not bool(torch.isfinite(logps_T).all()):
        raise UserError(
            f"The target's log-probability of a completion of {record.id} is not finite ({logps_T.min().item()}); "
            "its weights are damaged or its dtype overflows: load the target in float32 and check its folder."
        )
    return TargetScore(len(logps_T), logps_T.exp().mean().item(), logps_T.mean().item(), not text.strip())


def raw_alignment(
    align: Align, rewrites: Sequence[TargetScore], originals: Sequence[TargetScore] | None, floor: float
) -> tuple[list[float], list[float]]:
    """Return the alignment of every rewrite, and the least value that each could have had.

    - ``mean_prob``: mean token probability, in 0..1; least 0.
    - ``mean_logprob``: mean token log-probability, cut at ``floor`` = -log(vocabulary size): a uniform guess.
    - ``gain_over_original``: ``mean_logprob`` minus that of the original CoT (cut alike), in nats a token.

    An empty text gets the least value. ``originals`` is read by ``gain_over_original`` only.
    """
    if align == "mean_prob":
        return [0.0 if s.empty else s.mean_prob for s in rewrites], [0.0] * len(rewrites)
    cut = [floor if s.empty else max(floor, s.mean_logprob) for s in rewrites]
    if align == "mean_logprob":
        return cut, [floor] * len(cut)
    assert originals is not None
    base = [max(floor, original.mean_logprob) for original in originals]
    return [value - b for value, b in zip(cut, base, strict=True)], [floor - b for b in base]


def normalised(
    normalise: Normalise, values: Sequence[float], floors: Sequence[float], group_size: int
) -> tuple[list[float], list[float]]:
    """Return the alignments on the scale of the reward, and the least value that each could have there.

    - ``none``: unchanged.
    - ``group``: (value - mean) / standard deviation over the ``group_size`` rewrites of one question (population
      deviation); no value of a group of G lies below -sqrt(G - 1) (Samuelson's inequality), which is the least.
    - ``batch_minmax``: (value - min) / (max - min) over all rewrites of the step, those that other processes score
      included; least 0.

    Values that do not differ by more than rounding become 0 (``group``) or 1 (``batch_minmax``).
    """
    if normalise == "none":
        return list(values), list(floors)
    if normalise == "batch_minmax":
        low, high = processes.extremes(min(values), max(values))
        if high - low < SPREAD:
            return [1.0] * len(values), [0.0] * len(values)
        return [(value - low) / (high - low) for value in values], [0.0] * len(values)
    scaled: list[float] = []
    for start in range(0, len(values), group_size):
        group = values[start : start + group_size]
        mean, spread = statistics.fmean(group), statistics.pstdev(group)
        scaled += [(value - mean) / spread if spread >= SPREAD else 0.0 for value in group]
    return scaled, [-math.sqrt(group_size - 1)] * len(values)
