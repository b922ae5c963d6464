"""Where every value of the configuration comes from: ``configs/knobs.yaml`` joined to the values.

``python -m dart.knobs configs/base.yaml configs/arms.yaml configs/nano.yaml`` prints key, value, status and reason.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from dart.config import Config, Needs, load
from dart.errors import UserError
from dart.parsing import Knobs, parse

PATH = Path("configs/knobs.yaml")
# Names of places, and what a run is given: no result depends on them.
PLACES = frozenset(
    {"scale", "extends", "results", "environment", "data.folder", "data.train.*.file", "data.benchmarks.*.file"}
)
PLACES |= {"models.*.vocabulary", *(f"resources.*.{name}" for name in Needs.model_fields)}


class Status(Knobs):
    """What is known of a value: said by the paper, inferred from a named source, or our choice; and why."""

    status: Literal["stated", "inferred", "assumed"]
    why: str


@dataclass(frozen=True)
class Knob:
    """A value of the configuration with its status."""

    key: str
    value: Any
    status: str
    why: str


def read(path: Path = PATH) -> dict[str, Status]:
    """Read the statuses by key (``*`` for any name); raises :class:`UserError` for a malformed one."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: parse(Status, entry, f"{path}, {key}") for key, entry in entries.items()}


def keys(model: type[Knobs] = Config, prefix: str = "") -> Iterator[str]:
    """Yield the key of every result-affecting value that the configuration can hold."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        groups = [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, Knobs)]
        star = ".*" if get_origin(field.annotation) is dict else ""
        if groups:
            yield from keys(groups[0], f"{prefix}{name}{star}.")
        elif f"{prefix}{name}" not in PLACES:
            yield f"{prefix}{name}"


def join(config: Config, statuses: Mapping[str, Status]) -> list[Knob]:
    """Return every value of ``config`` with its status, in the configuration's order."""
    found = []
    for key in keys():
        if key not in statuses:
            raise UserError(f"{PATH} says nothing of {key}; add its status (stated, inferred or assumed) and why.")
        status = statuses[key]
        values = _values(config.model_dump(mode="json"), key.split("."))
        found += [Knob(name, value, status.status, status.why) for name, value in values]
    return found


def _values(node: Any, parts: Sequence[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not parts:
        yield prefix, node
    elif node is not None:  # an optional group that this scale lacks has no values
        for name in node if parts[0] == "*" else parts[:1]:
            yield from _values(node[name], parts[1:], f"{prefix}.{name}" if prefix else name)


def main(argv: Sequence[str]) -> int:
    """Print the values of the configuration files in ``argv`` with their statuses."""
    try:
        for knob in join(load(argv), read()):
            print(f"{knob.key} = {knob.value!r}  [{knob.status}] {knob.why}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
