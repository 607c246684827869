"""The table of cards is made of measured files, and is not there without one."""

import json

from common.report import hardware, page

FOUND = {
    "schema": 1,
    "card": {"name": "NVIDIA RTX 4080", "memory_bytes": 16.8e9, "driver": "580.65", "cuda": "13.0"},
    "mistral-7b-v0.1": {
        "train_tokens_per_s": 1234.5,
        "train_memory_peak_bytes": 11.5e9,
        "memory_estimate_bytes": 12.5e9,
        "train_utilisation": 0.353,
        "score_tokens_per_s": 4321.0,
        "score_memory_peak_bytes": 6.0e9,
        "memory_estimate_score_bytes": 6.2e9,
        "score_utilisation": 0.412,
    },
    "minilm-lora, float32": {"train_examples_per_s": 100.0, "cpu_gap": 1e-6},
    "a gap": 0.001,
}


def test_two_rows_for_every_job_of_true_shape(tmp_path):
    (tmp_path / "hardware").mkdir()
    unknown = {key: value for key, value in FOUND["mistral-7b-v0.1"].items() if not key.endswith("_utilisation")}
    without = FOUND | {"mistral-7b-v0.1": unknown}  # a card whose FLOP/s are not known
    for name, found in (("a", FOUND), ("b", without)):
        (tmp_path / "hardware" / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    header, rows = hardware.table(hardware.read(tmp_path))
    about = ["NVIDIA RTX 4080, 17 GB", "580.65, CUDA 13.0", "`mistral-7b-v0.1`"]
    assert rows == [
        row
        for shares in (("35%", "41%"), ("–", "–"))
        for row in (
            [*about, "training", "1,234", shares[0], "11.50 GB", "92%"],
            [*about, "scoring", "4,321", shares[1], "6.00 GB", "97%"],
        )
    ]
    assert len(header) == len(rows[0])
    text = page.published_page([], {}, {}, hardware.read(tmp_path))
    assert "## Graphics cards" in text and "| `mistral-7b-v0.1` |" in text


def test_without_a_card(tmp_path):
    assert hardware.read(tmp_path) == [] and "Graphics cards" not in page.published_page([], {}, {})
