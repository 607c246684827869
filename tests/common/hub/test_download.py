"""Which files of a repository are needed, and how large rows are; the downloads are in tests/test_fetch.py."""

import pytest

from common.config.dataset import Source
from common.core.schema import validate
from common.hub import download


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (
            [
                "config.json",
                "model.safetensors",
                "model.fp16.safetensors",
                "tf_model.h5",
                "spm.model",
                "onnx/model.onnx",
            ],
            ["config.json", "spm.model", "model.safetensors"],
        ),
        (
            ["model-00001-of-00001.safetensors", "model.safetensors.index.json", "model.safetensors", "merges.txt"],
            ["merges.txt", "model.safetensors"],
        ),
        (["chat_template.jinja", "additional_chat_templates/tools.jinja", "x/y.jinja"], None),
    ],
)
def test_needed_files(names, wanted):
    found = download.needed_files(names)
    assert found == (wanted if wanted else ["additional_chat_templates/tools.jinja", "chat_template.jinja"])


SIZES = {"download_size": 1, "dataset_size": 2}


@pytest.mark.parametrize(
    ("parts", "card", "size"),
    [
        ([{"config": "a"}], [{"config_name": "a", **SIZES}, {"config_name": "b", **SIZES}], 3),
        ([{"config": "a"}, {"config": "b"}], [{"config_name": "a", **SIZES}, {"config_name": "b", **SIZES}], 6),
        ([{"config": "c"}], [{"config_name": "a", **SIZES}], None),
        ([{}], {"config_name": "plain_text", **SIZES}, 3),
        ([{}], SIZES, 3),
        ([{}], {"download_size": 1}, None),
        ([{}], None, None),
    ],
)
def test_how_large_rows_are(parts, card, size):
    assert download._rows_bytes(validate(Source, {"hub": "lab/x", "parts": parts}, "data/x.yaml"), card) == size


def test_free_bytes_before_there_is_a_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "not" / "yet"))
    assert download.free_bytes() > 0
