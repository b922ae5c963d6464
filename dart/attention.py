"""Attention for inference on a CPU: keys and values that query heads share are not copied for each of them.

transformers repeats them in memory wherever there is an attention mask, because on CUDA torch's fast kernels would
refuse them otherwise. On a CPU torch's kernel takes them as they are, which gives the same bits sooner (docs/log.md).
In training there is nothing to gain, and transformers' own function is used.

Registered through transformers' ``AttentionInterface``
(https://huggingface.co/docs/transformers/attention_interface).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "sdpa_grouped"


def grouped(
    module: torch.nn.Module,
    query_BHTD: torch.Tensor,
    key_BGTD: torch.Tensor,
    value_BGTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of H query heads to G heads of keys and values; returns B x T x H x D and no weights."""
    if torch.is_grad_enabled():
        return sdpa_attention_forward(
            module, query_BHTD, key_BGTD, value_BGTD, attention_mask, scaling=scaling, **others
        )
    out_BHTD = scaled_dot_product_attention(
        query_BHTD,
        key_BGTD,
        value_BGTD,
        attn_mask=attention_mask,
        scale=scaling,
        is_causal=attention_mask is None and query_BHTD.shape[2] > 1,
        enable_gqa=True,
    )
    return out_BHTD.transpose(1, 2).contiguous(), None


AttentionInterface.register(GROUPED, grouped)
AttentionMaskInterface.register(GROUPED, sdpa_mask)
