"""What only a card can show, without network: `make test-gpu`.

Bounds are those of rounding; the measured figures are written to outputs/published/hardware/, and a table is made of
them. Nothing here is about accuracy.
"""

import itertools
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from common.config import catalog
from common.data.load import load_rows

ROOT = Path(__file__).resolve().parents[2]
CAP_GB = 14.5  # what a card of 16 GB leaves for a job
# Dense bfloat16 FLOP/s by NVIDIA's data sheets.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "RTX 4080": 97.5e12}
# Weights by which a token is multiplied in the linear layers.
LINEARS = {"mistral-7b-v0.1": 6.98e9, "llama-3-8b": 6.98e9, "gemma-2-9b-it": 8.32e9}
SHORT = ["training.epochs=1", "training.max_train_samples=256", "training.max_eval_samples=64"]
ENCODER = ["--model", "minilm-lora", "--dataset", "stance-sample"]


def metrics(outputs: Path) -> dict:
    """Return the metrics of the one run below a folder."""
    [file] = outputs.rglob("metrics.json")
    return json.loads(file.read_text(encoding="utf-8"))


def probabilities(file: Path) -> list[list[float]]:
    """Return the probabilities of a prediction, by row."""
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [[float(row[key]) for key in sorted(row) if key.startswith("probability_")] for row in rows]


def gap(one: list[list[float]], other: list[list[float]]) -> float:
    """Return the largest difference between two predictions."""
    return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


# --- the card, and the libraries that meet on it ----------------------------------------------------------------------


def test_the_card(figures):
    import bitsandbytes.cextension
    import torch

    assert figures["card"]["driver"] and figures["card"]["cuda"]
    assert bitsandbytes.cextension.lib.compiled_with_cuda
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"  # heads and losses in float32 are float32


# --- an encoder through all scripts, against the CPU ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "shards_bound", "cpu_bound"),
    [("float32", 2e-5, 1e-4), ("tf32", 2e-3, 5e-3), ("bfloat16", 2e-2, 5e-2), ("float16", 5e-3, 2e-2)],
)
def test_an_encoder(script, tmp_path, figures, precision, shards_bound, cpu_bound):
    settings = [*SHORT, f"precision={precision}", "runtime.dataloader_workers=2"]  # forked after CUDA has started
    said = script("train", *ENCODER, "--outputs", str(tmp_path), "--set", *settings)
    assert said.startswith("device: ") and "CUDA" in said.splitlines()[0]
    found = metrics(tmp_path)
    assert found["hardware"]["gpu"] and found["gpu_memory_peak_bytes"] > 0 and found["reload_difference_nats"] <= 1e-3
    run = str(next(tmp_path.rglob("metrics.json")).parent)
    rows = tmp_path / "rows.jsonl"
    lines = [{"claim": f"Claim {n}.", "sentence": "It is so. " * (n % 40 + 1)} for n in range(600)]
    rows.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    for name, words, variables in (
        ("one", [], {}),
        ("many", ["--shards", "3"], {}),
        ("cpu", [], {"CUDA_VISIBLE_DEVICES": ""}),
    ):
        output = str(tmp_path / f"{name}.jsonl")
        script("predict", "--run", run, "--input", str(rows), "--output", output, *words, **variables)
    one, many, cpu = (probabilities(tmp_path / f"{name}.jsonl") for name in ("one", "many", "cpu"))
    keys = ("train_examples_per_s", "test_examples_per_s", "gpu_memory_peak_bytes", "reload_difference_nats")
    figures[f"minilm-lora, {precision}"] = {key: found[key] for key in keys} | {
        "shards_gap": gap(one, many),
        "cpu_gap": gap(one, cpu),
    }
    assert gap(one, many) < shards_bound and gap(one, cpu) < cpu_bound


def test_a_stopped_run_resumes(script, tmp_path, figures):
    settings = ["--set", *SHORT[1:], "training.epochs=3"]
    losses = {}
    for name in ("whole", "stopped"):
        words = [*ENCODER, "--outputs", str(tmp_path / name), *settings]
        if name == "stopped":
            child = subprocess.Popen([sys.executable, str(ROOT / "scripts" / "train.py"), *words], cwd=ROOT)
            deadline = time.monotonic() + 120
            while not list((tmp_path / name).rglob("checkpoint-*")):
                assert time.monotonic() < deadline and child.poll() is None
                time.sleep(0.05)
            child.terminate()
            assert child.wait(120) == 75  # a checkpoint is saved
        script("train", *words)
        losses[name] = metrics(tmp_path / name)["test_loss"]
    figures["resumed run, difference of test loss"] = abs(losses["whole"] - losses["stopped"])
    assert abs(losses["whole"] - losses["stopped"]) < 2e-2  # equal bits are promised on a CPU alone


def test_the_trained_model_is_gone_before_the_reload(tmp_path, figures, monkeypatch):
    import runpy

    import torch

    from common.cli.main import guard
    from common.model import saved_model

    seen, load = [], saved_model.load

    def measured(*arguments):
        seen.append(torch.cuda.memory_allocated())
        return load(*arguments)

    monkeypatch.setattr(saved_model, "load", measured)
    before = torch.cuda.memory_allocated()
    main = runpy.run_path(str(ROOT / "scripts" / "train.py"))["main"]
    assert guard(main, [*ENCODER, "--outputs", str(tmp_path), "--set", *SHORT]) == 0
    figures["bytes left before the reload"] = seen[0] - before
    assert len(seen) == 1 and seen[0] - before < 20e6  # the model alone is 91e6


def test_the_cpu_waits_once_a_step(figures, tmp_path):
    import torch

    from common.model.build import build_head
    from common.train.trainer import StepTrainer

    job, _ = catalog.load_job("minilm-lora", {"training.token_budget": 256})
    dataset = catalog.load_dataset("stance-sample")
    rows = load_rows(dataset)["train"][:32]
    head = build_head(job, dataset)
    trainer = StepTrainer(head, job, dataset, rows, rows[:4], tmp_path / "run" / "checkpoints", 1, [])
    step = next(iter(trainer.get_train_dataloader()))
    trainer.training_step(head.model, step)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.training_step(head.model, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(one.message) for one in caught)
    figures["host syncs a step"] = {"micro_batches": len(step[1]), "syncs": waits}
    assert len(step[1]) > 2 and 1 <= waits <= 2  # none of them once for every micro-batch


# --- a language model: quantised layers learn, and prompts share their beginning --------------------------------------


@pytest.mark.parametrize(("family", "attention"), [("llama", "sdpa"), ("mistral", "sdpa"), ("gemma2", "eager")])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("bfloat16", 5e-2)])
def test_a_prefix_tree_scores_as_rows_alone(figures, family, attention, dtype, bound):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from common.model.layouts import Answered, PaddedLayout, TreeLayout
    from common.model.losses import answer_losses

    sizes = {"vocab_size": 500, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "head_dim": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "sliding_window": 16}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **sizes, **heads)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=getattr(torch, dtype)).cuda()
    prompts = [[1, *range(10, 40), *range(50 + 7 * n, 55 + 8 * n)] for n in range(20)]
    rows = [Answered(prompt, [[5, 6], [5, 7, 8], [9]]) for prompt in prompts]
    found = []
    for layout in (TreeLayout(model.eval(), 0), PaddedLayout(model, 0)):
        batch = {key: value.cuda() for key, value in layout.batch(rows).items()}
        with torch.no_grad():
            logits = layout.logits(batch, dtype).float()
        found.append(answer_losses(logits, batch["places"], batch["tokens"]))
    difference = float((found[0] - found[1]).abs().max())
    figures[f"prefix tree, {family}, {dtype}, difference in nats"] = difference
    assert difference < bound


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_a_small_llama_learns_the_prompt(script, tmp_path, figures, quantization):
    from common.smoke import tiny_models

    folder = tiny_models.make_tiny_model("meta-llama/Meta-Llama-3-8B", tmp_path / "model")
    settings = [
        f'model="{folder}"',
        "head=prompt",
        "dtype=bfloat16",
        "precision=bfloat16",
        f"quantization={quantization}",
    ]
    settings += ["method={name: lora, r: 8, lora_alpha: 16, target_modules: all-linear}", "training.learning_rate=0.01"]
    settings += ["training.epochs=3", *SHORT[1:], "runtime.log_every=1"]
    script("train", *ENCODER, "--outputs", str(tmp_path / "runs"), "--set", *settings)
    found = metrics(tmp_path / "runs")
    losses = [entry["loss"] for entry in found["history"] if "loss" in entry]
    figures[f"small llama, {quantization}"] = {"first_loss": losses[0], "last_loss": losses[-1]}
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", ["gemma-2-9b-it", "modernbert-large", "deberta-v3-large"])
def test_smoke(script, name):
    assert "all is well" in script("smoke", "--model", name)


# --- true shapes with random NF4 weights, under the memory of a consumer's card ---------------------------------------


@pytest.mark.parametrize("name", LINEARS)
def test_a_true_shape_fits_16_gb(script, figures, name):
    found = json.loads(script("bench", "--model", name, "--memory-gb", str(CAP_GB), "--json"))
    figures[name] = with_utilisation(name, found)
    for phase, estimate in (("train", "memory_estimate_bytes"), ("score", "memory_estimate_score_bytes")):
        peak = found[f"{phase}_memory_peak_bytes"]
        assert peak <= CAP_GB * 1e9 and 0.80 <= peak / found[estimate] <= 1.05


def test_a_large_card_is_used(script, figures):
    import torch

    if torch.cuda.get_device_properties(0).total_memory < 70e9:
        pytest.skip("needs a card of 80 GB")
    words = ["--model", "mistral-7b-v0.1", "--memory-gb", "75", "--json", "--set", "training.token_budget=8192"]
    found = json.loads(script("bench", *words))
    figures["mistral-7b-v0.1, 8,192 tokens a pass"] = with_utilisation("mistral-7b-v0.1", found)
    assert found["train_memory_peak_bytes"] > CAP_GB * 1e9  # it does not keep to a small card's memory


def test_out_of_memory_is_one_message(script):
    said = script("bench", "--model", "llama-3-8b", "--memory-gb", "3", "--json", code=4)
    assert "out of memory" in said and "Traceback" not in said


def with_utilisation(name: str, found: dict) -> dict:
    """Return peaks, speed, and the share of the card's peak FLOP/s that the model's own work takes.

    Its own work is 2 N FLOPs a token in a forward pass and 2 N for the gradients of the inputs; frozen weights need no
    gradient, and what is computed again counts nothing.
    """
    import torch

    card = torch.cuda.get_device_name()
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in card), None)
    work = {"train": 4, "score": 2}
    keys = [f"{phase}_{what}" for phase, what in itertools.product(work, ("memory_peak_bytes", "tokens_per_s"))]
    kept = {key: found[key] for key in [*keys, "memory_estimate_bytes", "memory_estimate_score_bytes"]}
    if peak:
        kept |= {
            f"{p}_utilisation": found[f"{p}_tokens_per_s"] * factor * LINEARS[name] / peak for p, factor in work.items()
        }
    return kept
