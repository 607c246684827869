"""A base that is a finished classifier keeps its head, in the order of the dataset's labels, or gets a new one."""

import numpy as np
import pytest
import torch
from toy_runs import SIZES, dataset, pair_rows
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from common.core.errors import ModelError
from common.evaluation import inference
from common.hub.locate import locate
from common.model.build import build_untuned
from common.model.finished_head import describe, head_labels, label_order
from common.model.load import quiet_libraries

DATASET = dataset(labels=["con", "neu", "pro"])
ROWS = pair_rows(6)
KINDS = {
    "bert": (BertConfig, BertForSequenceClassification, {}),
    "roberta": (RobertaConfig, RobertaForSequenceClassification, {"max_position_embeddings": 300}),
    "llama": (LlamaConfig, LlamaForSequenceClassification, {}),
}


@pytest.fixture
def finished(tmp_path, tiny_model, tiny_job):
    """`finished("bert", labels)` → (job, folder) of a classifier with these labels, in this order."""
    quiet_libraries()

    def make(kind: str, labels: list[str], **overrides: object):
        config_class, model_class, more = KINDS[kind]
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        if kind != "bert":
            tokenizer.model_input_names = ["input_ids", "attention_mask"]
        config = config_class(
            vocab_size=len(tokenizer), pad_token_id=0, id2label=dict(enumerate(labels)), **SIZES, **more
        )
        config.label2id = {label: number for number, label in enumerate(labels)}
        torch.manual_seed(1)
        model = model_class(config)
        for parameter in model.parameters():
            parameter.data.normal_(std=0.3)
        model.save_pretrained(tmp_path / "finished")
        tokenizer.save_pretrained(tmp_path / "finished")
        overrides |= {"model": str(tmp_path / "finished"), "model_config_overrides": {}, "max_length": 64}
        return tiny_job("minilm-full", **overrides), tmp_path / "finished"

    return make


def scores(head) -> np.ndarray:
    return inference.score(head, ROWS, 4096, "score")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [["con", "neu", "pro"], ["pro", "con", "neu"], ["NEU", "Pro", "con"]])
def test_the_same_labels_in_another_order(finished, kind, labels, capsys):
    job, folder = finished(kind, labels)
    found = scores(build_untuned(job, DATASET))
    assert "is a finished classifier of" in capsys.readouterr().out
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    columns = [[label.lower() for label in labels].index(label) for label in DATASET.labels]
    for row, line in zip(ROWS, found, strict=True):
        with torch.no_grad():
            own = model.eval()(**tokenizer(*row.texts, return_tensors="pt")).logits.log_softmax(-1)[0]
        np.testing.assert_allclose(line, own[columns].numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1", "LABEL_2"], ["con", "pro"], ["con", "neu", "pro", "other"]])
def test_other_labels_get_a_new_head(finished, kind, labels, capsys):
    job, _ = finished(kind, labels)
    torch.manual_seed(3)
    head = build_untuned(job, DATASET)
    assert "the dataset has other labels (con, neu, pro), so the head is new" in capsys.readouterr().out
    weights = [weight for name, weight in head.model.named_parameters() if "classifier" in name or "score" in name]
    assert all(weight.std() < 0.1 for weight in weights if weight.ndim == 2)  # not those of the file, 0.3
    assert scores(head).shape == (6, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pooling_makes_the_head_new(finished, capsys, kind):
    job, _ = finished(kind, ["con", "neu", "pro"], pooling="mean")
    head = build_untuned(job, DATASET)
    assert "with pooling mean the head is new" in capsys.readouterr().out
    weights = [weight for name, weight in head.model.named_parameters() if "classifier" in name or "score" in name]
    assert all(weight.std() < 0.1 for weight in weights if weight.ndim == 2)


def test_a_decoders_head_is_kept_with_its_own_pooling(finished):
    labels = ["pro", "con", "neu"]
    plain = scores(build_untuned(finished("llama", labels)[0], DATASET))
    last = scores(build_untuned(finished("llama", labels, pooling="last")[0], DATASET))
    np.testing.assert_array_equal(plain, last)


def test_a_head_without_its_weights_is_refused(finished, tiny_job, tmp_path):
    job, _ = finished("bert", ["con", "neu", "pro"], pooling="mean")
    head = build_untuned(job, DATASET)
    head.model.save_pretrained(tmp_path / "finished")  # without a pooler
    with pytest.raises(ModelError, match=r"it has no weights bert\.pooler\.dense\.bias"):
        build_untuned(job.model_copy(update={"pooling": "default"}), DATASET)


def test_other_sizes_of_the_backbone_are_refused(finished):
    job, _ = finished("bert", ["con", "neu", "pro"])
    job = job.model_copy(update={"model_config_overrides": {"max_position_embeddings": 600}})
    with pytest.raises(ModelError, match=r"position_embeddings.weight is \(512, 32\), needed is \(600, 32\)"):
        build_untuned(job, DATASET)


def test_a_base_without_a_head_says_nothing(tiny_job, tiny_model):
    job = tiny_job()
    labels = head_labels(job, locate(job.model, job.revision))
    assert labels is None and describe(job, labels, DATASET) is None


def test_names_that_are_not_unique_are_other_names():
    assert label_order(["a", "A", "b"], dataset(labels=["a", "b", "c"])) is None
    assert label_order(["b", "c", "a"], dataset(labels=["a", "b", "c"])) == [2, 0, 1]


def test_check_says_it(finished, run_script, rows_dir, tmp_path):
    _, folder = finished("bert", ["pro", "con", "neu"])
    words = ["--model", "minilm-full", "--set", f'model="{folder}"', "max_length=64", "--data-dir", str(rows_dir)]
    code, out, err = run_script("check", *words, "--outputs", str(tmp_path / "outputs"))
    assert code == 0, err
    assert "its head is kept, in the order of the dataset." in out
