"""The dtype policy: the dtype of every weight of a loaded base, and computation in float32 inside autocast."""

import pytest
import torch
from toy_runs import dataset
from transformers import set_seed

from common.core.errors import ModelError
from common.model import base_config
from common.model.build import build_head
from common.model.load import load_base
from common.model.precision import (
    Float32Product,
    autocast,
    compute_dtype,
    compute_in_float32,
    set_products,
    weight_dtypes,
)

DATASET = dataset(labels=["con", "neu", "pro"])
BFLOAT16 = {"dtype": "bfloat16", "precision": "bfloat16"}
POOLER = {"name": "lora", "r": 4, "target_modules": ["query"], "modules_to_save": ["pooler"]}
PACKED = {"int8": torch.int8, "nf4": torch.uint8}


def policy(job) -> dict[str, str]:
    return weight_dtypes(job, base_config.meta_model(job, base_config.offline_config(job, DATASET)))


def test_every_row_of_the_table(tiny_job):
    found = policy(tiny_job("minilm-full", method=POOLER, quantization="nf4", **BFLOAT16))
    query = "bert.encoder.layer.1.attention.self.query"
    assert found[f"{query}.weight"] == "nf4" and found[f"{query}.bias"] == "bfloat16"
    assert found["bert.embeddings.word_embeddings.weight"] == "bfloat16"
    assert found["bert.embeddings.LayerNorm.weight"] == "float32"
    assert found["bert.pooler.dense.weight"] == found["bert.pooler.dense.bias"] == "float32"
    assert found["classifier.weight"] == "float32"


def test_the_last_layers_are_float32(tiny_job):
    found = policy(tiny_job("minilm-full", method={"name": "last-layers", "k": 1}, **BFLOAT16))
    assert found["bert.encoder.layer.0.output.dense.weight"] == "bfloat16"
    assert found["bert.encoder.layer.1.output.dense.weight"] == "float32"


def test_a_language_model_head_has_the_dtype_of_the_base(prompt_job):
    for quantization in ("none", "int8"):
        found = policy(prompt_job("mistral", quantization=quantization, **BFLOAT16))
        assert found["lm_head.weight"] == found["model.embed_tokens.weight"] == "bfloat16"


@pytest.mark.parametrize("options", [{}, BFLOAT16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_a_loaded_base_has_the_dtypes_of_the_policy(tiny_job, prompt_job, quantization, options):
    for job in (
        tiny_job("minilm-full", method=POOLER, quantization=quantization, **options),
        prompt_job("qwen", quantization=quantization, **options),
    ):
        dtypes = policy(job)
        for name, parameter in load_base(job, DATASET, 0).named_parameters():
            wanted = PACKED.get(dtypes[name]) or getattr(torch, dtypes[name])
            assert parameter.dtype == wanted, name


# --- computation -----------------------------------------------------------------------------------------------------


def test_compute_in_float32_gives_the_float32_result():
    set_seed(0)
    linear = torch.nn.Linear(32, 3)
    hidden = torch.randn(4, 32)
    exact = linear(hidden)
    compute_in_float32(linear)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(linear(hidden), exact)
        low = linear(hidden.bfloat16())
    assert low.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
def test_a_half_or_quantised_head_is_refused(dtype):
    linear = torch.nn.Linear(4, 2)
    linear.weight = torch.nn.Parameter(linear.weight.detach().to(dtype), requires_grad=False)
    with pytest.raises(ModelError, match=rf"weight is {dtype}; a head must be float32"):
        compute_in_float32(linear)


def test_the_product_in_blocks_has_the_gradient_of_the_whole_product(monkeypatch):
    monkeypatch.setattr(Float32Product, "ROWS", 7)
    torch.manual_seed(0)
    weight = torch.randn(23, 5).bfloat16()
    hidden = torch.randn(2, 3, 5, requires_grad=True)
    wanted = hidden @ weight.float().T
    found = Float32Product.apply(hidden, weight)
    torch.testing.assert_close(found, wanted)
    direction = torch.randn_like(wanted)
    for product in (wanted, found):
        product.backward(direction, retain_graph=True)
    torch.testing.assert_close(hidden.grad, 2 * torch.autograd.grad(wanted, hidden, direction)[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_norms_of_a_base_of_16_bits_return_its_dtype(tiny_job, dtype):
    job = tiny_job("minilm-full", method={"name": "lora", "r": 4}, dtype=dtype, precision=dtype)
    model = load_base(job, DATASET, 0)
    assert model.bert.embeddings(torch.tensor([[1, 2]])).dtype == getattr(torch, dtype)


def test_the_products_of_a_head_are_those_of_float32():
    seen = []

    class Head(torch.nn.Linear):
        def forward(self, hidden):
            seen.append(torch.backends.cuda.matmul.fp32_precision)
            return super().forward(hidden)

    head = Head(4, 2)
    compute_in_float32(head)
    try:
        set_products("tf32")
        head(torch.randn(1, 4))
        assert seen == ["ieee"] and torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        set_products("float32")
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_the_products_of_a_process_are_those_of_its_model(tiny_job):
    try:
        for precision, found in (("tf32", "tf32"), ("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")):
            build_head(tiny_job("minilm-full", precision=precision), DATASET)
            assert torch.backends.cuda.matmul.fp32_precision == found
    finally:
        set_products("float32")


def test_the_dtypes_of_computation():
    wanted = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    for precision, dtype in wanted.items():
        assert compute_dtype(precision) == dtype
        with autocast(precision, "cpu"):
            product = torch.nn.functional.linear(torch.ones(1, 2), torch.ones(2, 2))
        assert product.dtype == dtype
