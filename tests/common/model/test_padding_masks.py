"""Losses and gradients without a look at a tensor's values, shown on the meta device, where each look is an error."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from toy_runs import dataset
from transformers import AttentionMaskInterface
from transformers.masking_utils import eager_mask, sdpa_mask

from common.config import catalog
from common.model import padding_masks, precision
from common.model.batching import Encoded
from common.model.build import build_head
from common.model.heads import ClassificationHead
from common.model.inspect import inner_model
from common.model.load import quiet_libraries
from common.model.precision import set_head_precision
from common.model.prompt_head import PromptHead
from common.model.shapes import model_shape
from common.smoke import tiny_models

DATASET = dataset(labels=["con", "neu", "pro"])
FLOAT32 = {"precision": "float32", "dtype": "float32"}
ROWS = [Encoded([5 + n] * (4 + 3 * n), [0] * (4 + 3 * n), n % 3, 1.0, False) for n in range(5)]


@pytest.fixture
def unread(monkeypatch):
    """The masks of padding as a process with a model has them, and as they were before afterwards."""
    before = {"sdpa": sdpa_mask, "eager": eager_mask}
    monkeypatch.setattr(precision, "_in_float32", lambda device: contextlib.nullcontext())  # meta has no autocast
    quiet_libraries()
    padding_masks.never_read()
    yield
    for attention, function in before.items():
        AttentionMaskInterface.register(attention, function)


def meta_head(job):
    """Return a job's head on the meta device."""
    model = model_shape(job, DATASET).model
    set_head_precision(job, inner_model(model))
    answers = [[1, 2], [1, 3, 2], [4, 2]]
    tokenizer = SimpleNamespace(pad_token_id=0)
    encoder = SimpleNamespace(tokenizer=tokenizer, answer_ids=answers, end_of_turn_length=1)
    if job.head == "prompt":
        return PromptHead(model, encoder, job.precision)
    return ClassificationHead(model, encoder, job.precision, job.pooling)


def assert_nothing_is_read(head):
    batch = head.training_batch(ROWS)
    head.losses({key: value.to("meta") for key, value in batch.items()}).sum().backward()
    trained = [parameter for parameter in head.model.parameters() if parameter.requires_grad]
    assert trained and all(parameter.grad is not None for parameter in trained)
    with torch.no_grad():
        head.scores({key: value.to("meta") for key, value in head.scoring_batch(ROWS).items()})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_encoder(unread, tiny_job, attention):
    assert_nothing_is_read(meta_head(tiny_job("minilm-full", attention=attention)))


@pytest.mark.parametrize("name", ["distilbert-imdb-lora", "modernbert-large", "deberta-v3-large"])
def test_other_encoders(unread, tmp_path, name):
    model = tiny_models.make_tiny_model(catalog.load_job(name)[0].model, tmp_path / "model")
    assert_nothing_is_read(meta_head(catalog.load_job(name, {"model": str(model), "max_length": 64, **FLOAT32})[0]))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen", "gemma"])
@pytest.mark.parametrize("kind", ["classification", "prompt"])
def test_decoders(unread, prompt_job, family, kind):
    assert_nothing_is_read(meta_head(prompt_job(family, head=kind)))


def test_transformers_reads_the_mask_otherwise(tiny_job):
    """The tests above fail without `padding_masks`."""
    for attention, function in (("sdpa", sdpa_mask), ("eager", eager_mask)):
        AttentionMaskInterface.register(attention, function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_in_float32", lambda device: contextlib.nullcontext())
        with pytest.raises(RuntimeError, match="meta"):
            assert_nothing_is_read(meta_head(tiny_job("minilm-full")))


def test_on_a_cpu_nothing_changes(tiny_job):
    build_head(tiny_job("minilm-lora"), DATASET)
    mask = AttentionMaskInterface()["sdpa"]
    assert mask is not sdpa_mask  # every model that is built makes it so
    shape = {"batch_size": 2, "q_length": 3, "kv_length": 3, "allow_is_bidirectional_skip": True}
    options = {"mask_function": lambda batch, head, query, key: query >= 0, "allow_is_causal_skip": False}
    whole, padded = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[True, True, True], [True, True, False]])
    assert mask(attention_mask=whole, device=torch.device("cpu"), **shape, **options) is None
    for given in (whole, padded):
        found = mask(attention_mask=given.to("meta"), device=torch.device("meta"), **shape, **options)
        assert found.shape == (2, 1, 3, 3)
    assert mask(attention_mask=None, device=torch.device("meta"), **shape, **options) is None
    found = mask(attention_mask=padded, device=torch.device("cpu"), **shape, **options)
    assert found[1, 0, :, 2].tolist() == [False] * 3 and found[0].all()
