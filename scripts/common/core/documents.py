"""Read and write JSON documents as dataclasses; unknown keys are ignored, missing ones take their defaults."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from common.core import files

SCHEMA = 1
_Document = TypeVar("_Document")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, {} where the file is missing or damaged."""
    try:
        return dict(files.read_json(path))
    except (OSError, TypeError, ValueError):
        return {}


def from_json(kind: type[_Document], document: dict[str, Any]) -> _Document:
    """Return a JSON object as a dataclass of that kind.

    Raises:
        TypeError: a key that has no default is missing.
    """
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in document.items() if key in known})


def to_json(document: Any) -> dict[str, Any]:
    """Return a dataclass as a JSON object, with the number of its schema first."""
    return {"schema": SCHEMA, **dataclasses.asdict(document)}
