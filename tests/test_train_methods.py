"""`train.py` with one method after another: each learns what words give away, and its saved model scores alike."""

import json
import shutil

import pytest
import torch
from marks import slow_except
from transformers import BertConfig, BertModel

LORA = "method={name: lora, r: 8, target_modules: all-linear, init_lora_weights: "
FAST = ["training.learning_rate=1e-2", "training.epochs=8"]
SLOW = ["training.learning_rate=3e-2", "training.epochs=20"]  # few parameters, or ranks that must settle

METHODS = {
    "lora-dora": [*FAST, LORA + "true, use_dora: true}"],
    "lora-rslora": [*FAST, LORA + "true, use_rslora: true}"],
    "lora-olora": [*FAST, LORA + "olora}"],
    "lora-eva": [*FAST, LORA + "eva, exclude_modules: [pooler.dense]}"],
    "lora-pissa": [*FAST, LORA + "pissa}"],
    "lora-pissa-fast": [*FAST, LORA + "pissa_niter_4}"],
    "ia3": [*SLOW, "method={name: ia3}"],
    "adalora": [*SLOW, "method={name: adalora, total_step: 60, tfinal: 20, target_modules: [query, value, dense]}"],
    "ln_tuning": [*SLOW, "method={name: ln_tuning, target_modules: [LayerNorm]}"],
    "lora-from-scratch": [*FAST, "method={name: lora-from-scratch, r: 8}"],
    "adapters": [*FAST, "method={name: adapters}"],
    "adapters-pfeiffer": [*SLOW, "method={name: adapters, placement: pfeiffer}"],
    "last-layers": [*FAST, "method={name: last-layers, k: 1}"],
    "full": [*FAST, "method={name: full}"],
}


@pytest.fixture(scope="module")
def attentive_model(tiny_model, tmp_path_factory):
    """The tiny model with wider random weights, so that what a word says reaches the first token."""
    folder = tmp_path_factory.mktemp("models") / "attentive"
    shutil.copytree(tiny_model, folder)
    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(tiny_model, initializer_range=0.2)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", slow_except([METHODS["last-layers"]], METHODS.values()), ids=METHODS)
def test_every_kind_of_method_learns_and_scores_again_alike(method, run_script, attentive_model, rows_dir, tmp_path):
    words = ["--model", "minilm-full", "--set", f'model="{attentive_model}"', *method]
    code, _, err = run_script("train", *words, "--data-dir", str(rows_dir), "--outputs", str(tmp_path / "outputs"))
    assert code == 0, err
    metrics = json.loads(next((tmp_path / "outputs").rglob("metrics.json")).read_text(encoding="utf-8"))
    assert metrics["test_accuracy"] >= 0.75  # chance is a third


def test_eva_names_a_layer_without_tokens(run_script, tiny_arguments):
    code, _, err = run_script("train", *tiny_arguments(LORA + "eva}", job="minilm-full"))
    assert code == 4
    assert "EVA" in err and "bert.pooler.dense" in err
    assert "set method.exclude_modules to ['pooler.dense']" in err


def test_adaloras_plan_must_fit_the_run(run_script, tiny_arguments):
    words = ["training.epochs=2", "method={name: adalora, total_step: 100}"]
    code, _, err = run_script("train", *tiny_arguments(*words, job="minilm-full"))
    assert code == 2
    assert "method.total_step is 100, but the run has 6 steps" in err
