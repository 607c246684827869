"""Where models are, and what of them a machine has."""

import json
import shutil

import pytest

from common.config import catalog
from common.hub import locate, presence
from common.hub.locate import Base


def test_a_folder_that_is_half_a_model(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "half")
    assert presence.find_missing_model(Base(str(folder), None)) is None
    for name in ("tokenizer.json", "vocab.txt", "model.safetensors"):
        (folder / name).unlink(missing_ok=True)
    assert (
        "lacks the tokenizer's vocabulary (tokenizer.json or the like), model.safetensors."
        in presence.find_missing_model(Base(str(folder), None))
    )
    (folder / "vocab.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text("[")
    assert (
        locate.find_missing_files(folder)[-1] == "model.safetensors.index.json"
        and len(locate.find_missing_files(folder)) == 2
    )
    (folder / "merges.txt").write_text("")
    assert locate.find_missing_files(folder) == ["model.safetensors.index.json"]


def header(entries: dict) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + b"1234", True),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + b"123", False),
        (header({"__metadata__": {"format": "pt"}}), True),
        (header({"a": "b"}), False),
        (b"", False),
        (b"\xff" * 20, False),
        ((5).to_bytes(8, "little") + b"[1,2]", False),
    ],
)
def test_a_safetensors_file_is_as_long_as_it_says(tmp_path, content, whole):
    (tmp_path / "file").write_bytes(content)
    assert locate.is_complete(tmp_path / "file") == whole
    assert not locate.is_complete(tmp_path / "other")


def test_the_command_that_fetches_a_model(tmp_path, monkeypatch):
    assert locate.fetch_command(Base("mistralai/Mistral-7B-v0.3", "main")) == "make fetch MODEL=mistral-7b-v0.3"
    assert locate.fetch_command(Base("mistralai/Mistral-7B-v0.3", "v 1")) == (
        "hf download mistralai/Mistral-7B-v0.3 --revision 'v 1'"
    )
    (tmp_path / "broken.yaml").write_text("schema: 1\n")
    shutil.copy(catalog.JOBS / "_defaults.yaml", tmp_path)
    monkeypatch.setattr(catalog, "JOBS", tmp_path)
    assert locate.fetch_command(Base("mistralai/Mistral-7B-v0.3", "main")).startswith("hf download ")


def test_no_snapshot_of_a_name_that_is_none():
    assert locate.snapshot("my model", "main") is None and locate.snapshot("lab/nothing", "a" * 40) is None
