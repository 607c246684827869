"""The encoding.py of an exported folder gives every row the token ids that training gave it."""

import importlib.util
from types import SimpleNamespace

import exports
import pytest
import tiny_causal

from common.config import catalog
from common.core.files import write_json
from common.data.rows import Row
from common.export.common_files import described_encoder, described_prompt, write_tokenizer
from common.hub.locate import Base
from common.model.encoding import Encoder
from common.model.load import load_tokenizer
from common.model.prompts import PromptEncoder

WORDS = [
    "good",
    "harmful",
    "idea",
    "Überraschung",
    "漢字",
    "🙂",
    "[SEP]",
    "</s>",
    "<|im_end|>",
    "<end_of_turn>",
    "{claim}",
]
TEXTS = [
    "good idea",
    " ".join(WORDS),
    " ".join(WORDS * 3),
    "  outer   spaces \n",
    "[CLS][SEP]</s><|im_end|>",
    "a" * 120,
    "one. " * 40,
]
PAIRS = [(one, two) for one in TEXTS for two in TEXTS]


@pytest.fixture
def standalone():
    spec = importlib.util.spec_from_file_location("exported_encoding", exports.STANDALONE / "encoding.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("truncation", ["tail", "head_and_tail"])
@pytest.mark.parametrize("family", ["bert", "qwen"])  # with special tokens between the texts of a pair, and without
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_rows_of_a_classification_head(standalone, tiny_model, tmp_path, family, truncation, columns):
    tokenizer = load_tokenizer(Base(str(tiny_model), None)) if family == "bert" else tiny_causal.make_tokenizer(family)
    for max_length in (12, 40):
        encoder = Encoder(tokenizer, max_length, truncation)
        write_tokenizer(tmp_path, encoder)
        names = ["a", "b", "c"][:columns]
        job = {"max_length": max_length, "truncation": truncation}
        about = {"job": job, "dataset": {"text": names}}
        other = standalone.Encoder(tmp_path, about | described_encoder(encoder))
        rows = [Row("1", (*pair, "good idea")[:columns], None) for pair in PAIRS]
        for row, ours in zip(rows, encoder.encode(rows), strict=True):
            ids, types = other.encode(row.texts)
            assert (ids, types) == (ours.input_ids, ours.token_type_ids or []), row


@pytest.mark.parametrize("family", tiny_causal.FAMILIES)
def test_prompts(standalone, tmp_path, family):
    tokenizer = tiny_causal.make_tokenizer(family)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    dataset = catalog.load_dataset("stance-sample")
    for truncation in ("tail", "head_and_tail"):
        encoder = PromptEncoder(tokenizer, 150, dataset, truncation=truncation)
        write_tokenizer(tmp_path, encoder)
        run = SimpleNamespace(dataset=dataset, job=SimpleNamespace(length_normalization=False))
        head = SimpleNamespace(encoder=encoder, scored=encoder.answer_ids)
        write_json(tmp_path / "prompt.json", described_prompt(run, head))
        about = {"job": {"max_length": 150, "truncation": truncation}, "dataset": {"text": dataset.text}}
        other = standalone.PromptEncoder(tmp_path, about)
        rows = [Row("1", pair, None) for pair in PAIRS]
        for row, ours in zip(rows, encoder.encode(rows), strict=True):
            assert other.encode(row.texts)[0] == ours.input_ids, row
