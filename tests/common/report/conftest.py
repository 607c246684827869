"""Results that several tests of the report start from."""

import pytest
from toy_runs import finished_run, run_config

from common.report import results

LABELS = {"labels": ["con", "neu", "pro"], "title": "Three labels"}


@pytest.fixture
def found(tmp_path):
    """The majority baseline, and a model with three seeds, on four test rows with two labels."""
    finished_run(tmp_path, baseline="majority", right=2, train_s=None)
    for seed, right in ((1, 4), (2, 3), (3, 3)):
        config = run_config(seed=seed)
        finished_run(tmp_path, config, right=right, train_cpu_s=61.0, gpu_memory_peak_bytes=None)
    return results.load(tmp_path)


@pytest.fixture
def swept(tmp_path):
    """A baseline, another model, and four variants of one job, of which one is the job itself (rank 8, alpha 16).

    On test the variants of rank 16 are the best, on validation the one of rank 8 and alpha 8.
    """
    finished_run(tmp_path, run_config(**LABELS), baseline="untuned", right=2)
    finished_run(tmp_path, run_config("minilm-emotion-full", **LABELS), right=4)
    for r, alpha in ((16, 32), (8, 16), (8, 8), (16, 16)):
        overrides = {"method.r": r, "method.alpha": alpha}
        history = [
            {"step": 1, "validation_accuracy": 0.9},
            {"step": 2, "validation_accuracy": 0.7 if alpha == 8 else 0.6},
        ]
        for seed in (1, 2):
            config = run_config("minilm-emotion-lora", seed, overrides, **LABELS)
            train_right = 4 if r == 16 else None
            finished_run(tmp_path, config, right=2 + (r == 16), train_right=train_right, history=history, best_step=2)
    return results.load(tmp_path)
