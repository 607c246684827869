"""Pooling of the classification head: equal to its formula, trained, saved and reloaded; a clear refusal elsewhere."""

import numpy as np
import pytest
import torch
from tiny_encoders import FAMILIES
from toy_runs import dataset, pair_rows
from transformers import set_seed

from common.core.errors import ConfigError, ModelError
from common.evaluation import inference
from common.model import saved_model
from common.model.build import build_head, count_parameters
from common.model.inspect import inner_model, parameter_counts
from common.model.pooling import pool

DATASET = dataset(labels=["con", "neu", "pro"])
ROWS = pair_rows(6)


def scores(head) -> np.ndarray:
    return inference.score(head, ROWS, 4096, "score")


def by_formula(head, pooling: str) -> np.ndarray:
    """Return log softmax(W pool(h) + b), each row alone, without padding."""
    inner, found = inner_model(head.model), []
    for row in head.encoder.encode(ROWS):
        inputs = {"input_ids": torch.tensor([row.input_ids])}
        if row.token_type_ids is not None:
            inputs["token_type_ids"] = torch.tensor([row.token_type_ids])
        with torch.no_grad():
            hidden = inner.base_model(**inputs).last_hidden_state[0]
            pooled = {"cls": hidden[0], "last": hidden[-1], "mean": hidden.mean(dim=0)}[pooling]
            found.append(inner.classifier(pooled).log_softmax(-1).numpy())
    return np.stack(found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_it_is_its_formula(tiny_job, tiny_encoder, family, pooling):
    overrides = {**tiny_encoder(family), "method": {"name": "full"}, "pooling": pooling}
    set_seed(1)
    head = build_head(tiny_job("minilm-full", **overrides), DATASET)
    head.model.eval()
    np.testing.assert_allclose(scores(head), by_formula(head, pooling), atol=1e-5)
    own = [name for name, _ in inner_model(head.model).named_parameters() if "pooler" in name or "pre_class" in name]
    assert own == []
    counts = count_parameters(tiny_job("minilm-full", **overrides), DATASET)
    assert counts == parameter_counts(head.model)


@pytest.mark.parametrize("name", ["lora", "full", "last-layers", "adapters"])
def test_it_learns_and_reloads(tiny_job, tmp_path, name):
    methods = {
        "lora": {"name": "lora", "r": 2, "target_modules": ["query"]},
        "full": {"name": "full"},
        "last-layers": {"name": "last-layers", "k": 1},
        "adapters": {"name": "adapters", "size": 4},
    }
    job = tiny_job("minilm-lora", method=methods[name], pooling="mean", max_length=64)
    set_seed(1)
    head = build_head(job, DATASET)
    head.losses(head.training_batch(head.encoder.encode(ROWS))).sum().backward()
    trained = {name: weight for name, weight in head.model.named_parameters() if weight.requires_grad}
    assert any("classifier" in name for name in trained)
    with torch.no_grad():
        for weight in trained.values():
            assert weight.grad is not None  # LoRA's A and an adapter's first layer have zeros at first
            weight -= 0.5 * weight.grad
    assert any(weight.grad.any() for name, weight in trained.items() if "classifier" in name)
    head.model.eval()
    saved_model.save(head, job, DATASET, tmp_path / "model")
    again = saved_model.load(job, DATASET, tmp_path / "model")
    np.testing.assert_allclose(scores(again), scores(head), atol=1e-6)


def test_a_decoder_takes_the_last_token_or_the_mean(tiny_job, tiny_causal_model):
    model = str(tiny_causal_model("qwen"))
    method = {"name": "lora", "r": 2, "target_modules": "all-linear"}
    found = {}
    for pooling in ("default", "last", "mean"):
        job = tiny_job("minilm-lora", model=model, model_config_overrides={}, method=method, pooling=pooling)
        set_seed(1)
        head = build_head(job, DATASET)
        found[pooling] = scores(head)
    np.testing.assert_array_equal(found["default"], found["last"])
    assert np.abs(found["mean"] - found["last"]).max() > 1e-4
    with pytest.raises(ModelError, match="pooling cls takes the first token, which in this model sees no other"):
        build_head(job.model_copy(update={"pooling": "cls"}), DATASET)


def test_virtual_tokens_need_the_models_own_head(tiny_job):
    with pytest.raises(ConfigError, match="method prompt_tuning works in the model's own forward pass"):
        tiny_job("minilm-lora", method={"name": "prompt_tuning", "num_virtual_tokens": 3}, pooling="mean")


def test_it_belongs_to_the_classification_head(prompt_job):
    with pytest.raises(ConfigError, match="pooling belongs to the classification head"):
        prompt_job("qwen", pooling="mean")


def test_padding_is_no_part_of_the_mean():
    hidden = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pool(hidden, mask, "mean").tolist() == [[1.0, 2.0], [8.0, 9.0]]
    assert pool(hidden, mask, "last").tolist() == [[2.0, 3.0], [10.0, 11.0]]
    assert pool(hidden, mask, "cls").tolist() == [[0.0, 1.0], [6.0, 7.0]]
