"""Groups of knobs as validated, frozen objects; a bad key or value becomes one sentence that names place and cure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dart.errors import UserError

T = TypeVar("T", bound="Knobs")
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Knobs(BaseModel):
    """A group of knobs: unknown keys are refused, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def merge(base: Mapping[Any, Any], overlay: Mapping[Any, Any]) -> dict[str, Any]:
    """Return ``base`` updated by ``overlay``; nested mappings are merged, anything else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parse(model: type[T], values: Mapping[str, Any], source: str) -> T:
    """Validate ``values``; the first problem becomes a sentence that names ``source``, the key and the cure."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(_sentence(model, error, source)) from None


def _sentence(model: type[Knobs], error: ValidationError, source: str) -> str:
    # An unknown key often causes a missing one as well: tell the cause first.
    first = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), sorted(_field_names(model)), n=1)
        hint = f"did you mean {near[0]}?" if near else "remove it."
        return f"{source}: {place} is not a known key; {hint}"
    if first["type"] == "missing":
        return f"{source}: {place} is missing; set it (configs/base.yaml shows how)."
    return f"{source}: {place} = {first['input']!r} is not allowed: {first['msg'].removeprefix('Value error, ')}."


def _field_names(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for definition in [model.model_json_schema(), *model.model_json_schema().get("$defs", {}).values()]:
        names |= set(definition.get("properties", {}))
    return names
