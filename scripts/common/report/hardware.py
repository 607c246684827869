"""The table of what was measured on graphics cards, from the files that `make test-gpu` writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.core.documents import read_object

FOLDER = "hardware"  # below outputs/published
_PHASES = {"training": ("train", "memory_estimate_bytes"), "scoring": ("score", "memory_estimate_score_bytes")}
_HEADER = ["card", "driver", "job", "work", "tokens/s", "of the card's FLOP/s", "peak memory", "of the estimate"]


def read(published: Path) -> list[dict[str, Any]]:
    """Return the figures of every card, by the names of their files."""
    return [read_object(file) for file in sorted((published / FOLDER).glob("*.json"))]


def table(cards: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: training and scoring of the jobs of true shape on each card, with random weights."""
    rows = []
    for found in cards:
        card = found["card"]
        about = [f"{card['name']}, {card['memory_bytes'] / 1e9:.0f} GB", f"{card['driver']}, CUDA {card['cuda']}"]
        jobs = {name: one for name, one in found.items() if isinstance(one, dict) and "train_tokens_per_s" in one}
        for job, figures in jobs.items():
            for work, (phase, estimate) in _PHASES.items():
                peak, share = figures[f"{phase}_memory_peak_bytes"], figures.get(f"{phase}_utilisation")
                measured = [
                    f"{figures[f'{phase}_tokens_per_s']:,.0f}",
                    "–" if share is None else f"{share:.0%}",
                    f"{peak / 1e9:.2f} GB",
                    f"{peak / figures[estimate]:.0%}",
                ]
                rows.append([*about, f"`{job}`", work, *measured])
    return _HEADER, rows
