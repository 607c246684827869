"""Mappings that know all their keys, and one message that lists every fault.

A message names file, key path, what was found, what is allowed and the nearest name.
"""

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from common.core.errors import ConfigError, choices, nearest


class Strict(BaseModel):
    """A mapping that knows all its keys and takes no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True, allow_inf_nan=False)


T = TypeVar("T", bound=Strict)


def validate(schema: type[T], value: dict[str, Any], origin: str) -> T:
    """Return `value` as a `schema`, or raise one `ConfigError` that lists every fault.

    Args:
        schema: the model to validate against.
        value: a mapping of plain values.
        origin: the file, for the message.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        faults = list(dict.fromkeys(_describe(schema, value, dict(fault)) for fault in error.errors()))
        raise ConfigError("\n       ".join(f"{origin}: {fault}" for fault in faults)) from None


def _describe(schema: type[Strict], document: dict[str, Any], fault: dict[str, Any]) -> str:
    """Say one pydantic fault in the words of the file."""
    location: list[Any] = []
    here: Any = document
    owner: type[Strict] | None = schema
    for part in fault["loc"]:
        inside = (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int))
        if inside:
            owner = _field_model(owner, part, here[part]) if isinstance(here, dict) else owner
            here = here[part]
            location.append(part)
        elif fault["type"] == "missing" and part == fault["loc"][-1]:
            location.append(part)
        # Other parts are pydantic's names for the branch of a union.
    path = ".".join(str(part) for part in location)
    if fault["type"] in ("extra_forbidden", "unknown_option"):
        if fault["type"] == "unknown_option":
            allowed = fault["ctx"]["allowed"]
            location.append(fault["ctx"]["key"])
            path = ".".join(str(part) for part in location)
        else:
            parent = _owner(schema, document, location[:-1])
            allowed = _keys(parent) if parent else []
        return f"unknown key '{path}'.{nearest(location[-1], allowed)} Allowed here: {choices(allowed, 30)}."
    if fault["type"] == "missing":
        return f"the key '{path}' is missing."
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        parent = _owner(schema, document, location[:-1])
        branches = _models(parent.model_fields[location[-1]].annotation) if parent else []
        tags = [tag for branch in branches for tag in get_args(branch.model_fields["name"].annotation)]
        found = here.get("name") if isinstance(here, dict) else here
        return f"'{path}.name' is {found!r}.{nearest(found, tags)} Allowed: {choices(tags)}."
    if fault["type"] == "value_error":
        return f"{path + ': ' if path else ''}{fault['msg'].removeprefix('Value error, ')}."
    # true, 2016 and 2026-01-01 are words only in quotes.
    word = here is None or (fault["type"] == "string_type" and not isinstance(here, dict | list))
    hint = " (quote it in YAML to mean the word)" if word else ""
    rule = fault["msg"].removeprefix("Input should be ")
    near = (
        nearest(here, fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
        if fault["type"] == "literal_error"
        else ""
    )
    return f"'{path}' is {here!r}{hint}; allowed is {rule}.{near}"


def _keys(model: type[Strict]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _field_model(owner: type[Strict] | None, key: Any, value: Any) -> type[Strict] | None:
    """Return the schema behind a key of `owner`, choosing a union's branch by the value's `name`."""
    if owner is None:
        return None
    field = next((field for name, field in owner.model_fields.items() if key in (name, field.alias)), None)
    if field is None:
        return None
    models = _models(field.annotation)
    if len(models) > 1 and isinstance(value, dict):
        models = [model for model in models if value.get("name") in get_args(model.model_fields["name"].annotation)]
    return models[0] if len(models) == 1 else None


def _models(annotation: Any) -> list[type[Strict]]:
    """Return the schemas inside a type annotation, in order."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _owner(schema: type[Strict], document: dict[str, Any], location: list[Any]) -> type[Strict] | None:
    """Return the schema of the mapping at `location`."""
    owner: type[Strict] | None = schema
    here: Any = document
    for part in location:
        here = here[part]
        if not isinstance(part, int):
            owner = _field_model(owner, part, here)
    return owner
