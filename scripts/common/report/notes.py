"""Read notes.yaml of outputs/published: sentences about datasets, and scores published elsewhere."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from common.core import yaml_io
from common.core.schema import Strict, validate

FILE = "notes.yaml"


class Elsewhere(Strict):
    """A score in percent that another publication gives for the same test rows."""

    model: str
    score: float = Field(ge=0, le=100)
    source: str


class DatasetNotes(Strict):
    """Notes about the results of one dataset, as Markdown, and scores published elsewhere."""

    notes: tuple[str, ...] = Field(default=(), strict=False)
    elsewhere: tuple[Elsewhere, ...] = Field(default=(), strict=False)


class Notes(Strict):
    """The content of notes.yaml."""

    schema_version: Literal[1] = Field(alias="schema")
    datasets: dict[str, DatasetNotes]


def read(published: Path) -> dict[str, DatasetNotes]:
    """Return the notes of each dataset; none where the folder has no notes.yaml.

    Raises:
        ConfigError: the file has unknown keys or wrong values.
    """
    file = published / FILE
    return validate(Notes, yaml_io.read(file), str(file)).datasets if file.exists() else {}
