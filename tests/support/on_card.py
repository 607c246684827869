"""What the tests on a card share: readers of what the scripts write, and settings of a short run."""

import json
from pathlib import Path
from typing import Any

SHORT = ["training.epochs=1", "training.max_train_samples=256", "training.max_eval_samples=64"]


def metrics(outputs: Path) -> dict[str, Any]:
    """Return the metrics of the one run below a folder."""
    [file] = outputs.rglob("metrics.json")
    return json.loads(file.read_text(encoding="utf-8"))


def run_folder(outputs: Path) -> str:
    """Return the folder of the one run below a folder."""
    [file] = outputs.rglob("metrics.json")
    return str(file.parent)


def write_rows(file: Path, count: int) -> Path:
    """Write rows of stance-sample's columns and of many lengths, and return the file."""
    lines = [{"claim": f"Claim {n}.", "sentence": "It is so. " * (n % 40 + 1)} for n in range(count)]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return file


def probabilities(file: Path) -> list[list[float]]:
    """Return the probabilities of a prediction, by row."""
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [[float(row[key]) for key in sorted(row) if key.startswith("probability_")] for row in rows]


def gap(one: list[list[float]], other: list[list[float]]) -> float:
    """Return the largest difference between two predictions of the same rows."""
    return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))
