"""The tables of speed beside plain scripts, from the files that `make bench COMPARE=1` writes."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.core.documents import read_object
from common.core.formatting import size

FOLDER = "bench"  # below outputs/published
BLOCK = "speed"  # the marked part of README.md
_HEADER = ["job", "dataset", "work", "plain script", "rows", "ms per row", "ours", "times as fast", "rounds"]
_NOTHING = "Not measured yet: `make bench COMPARE=1`, then `make report`."
# The ratios of README.md: the end of a job's name, the work, the plain script, and how a sentence calls them.
_HEADLINES = (
    ("minilm-lora", "training", "plain loop", "train MiniLM, plain loop"),
    ("minilm-lora", "scoring", "one at a time", "score with it, one text at a time"),
    ("smollm2-135m-classification", "training", "plain loop", "train SmolLM2, plain loop"),
    ("smollm2-135m-prompt", "training", "SFTTrainer", "train it to answer prompts, SFTTrainer"),
    ("smollm2-135m-prompt", "scoring", "generate, batch 1", "score prompts, generate"),
)


ABOUT = (
    "Measured by `make bench COMPARE=1`: real weights and rows, in turns, in one process. A plain script is what a "
    "user would write with transformers, peft and trl (`scripts/common/estimate/plain_baselines.py`). Before the "
    "measurement both sides had the same losses, gradients, scores and predictions. CPU seconds; on a GPU wall-clock "
    "seconds."
)


def read(published: Path) -> list[dict[str, Any]]:
    """Return the published comparisons, by the names of their files."""
    return [read_object(file) for file in sorted((published / FOLDER).glob("*.json"))]


def table(found: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: every plain script of every comparison."""
    rows = []
    for document in found:
        for task, name, theirs, ours in _pairs(document):
            ratio, low, high = _ratio(ours, theirs)
            rows.append(
                [
                    f"`{document['job']}`",
                    document["dataset"],
                    task["task"],
                    name,
                    f"{task['rows']:,}",
                    *(f"{1000 * statistics.median(seconds) / task['rows']:,.1f}" for seconds in (theirs, ours)),
                    f"{ratio:.2f}",
                    f"{low:.2f}–{high:.2f}",
                ]
            )
    return _HEADER, rows


def how_measured(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence per comparison: how it was measured, and how equal the results were."""
    lines = []
    for document in found:
        equal, hardware = document["equivalence"], document["hardware"]
        clock = "seconds on the wall clock" if hardware["gpu"] else "CPU seconds"
        differences = ", ".join(f"{name} {value:.0e}" for name, value in equal["differences"].items())
        load = document["load_average"]
        (_, own), (other, plain) = document["train_memory_bytes"].items()
        lines.append(
            f"- `{document['job']}` on {document['dataset']}, {document['precision']}: {clock} on "
            f"{hardware['gpu'] or hardware['cpu']}, {hardware['threads']} threads, load average {load['before']} to "
            f"{load['after']}, {document['rounds']} rounds. Largest differences, by the largest value: {differences}. "
            f"Training takes {size(own)} of memory, {own / plain:.0%} of that of {other}: weights, gradients, Adam's "
            "moments and the activations of the largest step."
        )
    return lines


def headlines(found: Sequence[dict[str, Any]]) -> str:
    """Return the block of README.md: a sentence with up to five ratios."""
    said = []
    for job, work, script, words in _HEADLINES:
        for document in found:
            for task, name, theirs, ours in _pairs(document) if document["job"] == job else ():
                if (task["task"], name) == (work, script):
                    said.append(f"{words} {_ratio(ours, theirs)[0]:.1f}×")
    return f"Times as fast as plain scripts: {'; '.join(said)}." if said else _NOTHING


def _pairs(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, list[float], list[float]]]:
    """Yield each task, plain script, its seconds and ours in every round."""
    for task in document["tasks"]:
        (_, ours), *others = task["times"].items()
        for name, theirs in others:
            yield task, name, theirs[_clock(document)], ours[_clock(document)]


def _clock(document: dict[str, Any]) -> str:
    return "wall_s" if document["hardware"]["gpu"] else "cpu_s"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of the medians, and the smallest and largest of a round."""
    by_round = [other / own for own, other in zip(ours, theirs, strict=True)]
    return statistics.median(theirs) / statistics.median(ours), min(by_round), max(by_round)
