"""Rows of a data set: its JSON lines file in a local folder, else the Hugging Face hub at the pinned revision.

The folder is ``data.folder`` of the configuration, else the one that ``DART_DATA`` names.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.constants import HF_HUB_OFFLINE

from dart import hub
from dart.errors import UserError
from dart.sources import DATA_FOLDER, HubData

Row = dict[str, Any]


def read(called: str, where: HubData, folder: str | None) -> tuple[list[Row], str]:
    """Return the rows of a data set, and where they came from (with the SHA-256 of a local file)."""
    local = folder or os.environ.get(DATA_FOLDER)
    if not local:
        return _from_hub(where), f"hub {where.repo} {where.config} {where.split} at {where.revision}"
    setting = "data.folder" if folder else DATA_FOLDER
    if not Path(local).is_dir():
        raise UserError(f"{setting} names {local}, which is no folder; point it at the data files, or unset it.")
    path = Path(local) / where.file
    if not path.is_file():
        raise UserError(f"{setting} names {local}, which lacks {where.file} ({called}); add it, or unset {setting}.")
    text = path.read_bytes()
    try:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UserError(f"{path} is not JSON lines ({error}); fetch it again.") from None
    return found, f"{path} sha256 {hashlib.sha256(text).hexdigest()}"


def _from_hub(where: HubData) -> list[Row]:
    from datasets import load_dataset

    hub.refuse_unpinned(where)
    try:
        _check_network(where)
        return list(load_dataset(where.repo, where.config, split=where.split, revision=where.revision))
    except hub.ERRORS as error:
        instead = f"set {DATA_FOLDER} to a folder with {where.file}"
        raise UserError(hub.sentence(error, where, instead)) from None


def _check_network(where: HubData) -> None:
    """Fail at once without a network: ``load_dataset`` would try again for half a minute."""
    if not HF_HUB_OFFLINE:
        HfApi().dataset_info(where.repo, revision=where.revision, timeout=10)
