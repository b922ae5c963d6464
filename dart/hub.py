"""What can go wrong with the Hugging Face hub, each in one sentence that names the cure."""

from __future__ import annotations

import errno

import httpx
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dart.errors import UserError
from dart.sources import Pinned

# What asking the hub and reading its files raises; datasets wraps some of it.
ERRORS = (httpx.HTTPError, OSError, ValueError, RuntimeError)


def refuse_unpinned(where: Pinned) -> None:
    """Raise :class:`UserError` for an empty revision."""
    if not where.revision:
        raise UserError(
            f"{where.repo} has no pinned revision; `python -m dart.pin` fills it into the configuration file."
        )


def sentence(error: Exception, where: Pinned, instead: str) -> str:
    """Say why ``where`` cannot be had, and what to do; ``instead`` names the local copy that would do."""
    at = f"{where.repo} at {where.revision[:8]}" if where.revision else where.repo
    match error:
        case GatedRepoError():
            return (
                f"{where.repo} is gated: accept its licence on its page of the Hugging Face hub, log in with `hf auth "
                f"login` (or set HF_TOKEN), and try again, or {instead}."
            )
        case RevisionNotFoundError():
            return f"{at} does not exist, though {where.repo} does; correct its revision, or {instead}."
        case LocalEntryNotFoundError() | OfflineModeIsEnabled():
            why = "neither network nor a copy in the cache"
        case RepositoryNotFoundError():
            return (
                f"{where.repo} does not exist on the Hugging Face hub, or is private and you are not logged in (`hf "
                f"auth login`); correct its name, or {instead}."
            )
        case OSError() if error.errno == errno.ENOSPC:
            return f"The disk is full while {at} is fetched; free space, or put the cache elsewhere (HF_HOME)."
        case _:
            why = " ".join(str(error).split())[:200]
    return (
        f"{at} cannot be had from the Hugging Face hub ({why}); check network and name, or {instead} "
        "(HF_HUB_OFFLINE=1: take the cache's copy)."
    )
