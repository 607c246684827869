"""Models are found, saved and reloaded with equal scores; errors say why they are not."""

import json
import shutil

import numpy as np
import peft
import pytest
import torch
from marks import slow_except
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from toy_runs import dataset, pair_rows
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    set_seed,
)

from common.config import catalog
from common.core import files
from common.core.errors import ModelError
from common.data.rows import Row
from common.evaluation import inference
from common.hub import locate
from common.model import architectures, base_config, peft_adapter, saved_model
from common.model.build import build_head, build_untuned, count_parameters
from common.model.inspect import inner_model, parameter_counts
from common.model.load import load_tokenizer, quiet_libraries
from common.model.shapes import position_count

DATASET = dataset(labels=["con", "neu", "pro"])
LABELS = list(DATASET.labels)
ROWS = pair_rows(9)
METHODS = {
    "lora": {"name": "lora", "r": 4, "target_modules": ["query", "dense"]},
    "lora-from-scratch": {"name": "lora-from-scratch", "r": 4, "target_modules": ["query", "output.dense"]},
    "adapters": {"name": "adapters", "size": 8},
    "last-layers": {"name": "last-layers", "k": 1},
    "full": {"name": "full"},
}


@pytest.fixture(autouse=True)
def quiet():
    quiet_libraries()


def built(job, seed: int = 3):
    """Return a model whose trained parameters all differ from their start, as after training."""
    set_seed(seed)
    head = build_head(job, DATASET)
    with torch.no_grad():
        for parameter in head.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return head


def scores(head) -> np.ndarray:
    return inference.score(head, ROWS, 4096, "test")


@pytest.mark.parametrize("precision", slow_except(["float32"], ["float32", "bfloat16"]))
@pytest.mark.parametrize("method", list(METHODS))
def test_reloaded_scores_are_bit_equal(tiny_job, tmp_path, method, precision):
    job = tiny_job("minilm-full", method=METHODS[method], precision=precision)
    head = built(job)
    before = scores(head)
    saved_model.save(head, job, DATASET, tmp_path / "model")
    set_seed(99)  # nothing of the reloaded model may come from chance
    again = saved_model.load(job, DATASET, tmp_path / "model")
    assert np.array_equal(before, scores(again))
    assert not np.array_equal(before, scores(built(job, seed=4)))
    assert again.pad_token_id == head.pad_token_id == 0
    assert inner_model(again.model).config.pad_token_id == 0
    assert not [name for name, p in again.model.named_parameters() if p.requires_grad]


def test_what_each_method_saves(tiny_job, tmp_path):
    files = {}
    for method, options in METHODS.items():
        job = tiny_job("minilm-full", method=options)
        saved_model.save(built(job), job, DATASET, tmp_path / method)
        files[method] = {path.name for path in (tmp_path / method).iterdir()}
        assert {"peftable.json", "tokenizer.json"} <= files[method]
        assert not [name for name in files[method] if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files["lora"]
    assert "parameters.safetensors" in files["last-layers"]
    assert {"config.json", "model.safetensors"} <= files["full"]
    kept = load_file(tmp_path / "last-layers" / "parameters.safetensors")
    assert kept and all(name.startswith(("bert.encoder.layer.1.", "bert.pooler.", "classifier.")) for name in kept)
    adapter = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert all("lora_" in name or "classifier" in name for name in adapter)  # no base weights


def test_the_description(tiny_job, tmp_path, tiny_model):
    job = tiny_job("minilm-lora")
    saved_model.save(built(job), job, DATASET, tmp_path / "model")
    found = json.loads((tmp_path / "model" / "peftable.json").read_text())
    assert found["labels"] == LABELS
    assert found["model"] == str(tiny_model)
    assert found["model_sha256"] == files.sha256(files.sha256_file(tiny_model / "model.safetensors").encode())
    assert found["max_length"] == 256 and found["pad_token_id"] == 0
    assert found["method"]["name"] == "lora" and found["method"]["r"] == 16


@pytest.mark.parametrize("labels", [["pro", "neu", "con"], ["con", "pro"], ["a", "b", "c"]])
def test_other_labels_are_refused(tiny_job, tmp_path, labels):
    job = tiny_job("minilm-lora")
    saved_model.save(built(job), job, DATASET, tmp_path / "model")
    with pytest.raises(ModelError, match="saved for the labels con, neu, pro"):
        saved_model.load(job, dataset(labels=labels), tmp_path / "model")


def test_no_saved_model(tiny_job, tmp_path):
    with pytest.raises(ModelError, match=r"peftable\.json is missing"):
        saved_model.load(tiny_job(), DATASET, tmp_path)


def test_parameters_of_another_method_are_refused(tiny_job, tmp_path):
    job = tiny_job("minilm-full", method={"name": "last-layers", "k": 1})
    saved_model.save(built(job), job, DATASET, tmp_path / "model")
    other = tiny_job("minilm-full", method={"name": "last-layers", "k": 2})
    with pytest.raises(ModelError, match="has other parameters than this model trains"):
        saved_model.load(other, DATASET, tmp_path / "model")


def test_an_adapter_that_lacks_weights_is_refused(tiny_job, tmp_path):
    job = tiny_job("minilm-lora")
    saved_model.save(built(job), job, DATASET, tmp_path / "model")
    file = tmp_path / "model" / "adapter_model.safetensors"
    weights = load_file(file)
    gone = next(name for name in weights if "lora_B" in name)
    saved_model.save_file({name: value for name, value in weights.items() if name != gone}, file)
    with pytest.raises(ModelError, match=r"damaged: weights are missing from its adapter_model\.safetensors"):
        saved_model.load(job, DATASET, tmp_path / "model")


def test_saving_again_replaces(tiny_job, tmp_path):
    job = tiny_job("minilm-lora")
    saved_model.save(built(job, seed=1), job, DATASET, tmp_path / "model")
    second = built(job, seed=2)
    saved_model.save(second, job, DATASET, tmp_path / "model")
    assert np.array_equal(scores(saved_model.load(job, DATASET, tmp_path / "model")), scores(second))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_build_is_decided_by_the_seed(tiny_job):
    def state(seed: int) -> dict[str, torch.Tensor]:
        set_seed(seed)
        return build_head(tiny_job("minilm-lora"), DATASET).model.state_dict()

    one, same, other = state(1), state(1), state(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    head = next(name for name in one if "modules_to_save" in name and "classifier" in name and name.endswith("weight"))
    assert not torch.equal(one[head], other[head])


def test_untuned_trains_nothing_and_takes_any_method(tiny_job):
    head = build_untuned(tiny_job("minilm-lora"), DATASET)
    assert parameter_counts(head.model)["params_trainable_count"] == 0
    assert not isinstance(head.model, peft.PeftModel)


# --- where models are ------------------------------------------------------------------------------------------------


def test_a_folder_without_config(tmp_path):
    with pytest.raises(ModelError, match=r"contains no config\.json"):
        locate.locate(str(tmp_path), "main")


@pytest.mark.parametrize("name", ["package:no_such_package/model", "package:a-b/model", "package:json.tool/x"])
def test_a_package_that_is_not_installed(name):
    with pytest.raises(ModelError, match=r"is not installed\. `make setup` installs"):
        locate.locate(name, "main")


def test_a_package_is_found_and_not_imported(tmp_path, monkeypatch):
    package = tmp_path / "somepackage"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate.locate("package:somepackage/model", "main").name == str(package / "model")
    with pytest.raises(ModelError, match=r"contains no config\.json"):
        locate.locate("package:somepackage/other", "main")


@pytest.fixture
def cached_config(tmp_path, monkeypatch):
    """`cached_config(hub_id, **keys)`: put a config.json into an otherwise empty Hub cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    commit = "abc4" * 10

    def put(model: str, **changes: object) -> None:
        known = architectures.known(model)
        place = tmp_path / "cache" / f"models--{model.replace('/', '--')}"
        for folder in ("refs", f"snapshots/{commit}"):
            (place / folder).mkdir(parents=True)
        (place / "refs" / "main").write_text(commit)
        keys = {"model_type": known.model_type, **known.keys, **changes}
        (place / "snapshots" / commit / "config.json").write_text(json.dumps(keys))

    locate.hub_commit.cache_clear()
    yield put
    locate.hub_commit.cache_clear()  # what another test asks for is not here


def test_a_known_model_is_counted_without_a_hub(cached_config):
    job, _ = catalog.load_job("distilbert-emotion-lora")
    dataset = catalog.load_dataset("emotion")
    counts = count_parameters(job, dataset)
    cached_config(job.model)
    assert count_parameters(job, dataset) == counts
    assert base_config.offline_config(job, dataset).num_labels == 6


def test_a_cached_model_that_is_not_the_published_one(cached_config):
    job, _ = catalog.load_job("distilbert-emotion-lora")
    cached_config(job.model, n_layers=7)
    with pytest.raises(ModelError, match=r"distilbert-base-uncased: .*n_layers is 7 \(published: 6\)"):
        count_parameters(job, catalog.load_dataset("emotion"))


def test_a_loaded_config_that_is_not_the_published_one(cached_config):
    job, _ = catalog.load_job("distilbert-emotion-lora")
    base, emotion = locate.locate(job.model, job.revision), catalog.load_dataset("emotion")
    cached_config(job.model, n_layers=7)
    with pytest.raises(ModelError, match=r"distilbert-base-uncased: .*n_layers is 7 \(published: 6\)"):
        base_config.load_config(job, base, emotion)


def test_an_attention_that_the_model_does_not_have(prompt_job):
    with pytest.raises(ModelError, match=r"attention sdpa: gemma2 has no such attention.*; set attention: eager\.$"):
        count_parameters(prompt_job("gemma", attention="sdpa"), DATASET)


def test_a_hub_model_offline(tiny_job):
    with pytest.raises(ModelError, match=r"nobody/nothing: cannot be loaded.*HF_HUB_OFFLINE"):
        build_head(tiny_job("minilm-lora", model="nobody/nothing"), DATASET)


def test_only_safetensors_are_read(tiny_job, tiny_model, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        build_head(tiny_job("minilm-lora", model=str(folder)), DATASET)


def test_a_base_with_a_head_of_another_size(tiny_job, tiny_model, tmp_path, capsys):
    config = BertConfig.from_pretrained(tiny_model, num_labels=2)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "two")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "two")
    head = build_head(tiny_job("minilm-lora", model=str(tmp_path / "two")), DATASET)
    assert scores(head).shape == (len(ROWS), 3)
    assert "the dataset has other labels (con, neu, pro), so the head is new" in capsys.readouterr().out


def test_overrides_of_the_models_config(tiny_job):
    head = build_head(tiny_job("minilm-full", **{"model_config_overrides.hidden_dropout_prob": 0.25}), DATASET)
    assert head.model.bert.embeddings.dropout.p == 0.25
    with pytest.raises(ModelError, match=r"no key 'hidden_dropuot_prob'.*Did you mean 'hidden_dropout_prob'"):
        build_head(tiny_job("minilm-full", **{"model_config_overrides.hidden_dropuot_prob": 0.2}), DATASET)


def test_a_tokenizer_without_a_pad_token(tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, pad_token=None, eos_token="[SEP]", padding_side="left")
    tokenizer.save_pretrained(tmp_path / "with-eos")
    assert AutoTokenizer.from_pretrained(tmp_path / "with-eos").pad_token is None
    loaded = load_tokenizer(locate.Base(str(tmp_path / "with-eos"), None))
    assert loaded.pad_token == "[SEP]" and loaded.padding_side == "right"
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "without")
    with pytest.raises(ModelError, match="neither a pad nor an end-of-text token"):
        load_tokenizer(locate.Base(str(tmp_path / "without"), None))


# --- adapters made elsewhere -----------------------------------------------------------------------------------------


def test_an_adapter_of_plain_peft_scores_as_in_peft(tiny_job, tiny_model, tmp_path, make_adapter):
    _, model = make_adapter("adapter")
    head = peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    with torch.no_grad():
        for row, found in zip(ROWS, scores(head), strict=True):
            wanted = model(**tokenizer(*row.texts, return_tensors="pt")).logits.log_softmax(-1)[0]
            np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    assert inner_model(head.model).config.pad_token_id == 0
    assert parameter_counts(head.model)["params_trainable_count"] == 0


def test_the_labels_of_an_adapter_have_its_own_order(tiny_job, tmp_path, make_adapter):
    make_adapter("adapter")
    expected = scores(peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / "adapter"))
    config = tmp_path / "adapter" / "config.json"
    config.write_text(json.dumps({"id2label": {"0": "pro", "1": "con", "2": "neu"}}))
    found = scores(peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / "adapter"))
    np.testing.assert_allclose(found, expected[:, [1, 2, 0]], atol=1e-6)  # con is its row 1, neu 2, pro 0
    config.write_text(json.dumps({"id2label": {"0": "good", "1": "bad", "2": "none"}}))
    with pytest.raises(ModelError, match=r"its head are good, bad, none; those of the dataset are con, neu, pro"):
        peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / "adapter")
    config.unlink()
    with pytest.raises(ModelError, match=r'in which order are the labels .*\{"id2label": \{"0": "con"'):
        peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / "adapter")


def test_an_adapter_of_another_pooling_is_refused(tiny_job, tmp_path):
    job = tiny_job("minilm-lora", method=METHODS["lora"], pooling="mean")
    saved_model.save(build_head(job, DATASET), job, DATASET, tmp_path / "model")
    peft_adapter.load_adapter(job, DATASET, tmp_path / "model")
    with pytest.raises(ModelError, match="was trained with pooling mean; the job's pooling is default"):
        peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / "model")


@pytest.mark.parametrize("base", ["meta-llama/Meta-Llama-3-8B", "/models/other", None])
def test_an_adapter_of_another_base_is_refused_unless_its_config_says_so(tiny_job, tmp_path, make_adapter, base):
    make_adapter("adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    own = files.read_json(file)
    file.write_text(json.dumps(own | {"base_model_name_or_path": base}))
    with pytest.raises(ModelError, match=r"was trained on .*, and the job's model is .*\"base_model_name_or_path\":"):
        peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / "adapter")
    file.write_text(json.dumps(own | {"base_model_name_or_path": tiny_job().model}))
    peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / "adapter")


def test_adapters_that_do_not_fit(tiny_job, tiny_model, tmp_path, make_adapter):
    def refusal(name: str) -> str:
        with pytest.raises(ModelError) as caught:
            peft_adapter.load_adapter(tiny_job(), DATASET, tmp_path / name)
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "adapter_config.json is missing" in refusal("empty")

    make_adapter("headless")
    file = tmp_path / "headless" / "adapter_model.safetensors"
    saved_model.save_file({name: value for name, value in load_file(file).items() if "classifier" not in name}, file)
    assert "it has no trained head (classifier); its scores would be random" in refusal("headless")

    make_adapter("partial")
    file = tmp_path / "partial" / "adapter_model.safetensors"
    weights = load_file(file)
    gone = next(name for name in weights if "lora_B" in name)
    saved_model.save_file({name: value for name, value in weights.items() if name != gone}, file)
    message = refusal("partial")
    assert "weights are missing from its adapter_model.safetensors" in message and gone.split(".lora_B")[0] in message

    make_adapter("task", task_type=peft.TaskType.FEATURE_EXTRACTION)
    assert "task_type is FEATURE_EXTRACTION; needed is SEQ_CLS" in refusal("task")

    make_adapter("two", labels=2)
    assert "with 3 labels" in refusal("two")

    make_adapter("unknown")
    settings = json.loads((tmp_path / "unknown" / "adapter_config.json").read_text())
    (tmp_path / "unknown" / "adapter_config.json").write_text(json.dumps(settings | {"peft_type": "LORAX"}))
    message = refusal("unknown")
    assert "peft_type in its adapter_config.json is LORAX" in message and "LORA, " in message

    make_adapter("pickled")
    (tmp_path / "pickled" / "adapter_model.safetensors").rename(tmp_path / "pickled" / "adapter_model.bin")
    assert "adapter_model.safetensors is missing" in refusal("pickled")


# --- positions -------------------------------------------------------------------------------------------------------

TINY = {
    **{"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
    **{"max_position_embeddings": 40, "pad_token_id": 1, "num_labels": 3},
}


@pytest.mark.parametrize(
    ("family", "count"),
    [
        *((name, 38) for name in ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "mpnet")),
        *((name, 40) for name in ("bert", "electra", "distilbert")),
    ],
)
def test_positions_are_counted_as_the_model_uses_them(family, count):
    config = AutoConfig.for_model(family, **TINY)
    with torch.device("meta"):
        assert position_count(AutoModelForSequenceClassification.from_config(config)) == count
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        assert torch.isfinite(model(torch.full((1, count), 5)).logits).all()
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, count + 1), 5))


def test_a_table_of_positions_that_grows_loses_none():
    sizes = {"vocab_size": 60, "d_model": 16, "num_layers": 1, "attention_heads": 2, "ffn_dim": 16}
    config = AutoConfig.for_model("xglm", **sizes, max_position_embeddings=40)
    assert position_count(AutoModelForCausalLM.from_config(config)) == 40


@pytest.fixture
def tiny_roberta(tmp_path):
    """A RoBERTa with 40 entries in its table of positions, of which 38 can be used."""
    folder = tmp_path / "tiny roberta"
    names = ["<s>", "<pad>", "</s>", "<unk>", "Claim", "some", "words"]
    tokenizer = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    RobertaForSequenceClassification(RobertaConfig(**TINY)).save_pretrained(folder)
    return folder


def test_as_many_tokens_as_a_roberta_has_positions(tiny_job, tiny_roberta):
    job = tiny_job("minilm-full", model=str(tiny_roberta), max_length=38)
    count_parameters(job, DATASET)
    head = build_head(job, DATASET)
    rows = [Row("long", ("Claim", "some words " * 40), 0), Row("short", ("Claim", "some words"), 1)]
    encoded = head.encoder.encode(rows)
    assert [len(row.input_ids) for row in encoded] == [38, 7]
    head.losses(head.training_batch(encoded), 0.0).sum().backward()
    assert np.isfinite(inference.score(head, rows, 4096, "test")).all()


@pytest.mark.parametrize("length", [39, 40])
@pytest.mark.parametrize("method", [{"name": "full"}, METHODS["adapters"]])
def test_more_tokens_than_a_roberta_has_positions(tiny_job, tiny_roberta, length, method):
    job = tiny_job("minilm-full", model=str(tiny_roberta), max_length=length, method=method)
    for refusing in (count_parameters, build_head):
        with pytest.raises(ModelError, match=rf"max_length is {length}, but the model has 38 positions; .* 8 to 38\."):
            refusing(job, DATASET)
