"""Validate mappings read from YAML against pydantic schemas; one error lists everything that is wrong.

Each line of the error names file, key path, what was found, what is allowed and the most similar name.
"""

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from common.core.errors import ConfigError, choices, nearest


class Strict(BaseModel):
    """Base of all schemas: unknown keys, values of another type, NaN and infinity are errors; objects are immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True, allow_inf_nan=False)


T = TypeVar("T", bound=Strict)


def validate(schema: type[T], value: dict[str, Any], origin: str) -> T:
    """Validate a mapping and return it as an object of the schema.

    Args:
        schema: the class to create, a subclass of `Strict`.
        value: a mapping of plain values, as YAML gives them.
        origin: the file (or variable) that the message names.

    Raises:
        ConfigError: something is wrong; the message has one line for each problem.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        problems = list(dict.fromkeys(_describe(schema, value, dict(problem)) for problem in error.errors()))
        raise ConfigError("\n       ".join(f"{origin}: {problem}" for problem in problems)) from None


def _describe(schema: type[Strict], document: dict[str, Any], problem: dict[str, Any]) -> str:
    """Return a message for one of pydantic's errors, in terms of the YAML file."""
    location: list[Any] = []
    here: Any = document
    here_schema: type[Strict] | None = schema
    for part in problem["loc"]:
        inside = (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int))
        if inside:
            if isinstance(here, dict):
                here_schema = _field_schema(here_schema, part, here[part])
            here = here[part]
            location.append(part)
        elif problem["type"] == "missing" and part == problem["loc"][-1]:
            location.append(part)
        # Other parts are pydantic's names for the branches of a union.
    path = ".".join(str(part) for part in location)
    if problem["type"] in ("extra_forbidden", "unknown_option"):
        if problem["type"] == "unknown_option":
            allowed = problem["ctx"]["allowed"]
            location.append(problem["ctx"]["key"])
            path = ".".join(str(part) for part in location)
        else:
            parent = _schema_at(schema, document, location[:-1])
            allowed = _keys(parent) if parent else []
        return f"unknown key '{path}'.{nearest(location[-1], allowed)} Allowed here: {choices(allowed, 30)}."
    if problem["type"] == "missing":
        return f"the key '{path}' is missing."
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        parent = _schema_at(schema, document, location[:-1])
        branches = _models(parent.model_fields[location[-1]].annotation) if parent else []
        tags = [tag for branch in branches for tag in get_args(branch.model_fields["name"].annotation)]
        found = here.get("name") if isinstance(here, dict) else here
        return f"'{path}.name' is {found!r}.{nearest(found, tags)} Allowed: {choices(tags)}."
    if problem["type"] == "value_error":
        return f"{path + ': ' if path else ''}{problem['msg'].removeprefix('Value error, ')}."
    # true, 2016 and 2026-01-01 are strings only in quotes.
    word = here is None or (problem["type"] == "string_type" and not isinstance(here, dict | list))
    hint = " (quote it in YAML to mean the word)" if word else ""
    rule = problem["msg"].removeprefix("Input should be ")
    near = (
        nearest(here, problem["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
        if problem["type"] == "literal_error"
        else ""
    )
    return f"'{path}' is {here!r}{hint}; allowed is {rule}.{near}"


def _keys(model: type[Strict]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _field_schema(schema: type[Strict] | None, key: Any, value: Any) -> type[Strict] | None:
    """Return the schema of the mapping under a key, None if it has none; `name` chooses the branch of a union."""
    if schema is None:
        return None
    field = next((field for name, field in schema.model_fields.items() if key in (name, field.alias)), None)
    if field is None:
        return None
    models = _models(field.annotation)
    if len(models) > 1 and isinstance(value, dict):
        models = [model for model in models if value.get("name") in get_args(model.model_fields["name"].annotation)]
    return models[0] if len(models) == 1 else None


def _models(annotation: Any) -> list[type[Strict]]:
    """Return the schemas that a type annotation contains, in order."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _schema_at(schema: type[Strict], document: dict[str, Any], location: list[Any]) -> type[Strict] | None:
    """Return the schema of the mapping at `location`."""
    found: type[Strict] | None = schema
    here: Any = document
    for part in location:
        here = here[part]
        if not isinstance(part, int):
            found = _field_schema(found, part, here)
    return found
