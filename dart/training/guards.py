"""Set-ups in which training would go wrong in silence, refused before anything is loaded."""

from __future__ import annotations

import os
from importlib import metadata

from accelerate.utils import str_to_bool
from packaging.version import Version

from dart.errors import UserError

# With ZeRO's optimizer offload and gradient accumulation these drop all micro-batches of an update but the last
# (2604.23747, "SFT-then-RL beats mixed policies": published SFT baselines were weakened by it).
DEEPSPEED_BROKEN_FROM, DEEPSPEED_FIXED_IN = Version("0.15.2"), Version("0.19.0")


def check_deepspeed() -> None:
    """Refuse DeepSpeed, where accelerate would use it, in the releases that lose gradients."""
    if not str_to_bool(os.environ.get("ACCELERATE_USE_DEEPSPEED", "false")):
        return
    try:
        found = Version(metadata.version("deepspeed"))
    except metadata.PackageNotFoundError:
        return  # accelerate says so
    if DEEPSPEED_BROKEN_FROM <= found < DEEPSPEED_FIXED_IN:
        raise UserError(
            f"DeepSpeed {found} drops micro-batches when gradients are accumulated and the optimizer is offloaded "
            f"(releases {DEEPSPEED_BROKEN_FROM} up to {DEEPSPEED_FIXED_IN}); install {DEEPSPEED_FIXED_IN} or newer, or "
            "unset ACCELERATE_USE_DEEPSPEED: plain data parallelism is enough for models of this size."
        )
