"""Models of true shape with random NF4 weights, under the memory of a consumer's card: peaks, speed, and a refusal."""

import itertools
import json

import pytest

CAP_GB = 14.5  # what a card of 16 GB leaves for a job
# Dense bfloat16 FLOP/s by NVIDIA's data sheets.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "RTX 4080": 97.5e12}
# Weights by which a token is multiplied in the linear layers.
LINEARS = {"mistral-7b-v0.1": 6.98e9, "llama-3-8b": 6.98e9, "gemma-2-9b-it": 8.32e9}
PHASES = {"train": "memory_estimate_bytes", "score": "memory_estimate_score_bytes"}


def benched(script, name: str, cap_gb: float, *settings: str) -> dict:
    """Return what `make bench` measures of a job, with the share of the card's FLOP/s that its own work takes.

    Its own work is 2 N FLOPs a token in a forward pass and 2 N for the gradients of the inputs; frozen weights need no
    gradient, and what is computed again counts nothing.
    """
    import torch

    words = ["--model", name, "--memory-gb", str(cap_gb), "--json"]
    found = json.loads(script("bench", *words, *(["--set", *settings] if settings else [])))
    kept = [f"{phase}_{what}" for phase, what in itertools.product(PHASES, ("memory_peak_bytes", "tokens_per_s"))]
    kept = {key: found[key] for key in [*kept, *PHASES.values()]}
    card = torch.cuda.get_device_name()
    if peak := next((flops for part, flops in PEAK_FLOPS.items() if part in card), None):
        for phase, factor in (("train", 4), ("score", 2)):
            kept[f"{phase}_utilisation"] = found[f"{phase}_tokens_per_s"] * factor * LINEARS[name] / peak
    return kept


@pytest.mark.parametrize("name", LINEARS)
def test_a_true_shape_fits_16_gb(script, figures, name):
    found = figures[name] = benched(script, name, CAP_GB)
    for phase, estimate in PHASES.items():
        peak = found[f"{phase}_memory_peak_bytes"]
        assert peak <= CAP_GB * 1e9 and 0.80 <= peak / found[estimate] <= 1.05


def test_a_large_card_is_used(script, figures):
    import torch

    if torch.cuda.get_device_properties(0).total_memory < 70e9:
        pytest.skip("needs a card of 80 GB")
    name = "mistral-7b-v0.1"
    found = figures[f"{name}, 8,192 tokens a pass"] = benched(script, name, 75, "training.token_budget=8192")
    assert found["train_memory_peak_bytes"] > CAP_GB * 1e9  # it does not keep to a small card's memory


def test_out_of_memory_is_one_message(script):
    said = script("bench", "--model", "llama-3-8b", "--memory-gb", "3", "--json", code=4)
    [message] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "out of memory" in message and "of 3.00 GB (MEMORY_GB)" in message and "Traceback" not in said
