"""PEAR (2602.01058): the SFT loss of each token re-weighted by how the policy prefers what follows to its author.

With ``delta_t = clip(log pi_theta(y_t) - log pi_beta(y_t))``, pi_theta being the policy in training and pi_beta the
behaviour policy that wrote the data, a completion of T tokens is weighted by

- ``sequence``: ``G_t = exp(sum of all delta)``
- ``token``: ``G_t = gamma^(T - t) exp(sum over j > t of delta_j)``
- ``block``: the same for blocks of B tokens, all tokens of a block sharing the weight of its last one,

and the loss is ``sum of stopgrad(clip(G_t)) nll_t``, over the number of tokens of the whole batch. Read in two
independent sources (docs/method.md); how the weights are normalised is not stated.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import pad

from dart import processes
from dart.sections import Pear

BEHAVIOUR = "behaviour_logps"


def log_weights(
    logps_BT: torch.Tensor, behaviour_BT: torch.Tensor, mask_BT: torch.Tensor, pear: Pear
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log G of every token, 0 outside ``mask``, and whether its delta was clipped.

    Parameters
    ----------
    logps_BT, behaviour_BT : float tensors of shape (batch, tokens)
        Log-probabilities of the tokens under the policy and under the behaviour policy.
    mask_BT : bool tensor of the same shape
        Completion tokens; one unbroken stretch a row.
    """
    low, high = pear.delta_clip
    raw_BT = (logps_BT.detach() - behaviour_BT) * mask_BT
    delta_BT = raw_BT.clamp(low, high) * mask_BT
    clipped_BT = (raw_BT != delta_BT) & mask_BT
    total_B1 = delta_BT.sum(dim=1, keepdim=True)
    if pear.level == "sequence":
        logs_BT = total_B1.expand_as(delta_BT)
    else:
        size = 1 if pear.level == "token" else pear.block
        place_BT = mask_BT.cumsum(dim=1)  # 1, 2, ... T inside the completion
        length_B1 = place_BT[:, -1:]
        end_BT = torch.minimum((place_BT + size - 1) // size * size, length_B1)
        first_B1 = mask_BT.int().argmax(dim=1, keepdim=True)
        column_BT = (first_B1 + end_BT - 1).clamp(min=0)
        later_BT = total_B1 - delta_BT.cumsum(dim=1).gather(1, column_BT)
        logs_BT = (length_B1 - end_BT) * torch.tensor(pear.gamma).log() + later_BT
    return logs_BT.clamp(*pear.log_weight_clip) * mask_BT, clipped_BT


def weights(log_weights_BT: torch.Tensor, mask_BT: torch.Tensor, pear: Pear) -> torch.Tensor:
    """Return G, 0 outside ``mask``; with ``mean1`` the weights of every completion have the mean 1.

    The mean is taken within a completion, so that splitting a batch changes nothing.
    """
    weights_BT = log_weights_BT.exp() * mask_BT
    if pear.normalise == "none":
        return weights_BT
    mean_B1 = weights_BT.sum(dim=1, keepdim=True) / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    return weights_BT / mean_B1.clamp(min=torch.finfo(weights_BT.dtype).tiny)


class PearCollator(DataCollatorForLanguageModeling):
    """Pads the behaviour policy's log-probabilities along with the token ids."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        rows = [torch.tensor(example[BEHAVIOUR], dtype=torch.float32) for example in examples]
        batch[BEHAVIOUR] = pad(rows, padding_value=0, padding_side="right")
        return batch


class PearLoss:
    """Mixin: ``SFTTrainer`` with PEAR's loss.

    ``extra`` receives the step's ``nll`` (comparable between arms, as the loss is not), ``effective_tokens`` (share:
    (sum G)^2 / sum G^2 over the tokens), ``last_tenth`` (share of the weight on the last tenth of a completion) and
    ``delta_clipped`` (share of tokens).
    """

    args: TrainingArguments
    accelerator: Any
    pear: Pear
    extra: dict[str, float]
    sums: dict[str, float]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        behaviour_BT = inputs.pop(BEHAVIOUR)[:, 1:]  # labels are shifted: column t holds the token t + 1
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        logps_BT, mask_BT = outputs.log_probs, outputs.label_mask.bool()
        logs_BT, clipped_BT = log_weights(logps_BT, behaviour_BT, mask_BT, self.pear)
        weights_BT = weights(logs_BT, mask_BT, self.pear)
        tokens = mask_BT.sum() if num_items_in_batch is None else num_items_in_batch
        loss = -(weights_BT * logps_BT).sum() / tokens
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        self._note(logps_BT.detach(), weights_BT, clipped_BT, mask_BT)
        return (loss, outputs) if return_outputs else loss

    def _note(
        self, logps_BT: torch.Tensor, weights_BT: torch.Tensor, clipped_BT: torch.Tensor, mask_BT: torch.Tensor
    ) -> None:
        """Add all processes' parts of a batch to the step's statistics; those of the last step were emptied."""
        if not self.extra:
            self.sums = dict.fromkeys(("tokens", "nll", "weight", "square", "late", "clipped"), 0.0)
        place_BT = mask_BT.cumsum(dim=1)
        late_BT = (place_BT > 0.9 * place_BT[:, -1:]) & mask_BT
        found = {"tokens": mask_BT, "nll": -logps_BT * mask_BT, "weight": weights_BT, "square": weights_BT**2}
        found |= {"late": weights_BT * late_BT, "clipped": clipped_BT}
        sums = processes.totals([float(values.sum()) for values in found.values()])
        for name, value in zip(found, sums, strict=True):
            self.sums[name] += value
        tokens, weight = self.sums["tokens"], self.sums["weight"]
        self.extra |= {
            "nll": self.sums["nll"] / tokens,
            "effective_tokens": weight**2 / self.sums["square"] / tokens,
            "last_tenth": self.sums["late"] / weight,
            "delta_clipped": self.sums["clipped"] / tokens,
        }
