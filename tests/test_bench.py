"""scripts/bench.py: a job of true shape with random weights trains and scores; nothing is downloaded or written."""

import json
from types import SimpleNamespace

import pytest
import torch
from marks import slow_except

from common.config import catalog
from common.estimate import benchmark
from common.model import architectures
from common.model.build import build_head, count_parameters
from common.model.inspect import inner_model, parameter_counts
from common.smoke import tiny_models
from common.train import trainer

SHORT = ["max_length=24", "training.batch_size=3", "training.token_budget=48", "runtime.score_token_budget=96"]
LONGER = ["max_length=96", "training.batch_size=3", "training.token_budget=192", "runtime.score_token_budget=192"]
# A prompt alone is some hundred tokens of a miniature's tokenizer.
PROMPT = ["max_length=256", "training.batch_size=2", "training.token_budget=256", "runtime.score_token_budget=512"]
MINIATURE = {
    **{"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 2000},
}
HELD = {
    "minilm-full": {},
    "minilm-last-layers": {},
    "distilbert-imdb-adapters": {},
    "modernbert-large": {},
    "deberta-v3-large": {"quantization": "int8"},
    "mistral-7b-v0.3": {},
    "llama-3.1-8b-instruct": {"double_quantization": False, "quantization": "int8"},
    "gemma-2-9b-it": {},
    "qwen2.5-3b-instruct-prompt": {"quantization": "none", "double_quantization": False},
    "qwen3-4b-instruct-classification": {},
}


def described(model):
    parameters = {
        name: (type(one), tuple(one.shape), one.dtype, one.requires_grad) for name, one in model.named_parameters()
    }
    return parameters, {name: type(one) for name, one in model.named_modules()}, parameter_counts(model)


@pytest.mark.parametrize("name", slow_except(["llama-3.1-8b-instruct"], HELD))
def test_it_is_held_as_the_model_that_training_builds(name, tmp_path):
    job, _ = catalog.load_job(name)
    folder = tiny_models.make_tiny_model(job.model, tmp_path / "tiny")
    job, _ = catalog.load_job(name, {"model": str(folder), **HELD[name]})
    dataset = catalog.load_dataset(job.dataset)
    ours, loaded = benchmark.build(job, dataset), build_head(job, dataset)
    assert type(ours) is type(loaded) and described(ours.model) == described(loaded.model)
    buffers = dict(loaded.model.named_buffers())
    assert {key for key, _ in ours.model.named_buffers()} == set(buffers)
    for key, buffer in ours.model.named_buffers():
        if "SCB" not in key:
            assert torch.equal(buffer, buffers[key]), key
    embeddings = [inner_model(head.model).get_input_embeddings().weight for head in (ours, loaded)]
    assert not torch.equal(*embeddings) and embeddings[0].std() > 0


def benched(run_script, tmp_path, model, *settings):
    code, out, err = run_script("bench", "--model", model, "--set", *settings, "--json")
    assert code == 0, err
    assert not (tmp_path / "outputs").exists()
    return json.loads(out)


@pytest.mark.parametrize(
    ("name", "settings"),
    slow_except(
        [("minilm-lora", LONGER)],
        [("minilm-lora", LONGER), ("mistral-7b-v0.3", LONGER), ("qwen3-4b-instruct-prompt", PROMPT)],
    ),
)
def test_a_job_is_measured(run_script, tmp_path, monkeypatch, name, settings):
    steps, ragged, plain = [], [], trainer.StepTrainer.training_step

    def seen(self, model, inputs, num_items_in_batch=None):
        steps.append([tuple(batch["input_ids"].shape) for batch in inputs[1]])
        ragged.extend(not batch["attention_mask"].all() for batch in inputs[1] if "attention_mask" in batch)
        return plain(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(trainer.StepTrainer, "training_step", seen)
    job, _ = catalog.load_job(name)
    if architectures.known(job.model):  # at true shape it would take a GPU
        settings = [*settings, f"model_config_overrides={json.dumps(MINIATURE)}"]
    found = benched(run_script, tmp_path, name, *settings)
    if name == "minilm-lora":
        counts = count_parameters(job, catalog.load_dataset(job.dataset))
        assert {key: found[key] for key in counts} == counts
        assert counts["params_total_count"] == 23_526_918  # its true shape
    if name != "qwen3-4b-instruct-prompt":
        assert [[shape[0] for shape in step] for step in steps] == [[2, 1]] * benchmark.STEPS
        assert max(shape[1] for step in steps for shape in step) == 96
        assert ragged == [True, False] * benchmark.STEPS  # two rows of one pass have different lengths
    else:
        assert [sum(shape[0] for shape in step) for step in steps] == [2] * benchmark.STEPS
        # A row has max_length tokens; the last one of its answer predicts nothing, and is not run.
        assert max(shape[1] for step in steps for shape in step) == 255
    assert (found["job"], found["weights"], found["memory_cap_bytes"]) == (name, "random", None)
    assert found["train_memory_peak_bytes"] is None and found["score_memory_peak_bytes"] is None
    assert found["train_tokens_per_s"] > 0 and found["score_tokens_per_s"] > 0
    assert found["memory_estimate_bytes"] > 4 * found["params_trainable_count"]


def test_it_says_what_the_figures_are(run_script):
    code, out, err = run_script("bench", "--model", "minilm-lora", "--set", *SHORT)
    assert code == 0, err
    assert "random weights, rows of up to 24 random tokens" in out and "GPU memory not measured: no GPU" in out
    assert "make check estimates" in out and "never of accuracy" in out and err.startswith("device: ")


def test_too_little_memory_is_one_message(run_script, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(benchmark.inference, "score", full)
    code, out, err = run_script("bench", "--model", "minilm-lora", "--set", *SHORT)
    assert code == 4 and out == ""
    [message] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "out of memory while scoring; make check estimates 0." in message and "training.token_budget" in message


@pytest.mark.parametrize("doing", ["training", "scoring"])
def test_a_smaller_budget_is_not_measured_instead(run_script, monkeypatch, doing):
    """Training and inference go on with smaller batches where the memory is full; a benchmark must say so."""

    def train(started):
        if doing == "training":
            started.budget //= 2
        return [1.0, 1.0], 10

    def score(head, *arguments):
        head.batch_parts = 2

    monkeypatch.setattr(benchmark, "_train", train)
    monkeypatch.setattr(benchmark.inference, "score", score)
    code, out, err = run_script("bench", "--model", "minilm-lora", "--set", *SHORT)
    assert code == 4 and out == "" and f"out of memory while {doing}" in err


@pytest.mark.parametrize(("cap", "fraction", "said"), [(16e9, 0.2, 16 * 10**9), (200e9, 1.0, 80 * 10**9)])
def test_the_cap_is_a_share_of_the_gpu(monkeypatch, cap, fraction, said):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=80 * 10**9))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    assert benchmark._limit_gpu_memory(cap) == said and asked == [pytest.approx(fraction)]


def test_the_cap_and_the_peak_stand_in_the_message(monkeypatch):
    peaks = {"gpu_memory_peak_bytes": 14_200_000_000}
    monkeypatch.setattr(benchmark.provenance, "memory_peaks", lambda: peaks)
    cap = {"memory_cap_bytes": 14_500_000_000}
    unknown = {"memory_estimate_bytes": None, "memory_estimate_score_bytes": None}
    assert "estimates" not in benchmark._too_large("training", cap | unknown)
    found = cap | {"memory_estimate_bytes": 15_100_000_000, "memory_estimate_score_bytes": 9_200_000_000}
    message = benchmark._too_large("training", found)
    assert "out of memory while training at 14.20 GB of 14.50 GB (MEMORY_GB)" in message
    assert "make check estimates 15.10 GB for it" in message
    assert "while scoring" in (message := benchmark._too_large("scoring", found)) and "9.20 GB for it" in message


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--memory-gb", "0"], 2, "'0' is given; allowed is a number above 0"),
        (["--memory-gb", "much"], 2, "'much' is given"),
        (["--set", "method={name: none}"], 2, "method none trains nothing"),
        (["--set", "model=nobody/nothing"], 4, "model nobody/nothing"),
        (["--data-dir", "rows"], 2, "--data-dir (DATA_DIR=) goes with --compare"),
        (["--compare", "--set", "method={name: full}"], 2, "compares jobs of method lora with plain scripts"),
        (["--compare", "--set", "pooling=mean"], 2, "the job has pooling mean, optim adamw_torch"),
    ],
)
def test_what_cannot_be_measured(run_script, words, code, message):
    got, _, err = run_script("bench", "--model", "minilm-lora", *words)
    assert got == code and message in err


def test_a_sweep_asks_for_one_variant(run_script):
    code, _, err = run_script("bench", "--model", "minilm-emotion-lora")
    assert code == 2 and "choose one of them" in err
