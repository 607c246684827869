"""Finished runs on rows with texts, for the HTML report: their scores are drawn, their files are the project's own."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import toy_runs

from common.core import files
from common.data.load import load_rows
from common.data.rows import rows_fingerprint
from common.runs import run_folder

LABELS = ["con", "neu", "pro"]
HOSTILE = [
    "</script><script>window.attacked = 1</script>",
    '<img src="https://example.invalid/x.png" onerror="window.attacked = 2">',
    "<!-- <script> --> {{data}} ${window.attacked = 3} &lt;b&gt; \\u003c",
    "left \u202eright to left override\u202c left",
    "שלום עולם, مرحبا",
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467 and flag \U0001f1f3\U0001f1f1",
    "nul \x00, escape \x1b[31m, bell \x07, line separator \u2028, byte order mark \ufeff",
    "İstanbul STRASSE ﬁne",
    "line one\nline two\ttab",
]
HOSTILE_LABELS = ["<b>con</b>", "neu & \u202etral", '"pro"']
FACTS = {
    "params_total_count": 22_713_986,
    "hardware": {"gpu": None, "cpu": "Intel(R) Xeon(R)", "threads": 2},
    "history": [
        {"step": 1, "epoch": 0.5, "loss": 0.9},
        {"step": 2, "epoch": 1.0, "validation_loss": 0.8, "validation_accuracy": 0.6},
        {"step": 4, "epoch": 2.0, "validation_loss": 0.7, "validation_accuracy": 0.7},
    ],
    "best_step": 4,
}


def write_rows(folder: Path, count: int, texts: Sequence[str] = (), labels: Sequence[str] = LABELS) -> Path:
    """Write train and test rows; the first sentences of test are `texts`, the others say their number."""
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = []
        for number in range(count):
            sentence = texts[number] if split == "test" and number < len(texts) else f"Sentence {number} of {split}."
            claim, label = f"Claim {number % 4}", labels[number % len(labels)]
            rows.append({"id": f"{split}-{number}", "claim": claim, "sentence": sentence, "stance": label})
        files.write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


def scored_run(outputs: Path, rows: Path, job: str = "minilm-lora", seed: int = 1, **options: Any) -> Path:
    """Write a finished run that has scored the test rows of a folder, and return its own folder.

    Args:
        outputs: the outputs folder.
        rows: as `write_rows` made it.
        job: its name.
        seed: of the run, and of its scores.
        options: `right`, the share of rows that it predicts well; `baseline`; `generated` texts; `facts` of the
            metrics; `fold`, its number; `sample`, number and kind of the train rows of a learning curve's point; all
            others are keys of the dataset.
    """
    from common.evaluation import write_results

    right, baseline, fold = options.pop("right", 0.8), options.pop("baseline", ""), options.pop("fold", None)
    generated, facts = options.pop("generated", None), FACTS | options.pop("facts", {})
    sample = options.pop("sample", None)
    overrides = {"fold": fold} if fold else {}
    if sample:
        overrides |= {"training.max_train_samples": sample[0], "training.sampling": sample[1]}
        facts |= {"train_count": sample[0]}
    about = {"labels": LABELS, "title": "Toy stance", "id": "id", "group": "claim"} | options
    config = toy_runs.run_config(job, seed, data_dir=str(rows), overrides=overrides, **about)
    loaded = load_rows(config.dataset.with_fold(fold), rows)
    config = dataclasses.replace(config, data_sha256=rows_fingerprint(loaded), baseline=baseline).with_rows(loaded)
    last = f"baseline-{baseline}" if baseline else f"seed-{seed}"
    folder = run_folder.folder(outputs, "toy", job, config.variant, last)
    folder.mkdir(parents=True)
    run_folder.create_run(folder, config, "make train")
    rng = np.random.default_rng(seed)
    gold = np.array([row.label for row in loaded["test"]])
    chosen = np.where(rng.random(len(gold)) < right, gold, rng.integers(len(about["labels"]), size=len(gold)))
    sure = rng.uniform(0.5, 0.99, len(gold))
    shares = np.repeat(((1 - sure) / (len(about["labels"]) - 1))[:, None], len(about["labels"]), axis=1)
    shares[np.arange(len(gold)), chosen] = sure
    answers = [str(label) for label in config.dataset.labels]
    write_results.write_split(folder, config, "test", loaded["test"], np.log(shares), facts, generated, answers)
    return folder
