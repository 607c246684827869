"""The methods from scratch: LoRA compared with the peft library, adapters with their formula."""

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, DistilBertConfig, MistralConfig, set_seed

from common.config.methods import Adapters, LoraFromScratch
from common.core.errors import ModelError
from common.core.schema import validate
from common.methods import attach
from common.methods.adapters import Adapter
from common.methods.lora import LoraLinear, merge_lora

H, M, L, C = 32, 64, 2, 3  # width, feed-forward width, layers, labels
TARGETS = ["query", "value", "output.dense"]


def base(config=None) -> nn.Module:
    set_seed(0)
    config = config or BertConfig(
        vocab_size=50,
        hidden_size=H,
        num_hidden_layers=L,
        num_attention_heads=2,
        intermediate_size=M,
        num_labels=C,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return AutoModelForSequenceClassification.from_config(config).eval()


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(1, 50, (4, 9), generator=generator),
        "attention_mask": torch.ones(4, 9, dtype=torch.long),
    }


def scratch(**options) -> LoraFromScratch:
    return validate(LoraFromScratch, {"name": "lora-from-scratch", **options}, "test")


def adapters(**options) -> Adapters:
    return validate(Adapters, {"name": "adapters", **options}, "test")


def trainable(model) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture
def both_models():
    """The same model with our LoRA and with the library's, all trained weights equal and nonzero."""
    ours = attach(base(), scratch(r=4, alpha=8, target_modules=TARGETS))
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, lora_dropout=0.0, target_modules=TARGETS)
    theirs = get_peft_model(base(), config)
    generator = torch.Generator().manual_seed(2)
    pairs = {}
    library = dict(theirs.named_modules())
    for name, module in ours.named_modules():
        if isinstance(module, LoraLinear):
            layer = library[f"base_model.model.{name}"]
            for mine, other in ((module.A, layer.lora_A["default"].weight), (module.B, layer.lora_B["default"].weight)):
                with torch.no_grad():
                    mine.copy_(0.1 * torch.randn(mine.shape, generator=generator))
                    other.copy_(mine)
                pairs[id(mine)] = (mine, other)
    head = theirs.get_base_model().classifier.modules_to_save["default"]
    for mine, other in ((ours.classifier.weight, head.weight), (ours.classifier.bias, head.bias)):
        with torch.no_grad():
            other.copy_(mine)
        pairs[id(mine)] = (mine, other)
    assert {id(p) for p in trainable(ours).values()} == set(pairs)
    assert len(trainable(theirs)) == len(pairs)
    return ours, theirs, list(pairs.values())


def step_loss(model) -> torch.Tensor:
    return F.cross_entropy(model(**batch()).logits, torch.tensor([0, 1, 2, 0]))


def test_outputs_and_gradients_are_the_library_s(both_models):
    ours, theirs, pairs = both_models
    torch.testing.assert_close(ours(**batch()).logits, theirs(**batch()).logits, rtol=0, atol=1e-6)
    step_loss(ours).backward()
    step_loss(theirs).backward()
    for mine, other in pairs:
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-6)
    assert max(mine.grad.abs().max() for mine, _ in pairs) > 1e-3


def test_ten_optimizer_steps_are_the_library_s(both_models):
    ours, theirs, pairs = both_models
    start = [mine.detach().clone() for mine, _ in pairs]
    for model in (ours, theirs):
        optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-3)
        for _ in range(10):
            optimizer.zero_grad()
            step_loss(model).backward()
            optimizer.step()
    for mine, other in pairs:
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
    assert all((mine - before).abs().max() > 1e-3 for (mine, _), before in zip(pairs, start, strict=True))


@pytest.mark.parametrize("method", [scratch(), adapters(), adapters(placement="pfeiffer")])
def test_training_starts_at_the_base(method):
    plain = base()
    expected = plain(**batch()).logits
    torch.testing.assert_close(attach(base(), method)(**batch()).logits, expected, rtol=0, atol=0)


def test_lora_counts():
    r = 4
    found = trainable(attach(base(), scratch(r=r)))
    per_layer = 4 * r * (H + H) + 2 * r * (H + M)
    pooler = r * (H + H)
    assert sum(p.numel() for p in found.values()) == L * per_layer + pooler + H * C + C
    assert all(name.startswith("classifier.") or name.endswith((".A", ".B")) for name in found)


@pytest.mark.parametrize(("placement", "each"), [("houlsby", 2), ("pfeiffer", 1)])
def test_adapter_counts_and_places(placement, each):
    size = 8
    model = attach(base(), adapters(size=size, placement=placement))
    found = trainable(model)
    assert sum(p.numel() for p in found.values()) == L * each * (2 * size * H + size + H) + H * C + C
    places = {name for name, module in model.named_modules() if isinstance(module, Adapter)}
    assert sum(name.endswith("attention.output.dense") for name in places) == (L if placement == "houlsby" else 0)
    assert len(places) == L * each


@pytest.mark.parametrize(
    ("config", "first"),
    [
        (
            DistilBertConfig(vocab_size=50, dim=H, hidden_dim=M, n_layers=L, n_heads=2, num_labels=C),
            "attention.out_lin",
        ),
        (
            MistralConfig(
                vocab_size=50, hidden_size=H, intermediate_size=M, num_hidden_layers=L, num_attention_heads=2,
                num_key_value_heads=1, head_dim=16, num_labels=C, pad_token_id=0,
            ),
            "self_attn.o_proj",
        ),
    ],
    ids=["distilbert", "mistral"],
)  # fmt: skip
def test_adapters_in_other_families(config, first):
    model = attach(base(config), adapters(size=4))
    places = [name for name, module in model.named_modules() if isinstance(module, Adapter)]
    assert len(places) == 2 * L and sum(name.endswith(first) for name in places) == L


def test_an_adapter_is_its_formula():
    set_seed(3)
    adapter = Adapter(nn.Linear(6, 5), 3)
    nn.init.normal_(adapter.up.weight)
    nn.init.normal_(adapter.up.bias)
    x = torch.randn(2, 6)
    h = x @ adapter.base.weight.T + adapter.base.bias
    inner = torch.clamp(h @ adapter.down.weight.T + adapter.down.bias, min=0)
    torch.testing.assert_close(adapter(x), h + inner @ adapter.up.weight.T + adapter.up.bias)


def test_merged_equals_unmerged(both_models):
    ours, _, _ = both_models
    expected = ours(**batch()).logits
    merged = merge_lora(ours)
    assert not [module for module in merged.modules() if isinstance(module, LoraLinear)]
    torch.testing.assert_close(merged(**batch()).logits, expected, rtol=0, atol=1e-6)


def test_a_half_precision_base_keeps_its_dtype_and_trains_in_float32():
    layer = LoraLinear(nn.Linear(6, 5).to(torch.bfloat16), r=2, alpha=4, dropout=0.0)
    y = layer(torch.randn(3, 6, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16 and layer.A.dtype == layer.B.dtype == torch.float32
    assert layer.to("meta").A.device.type == "meta"


def test_dropout_acts_in_training_alone():
    layer = LoraLinear(nn.Linear(6, 5), r=2, alpha=4, dropout=0.5)
    nn.init.ones_(layer.B)
    x = torch.ones(1, 6)
    assert torch.equal(layer.eval()(x), layer(x))
    layer.train()
    assert len({layer(x).sum().item() for _ in range(20)}) > 1


def test_targets_that_name_nothing():
    with pytest.raises(ModelError, match=r"'qery' names no linear layer.*query"):
        attach(base(), scratch(target_modules=["qery"]))


def test_an_unknown_family():
    from transformers import GPT2Config

    config = GPT2Config(vocab_size=50, n_embd=H, n_layer=L, n_head=2, num_labels=C, pad_token_id=0)
    with pytest.raises(ModelError, match="have none of the known names"):
        attach(base(config), adapters())
