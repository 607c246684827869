"""`ablation`: without the claim, scores are the same whatever the claims are; from train to predict, both heads."""

import json

import pytest
import tiny_causal

from common.core import yaml_io
from common.core.files import read_json, read_jsonl, write_jsonl


def change_claims(rows_dir):
    """Give every row another claim; groups stay those of the rows before."""
    for file in rows_dir.iterdir():
        write_jsonl(file, [record | {"claim": f"{record['claim']} And more."} for record in read_jsonl(file)])


def scores(outputs):
    return [record["scores"] for record in read_jsonl(next(outputs.rglob("predictions-test.jsonl")))]


def test_the_first_text_is_not_read(run_script, tiny_arguments, rows_dir, tmp_path):
    words = tiny_arguments("ablation=second-text")
    code, _, err = run_script("baseline", *words)
    assert code == 0, err
    [file] = (tmp_path / "outputs").rglob("metrics.json")
    assert "ablation=second-text" in file.parent.parent.name and read_json(file)["ablation"] == "second-text"
    config = yaml_io.read(file.parent / "config.yaml")
    assert config["job"]["ablation"] == "second-text" and config["dataset"]["text"] == ["sentence"]
    before = scores(tmp_path / "outputs")
    change_claims(rows_dir)
    assert run_script("baseline", *words[:-4], "--outputs", str(tmp_path / "2"), *words[-2:])[0] == 0
    assert scores(tmp_path / "2") == before
    whole = [word for word in words if not word.startswith("ablation")]
    assert run_script("baseline", *whole[:-4], "--outputs", str(tmp_path / "3"), *whole[-2:])[0] == 0
    assert scores(tmp_path / "3") != before


@pytest.mark.slow
@pytest.mark.parametrize("head", ["classification", "prompt"])
def test_a_model_without_the_claim_predicts_without_it(run_script, tiny_causal_model, rows_dir, tmp_path, head):
    settings = tiny_causal.words("qwen", tiny_causal_model("qwen"), head=head, training__epochs=1)
    words = ["--model", "minilm-lora", "--data-dir", str(rows_dir), "--outputs", str(tmp_path / "outputs")]
    code, _, err = run_script("train", *words, "--set", *settings, "ablation=second-text")
    assert code == 0, err
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    assert run_script("train", "--run", str(folder))[0] == 0  # by its recorded config
    table, output = tmp_path / "new.jsonl", tmp_path / "predicted.jsonl"
    write_jsonl(table, [{"sentence": record["sentence"]} for record in read_jsonl(rows_dir / "test.jsonl")])
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(table), "--output", str(output))
    assert code == 0, err
    labels = [record["predicted"] for record in read_jsonl(folder / "predictions-test.jsonl")]
    assert [record["predicted"] for record in read_jsonl(output)] == labels


@pytest.mark.slow
def test_shuffled_claims_are_for_comparison_alone(run_script, tiny_arguments, tmp_path):
    words = tiny_arguments("ablation=shuffled-first", "training.epochs=1")
    code, out, err = run_script("train", *words)
    assert code == 0 and "the texts 'claim' are shuffled" in out, err
    assert run_script("evaluate", *words, "--split", "validation")[0] == 0
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    for command in (["predict", "--text", "A. || B."], ["export", "--to", str(tmp_path / "exported")]):
        code, _, err = run_script(command[0], "--run", str(folder), *command[1:])
        assert code and "trained on shuffled texts (ablation: shuffled-first)" in err


def test_one_text_is_refused(run_script, tiny_arguments, tmp_path):
    words = tiny_arguments("ablation=second-text", data=False)
    code, _, err = run_script("train", *words, "--dataset", "emotion")
    assert code == 2 and "has one text" in json.dumps(err)
    assert not (tmp_path / "outputs").exists()
