"""Read and write JSON documents as dataclasses; unknown keys are ignored, missing ones take their defaults."""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from common.core import files
from common.core.errors import PeftableError, RunError
from common.core.formatting import shortened

SCHEMA = 1
_SHOWN = 300  # characters of a reason
_Document = TypeVar("_Document")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, {} where the file is missing or damaged."""
    try:
        found = files.read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def require_object(path: Path, keys: Iterable[str], fix: str, kind: type[PeftableError] = RunError) -> dict[str, Any]:
    """Return the JSON object in a file that must have some keys.

    Args:
        path: the file.
        keys: those that it must have.
        fix: a sentence that says how the file is made again.
        kind: of the error.

    Raises:
        PeftableError: of class `kind`: the file is missing or damaged.
    """
    try:
        found = files.read_json(path)
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror}). {fix}") from error
    except ValueError as error:
        raise kind(f"{path} is damaged: {shortened(str(error), _SHOWN)}. {fix}") from error
    if not isinstance(found, dict):
        raise kind(f"{path} is damaged: it is no JSON object. {fix}")
    if missing := [key for key in keys if key not in found]:
        raise kind(f"{path} is damaged: '{missing[0]}' is missing. {fix}")
    return found


def read_fields(path: Path, kind: type[_Document]) -> _Document:
    """Return those keys of the JSON object in a file whose values are as the TypedDict `kind` says; {} without a file.

    A key with another value counts as missing, and so does a key that `kind` does not name.
    """
    hints, document = _hints(typing.cast("type", kind)), read_object(path)
    found = {key: value for key, value in document.items() if key in hints and is_of(value, hints[key])}
    return typing.cast("_Document", found)


def from_json(kind: type[_Document], document: dict[str, Any]) -> _Document:
    """Return a JSON object as a dataclass of that kind.

    Raises:
        TypeError: a key that has no default is missing, or a value is of another type than its field.
    """
    known, hints = {field.name for field in dataclasses.fields(kind)}, _hints(kind)  # type: ignore[arg-type]
    values = {key: value for key, value in document.items() if key in known}
    if wrong := [key for key, value in values.items() if not is_of(value, hints[key])]:
        raise TypeError(f"{wrong[0]} is {type(values[wrong[0]]).__name__}")
    return kind(**values)


def to_json(document: Any) -> dict[str, Any]:
    """Return a dataclass as a JSON object, with the number of its schema first."""
    return {"schema": SCHEMA, **dataclasses.asdict(document)}


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def is_of(value: Any, hint: Any) -> bool:
    """Return whether a JSON value is of a type that is written as an annotation; a class of ours is left to itself."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(is_of(value, one) for one in inner)
    if origin in (typing.NotRequired, typing.Required):
        return is_of(value, inner[0])
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (int, str, bool):
        return type(value) is hint
    if hint is types.NoneType:
        return value is None
    if origin is dict:
        return isinstance(value, dict) and all(is_of(one, inner[1]) for one in value.values())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(is_of(one, inner[0]) for one in value)
    return True
