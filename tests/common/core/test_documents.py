"""JSON documents: what is not as it was written counts as missing, or is refused with the file and the fix."""

import dataclasses
from typing import TypedDict

import pytest

from common.core import documents
from common.core.errors import ModelError

DAMAGED = {
    "garbage": b"\x00\xff{oops",
    "empty": b"",
    "null": b"null",
    "list": b"[1]",
    "text": b'"x"',
    "deep": b"[" * 10**5,
}


@dataclasses.dataclass(frozen=True)
class Document:
    name: str
    count: int | None = None
    share: float = 0.0
    words: list[str] = dataclasses.field(default_factory=list)
    numbers: dict[str, int] = dataclasses.field(default_factory=dict)


class Fields(TypedDict, total=False):
    done: int
    per_s: float | None


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    assert documents.read_object(file) == {} and documents.read_fields(file, Fields) == {}
    with pytest.raises(ModelError, match=r"a.json is damaged: .* Train again.") as caught:
        documents.require_object(file, (), "Train again.", ModelError)
    assert len(str(caught.value)) < 600


def test_a_key_that_is_missing(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(ModelError, match=r"cannot be read .No such file"):
        documents.require_object(file, ("a",), "", ModelError)
    file.write_text('{"a": 1}')
    assert documents.require_object(file, ("a",), "") == {"a": 1}
    with pytest.raises(ModelError, match="'b' is missing"):
        documents.require_object(file, ("a", "b"), "", ModelError)


@pytest.mark.parametrize(
    "values",
    [{"name": 3}, {"count": "x"}, {"count": True}, {"share": "1"}, {"words": "x"}, {"words": [1]}, {"numbers": []}],
)
def test_a_value_of_another_type(values):
    with pytest.raises(TypeError, match=next(iter(values))):
        documents.from_json(Document, {"name": "a", **values})


def test_values_as_they_are_written(tmp_path):
    document = Document("a", 3, 1, ["x"], {"y": 2})
    assert documents.from_json(Document, documents.to_json(document) | {"new": 1}) == document
    assert documents.from_json(Document, {"name": "a", "count": None, "share": 2}).share == 2
    file = tmp_path / "a.json"
    file.write_text('{"done": 3, "per_s": "fast", "other": 1}')
    assert documents.read_fields(file, Fields) == {"done": 3}
