"""Token ids that the model's embedding lacks are an error with both numbers, in check, training and prediction."""

import json
import shutil

import pytest
import tiny_causal
from toy_runs import dataset
from transformers import AutoTokenizer

from common.core.errors import ModelError
from common.data.rows import Row
from common.model.build import build_head, limit_ids
from common.model.encoding import Encoder
from common.model.prompts import PromptEncoder
from common.model.vocabulary import check_ids, embedding_rows


class Config:
    """A model's config."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def get_text_config(self) -> "Config":
        return self


def larger(tiny_model, tmp_path, *words: str):
    """Return a copy of a model whose tokenizer has more words than the model."""
    folder = shutil.copytree(tiny_model, tmp_path / "larger")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(words))
    tokenizer.save_pretrained(folder)
    return folder


def test_a_row_with_a_token_that_the_model_lacks(tiny_job, tiny_model, tmp_path):
    job = tiny_job("minilm-lora", model=str(larger(tiny_model, tmp_path, "zyzzyva")))
    head = build_head(job, dataset(labels=["con", "neu", "pro"]))
    rows = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
    head.encoder.encode([Row("r1", ("A claim.", "an idea"), 0)])  # a word that no row has does no harm
    with pytest.raises(ModelError) as raised:
        head.encoder.encode([Row("r2", ("A claim.", "a zyzzyva"), 0)])
    for part in ("row r2", "'zyzzyva'", f"embedding has {rows} rows", "resize_token_embeddings"):
        assert part in str(raised.value)


def test_check_says_it(run_script, tiny_arguments, tiny_model, tmp_path, rows_dir):
    records = [json.loads(line) for line in (rows_dir / "train.jsonl").read_text().splitlines()]
    records[0]["sentence"] = "a zyzzyva"
    (rows_dir / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    folder = larger(tiny_model, tmp_path, "zyzzyva")
    arguments = tiny_arguments()
    arguments[arguments.index("--set") + 1] = f'model="{folder}"'
    code, _, err = run_script("check", *arguments)
    assert code == ModelError.exit_code and "'zyzzyva'" in err and "Traceback" not in err


def test_tokens_of_every_row_are_checked_before():
    tokenizer = tiny_causal.make_tokenizer("llama")
    tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    size = len(tokenizer)
    prompt = dataset(labels=["con", "pro"], prompt={"user": "{claim} {sentence}:"})
    for encoder in (Encoder(tokenizer, 64), PromptEncoder(tokenizer, 64, prompt)):
        limit_ids(encoder, Config(size))
        assert encoder.id_limit == size
        with pytest.raises(ModelError, match=rf"'<new pad>' has the id {size - 1}.*embedding has {size - 1} rows"):
            limit_ids(encoder, Config(size - 1))
    with pytest.raises(ModelError, match="row r"):
        check_ids(tokenizer, [1, size], size, "row r")
    check_ids(tokenizer, [], 5, "row r")
    check_ids(tokenizer, [9], None, "row r")
    assert embedding_rows(Config(7)) == 7
