"""Which parameters each method trains, counted by name and against closed formulas."""

import pytest
import torch
from toy_runs import dataset
from transformers import AutoModelForSequenceClassification, BertConfig, GPT2Config, RobertaConfig, set_seed

from common.config.methods import Full, LastLayers, Lora, Untrained
from common.core.errors import ModelError
from common.core.schema import validate
from common.data.rows import Row
from common.hub import locate
from common.methods import attach
from common.methods.last_layers import layer_stack
from common.model.batching import collate
from common.model.build import build_head, count_parameters
from common.model.encoding import Encoder
from common.model.inspect import parameter_counts
from common.model.load import load_base, load_tokenizer, quiet_libraries

DATASET = dataset(labels=["con", "neu", "pro"])
LABELS = list(DATASET.labels)
H, F, L, C = 32, 64, 2, 3  # width, feed-forward width, layers and labels of the tiny model
HEAD = H * C + C
LAYER = 4 * (H * H + H) + (H * F + F) + (F * H + H) + 2 * 2 * H  # attention, feed-forward, two norms
POOLER = H * H + H


def base(tiny_job) -> torch.nn.Module:
    quiet_libraries()
    set_seed(0)
    return load_base(tiny_job(), DATASET, 0)


def trainable(model: torch.nn.Module) -> dict[str, int]:
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


def lora(**options: object) -> Lora:
    return validate(Lora, {"name": "lora", **options}, "test")


@pytest.mark.parametrize("r", [1, 4, 16])
def test_lora_trains_its_matrices_and_the_head(tiny_job, r):
    model = attach(base(tiny_job), lora(r=r, target_modules=["query", "key", "value", "dense"]))
    found = trainable(model)
    others = [name for name in found if "lora_" not in name and "classifier.modules_to_save" not in name]
    assert others == []
    attention = 4 * r * (H + H)  # query, key, value, output
    feed_forward = r * (H + F) + r * (F + H)
    assert sum(found.values()) == L * (attention + feed_forward) + r * (H + H) + HEAD  # + pooler's dense


def test_lora_counts_only_the_named_modules(tiny_job):
    found = trainable(attach(base(tiny_job), lora(r=4, target_modules=["query"])))
    assert sum(found.values()) == L * 4 * (H + H) + HEAD
    assert all(".query." in name or ".classifier." in name for name in found)


def test_modules_to_save_train_whole_beside_the_head(tiny_job):
    found = trainable(
        attach(base(tiny_job), lora(r=4, target_modules=["query", "dense"], modules_to_save=["pooler", "classifier"]))
    )
    attention = 4 * (H + H) + 4 * (H + H)  # query, output
    feed_forward = 4 * (H + F) + 4 * (F + H)
    assert sum(found.values()) == L * (attention + feed_forward) + POOLER + HEAD
    assert not [name for name in found if "pooler" in name and "lora_" in name]


def test_the_job_trains_the_head_whatever_modules_to_save_names(tiny_job):
    job = tiny_job("minilm-lora")
    found = trainable(attach(base(tiny_job), job.method))
    assert sum(count for name, count in found.items() if "classifier" in name) == HEAD
    assert sum(count for name, count in found.items() if "pooler" in name) == POOLER


def test_layers_to_transform(tiny_job):
    found = trainable(attach(base(tiny_job), lora(r=4, target_modules=["query", "value"], layers_to_transform=[1])))
    adapters = [name for name in found if "lora_" in name]
    assert len(adapters) == 4 and all(".layer.1." in name for name in adapters)
    assert sum(found.values()) == 2 * 4 * (H + H) + HEAD


def test_all_linear_leaves_the_head_alone(tiny_job):
    found = trainable(attach(base(tiny_job), lora(r=2, target_modules="all-linear")))
    assert not [name for name in found if "classifier" in name and "lora_" in name]
    assert len([name for name in found if "lora_A" in name]) == 6 * L + 1


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_fresh_lora_leaves_the_output_unchanged(tiny_job, options):
    model = base(tiny_job).eval()
    job = tiny_job()
    encoder = Encoder(load_tokenizer(locate.locate(job.model, "main")), 64)
    batch = collate(encoder.encode([Row("a", ("One claim.", "a sentence"), None), Row("b", ("B.", "x"), None)]), 0)
    batch.pop("weights")
    with torch.no_grad():
        before = model(**batch).logits
        wrapped = attach(model, lora(r=8, target_modules=["query", "dense"], **options)).eval()
        after = wrapped(**batch).logits
        torch.testing.assert_close(after, before, rtol=0, atol=1e-6 if options else 0)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
        assert (wrapped(**batch).logits - before).abs().max() > 1e-5  # B counts, so its zero was the reason


def test_lora_scale_is_alpha_over_r(tiny_job):
    model = attach(base(tiny_job), lora(r=4, lora_alpha=8, target_modules=["query"]))
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
        x = torch.randn(5, H)
        update = x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
        torch.testing.assert_close(layer(x), layer.base_layer(x) + 8 / 4 * update)


def test_target_modules_that_match_nothing(tiny_job):
    with pytest.raises(ModelError) as caught:
        attach(base(tiny_job), lora(target_modules=["q_proj"]))
    for part in ("target_modules", "q_proj", "Linear layers of this model:", "query", "dense"):
        assert part in str(caught.value)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_last_layers_train_exactly_the_top(tiny_job, k):
    model = base(tiny_job)
    found = trainable(attach(model, validate(LastLayers, {"name": "last-layers", "k": k}, "test")))
    prefixes = (*(f"bert.encoder.layer.{index}." for index in range(L - k, L)), "bert.pooler.", "classifier.")
    assert set(found) == {name for name, _ in model.named_parameters() if name.startswith(prefixes)}
    assert sum(found.values()) == k * LAYER + POOLER + HEAD


def test_more_layers_than_there_are(tiny_job):
    with pytest.raises(ModelError, match=r"method\.k is 3.*2 layers; allowed is 0 to 2"):
        attach(base(tiny_job), validate(LastLayers, {"name": "last-layers", "k": 3}, "test"))


def test_full_trains_everything_and_none_nothing(tiny_job):
    model = base(tiny_job)
    assert set(trainable(attach(model, Full(name="full")))) == {name for name, _ in model.named_parameters()}
    assert trainable(attach(model, Untrained(name="none"))) == {}


@pytest.mark.parametrize(
    ("config", "frozen", "open_"),
    [
        (
            RobertaConfig(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=3
            ),
            "roberta.embeddings.",
            ("roberta.encoder.layer.1.", "classifier."),
        ),
        # A decoder: position embeddings lie beside the token embedding, a final norm above the layers.
        (
            GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=99, num_labels=3),
            "transformer.wte.",
            ("transformer.h.1.", "transformer.ln_f.", "score."),
        ),
        (
            BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_labels=3),
            "bert.embeddings.",
            ("bert.pooler.", "bert.encoder.layer.1.", "classifier."),
        ),
    ],
    ids=["roberta", "gpt2", "bert"],
)
def test_last_layers_of_other_architectures(config, frozen, open_):
    model = AutoModelForSequenceClassification.from_config(config)
    found = trainable(attach(model, validate(LastLayers, {"name": "last-layers", "k": 1}, "test")))
    assert not [name for name in found if name.startswith(frozen)]
    assert [name for name in model.state_dict() if name.startswith(frozen)]  # the prefix is a real one
    for prefix in open_:
        wanted = {name for name, _ in model.named_parameters() if name.startswith(prefix)}
        assert wanted and wanted <= set(found)
    assert not [name for name in found if ".0." in name.split("attention")[0]]
    if isinstance(config, GPT2Config):
        assert not [name for name in found if "wpe" in name]


def test_the_stack_is_the_configs_number_of_layers(tiny_job):
    model = base(tiny_job)
    assert layer_stack(model) is model.bert.encoder.layer
    model.config.num_hidden_layers = 5
    with pytest.raises(ModelError, match="no list of 5 equal layers"):
        layer_stack(model)


@pytest.mark.parametrize(
    "method",
    [
        {"name": "lora", "r": 4, "target_modules": ["query", "dense"]},
        {"name": "lora", "r": 4, "target_modules": "all-linear", "use_dora": True},
        {"name": "last-layers", "k": 1},
        {"name": "full"},
        {"name": "none"},
    ],
)
def test_counts_on_the_meta_device_equal_the_real_model(tiny_job, method):
    job = tiny_job("minilm-full", method=method)
    assert count_parameters(job, DATASET) == parameter_counts(build_head(job, DATASET).model)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_last_layers_refuse_to_train_a_head_that_is_the_embedding_table(prompt_job, quantization):
    head_alone = {"method": {"name": "last-layers", "k": 0}, "quantization": quantization}
    with pytest.raises(
        ModelError, match=r"method\.k is 0, .*tie_word_embeddings.*method.k to 1 or more, or head: class"
    ):
        count_parameters(prompt_job("qwen", **head_alone), DATASET)
    count_parameters(prompt_job("qwen", head="classification", **head_alone), DATASET)
    count_parameters(prompt_job("mistral", **head_alone), DATASET)  # its head is a table of its own
