"""The table of what was measured on graphics cards, from the files that `make test-gpu` writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.core.documents import read_object

FOLDER = "hardware"  # below outputs/published
_HEADER = ["card", "driver", "job", "training, tokens/s", "peak memory", "of the estimate", "of the card's FLOP/s"]


def read(published: Path) -> list[dict[str, Any]]:
    """Return the figures of every card, by the names of their files."""
    return [read_object(file) for file in sorted((published / FOLDER).glob("*.json"))]


def table(cards: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: the jobs of true shape on each card, with random weights."""
    rows = []
    for found in cards:
        card = found["card"]
        about = [f"{card['name']}, {card['memory_bytes'] / 1e9:.0f} GB", f"{card['driver']}, CUDA {card['cuda']}"]
        for job, figures in found.items():
            if isinstance(figures, dict) and "train_tokens_per_s" in figures:
                peak, share = figures["train_memory_peak_bytes"], figures.get("train_utilisation")
                rows.append(
                    [
                        *about,
                        f"`{job}`",
                        f"{figures['train_tokens_per_s']:,.0f}",
                        f"{peak / 1e9:.2f} GB",
                        f"{peak / figures['memory_estimate_bytes']:.0%}",
                        "–" if share is None else f"{share:.0%}",
                    ]
                )
    return _HEADER, rows
