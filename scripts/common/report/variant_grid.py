"""Find the variants of a job, the settings in which they differ, and short names for tables and plots."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from common.report.result import Result

RANK, ALPHAS = "method.r", ("method.alpha", "method.lora_alpha")
EPOCHS = "training.epochs"
_ABSENT = "–"


@dataclasses.dataclass(frozen=True)
class Grid:
    """Two or more variants of one job on one dataset.

    Attributes:
        job: its name.
        keys: the dotted keys in which the variants differ, a rank first.
        members: the variants, sorted by the values of those keys.
    """

    job: str
    keys: tuple[str, ...]
    members: tuple[Result, ...]

    @property
    def alpha(self) -> str | None:
        """The key of LoRA's alpha where alpha and the rank vary and the update is scaled by alpha / r, else None."""
        if RANK not in self.keys or any(member.settings.get("method.use_rslora") for member in self.members):
            return None
        return next((key for key in ALPHAS if key in self.keys), None)

    def titles(self) -> list[str]:
        """Return the names of the keys in tables: the last word of a key, or the whole key where two would be equal."""
        last = [key.rsplit(".", 1)[-1].removeprefix("lora_") for key in self.keys]
        return [word if last.count(word) == 1 else key for key, word in zip(self.keys, last, strict=True)]

    def cells(self, member: Result) -> list[str]:
        """Return a variant's values of the keys, as text."""
        return [_text(member.settings[key]) if key in member.settings else _ABSENT for key in self.keys]

    def scale(self, member: Result) -> str:
        """Return a variant's alpha / r as text."""
        rank, alpha = member.settings.get(RANK), member.settings.get(self.alpha or "")
        return f"{alpha / rank:g}" if rank and alpha else _ABSENT

    def facts(self, member: Result) -> dict[str, str]:
        """Return the text in plots by key, such as "epochs = 3"; for LoRA's alpha it is the scale alpha / r."""
        facts = {}
        for key, title, cell in zip(self.keys, self.titles(), self.cells(member), strict=True):
            if cell != _ABSENT:
                facts[key] = f"alpha / r = {self.scale(member)}" if key == self.alpha else f"{title} = {cell}"
        return facts

    def name(self, member: Result) -> str:
        """Return the job's name and, in parentheses, the settings in which the variants differ."""
        pairs = zip(self.titles(), self.cells(member), strict=True)
        return f"{self.job} ({', '.join(f'{title}={cell}' for title, cell in pairs if cell != _ABSENT)})"


def find(results: Sequence[Result]) -> list[Grid]:
    """Return the grids among the results of one dataset: the jobs with two or more fine-tuned variants."""
    jobs: dict[str, list[Result]] = {}
    for result in results:
        if not result.baseline:
            jobs.setdefault(result.job, []).append(result)
    found = []
    for job, members in jobs.items():
        if len(members) > 1 and (keys := _varied([member.settings for member in members])):
            members.sort(key=lambda member: [_order(member.settings.get(key)) for key in keys])
            found.append(Grid(job, tuple(keys), tuple(members)))
    return found


def has_errors_to_show(results: Sequence[Result]) -> bool:
    """Return whether one dataset has a table of error rates per class: more than two labels, or a grid of variants."""
    return len(results[0].documents[0]["test_labels"]) > 2 or bool(find(results))


def arrange(results: Sequence[Result]) -> list[Result]:
    """Return the results of one dataset, baselines first, with the variants of a grid in the order of the grid."""
    order = {id(member): place for grid in find(results) for place, member in enumerate(grid.members)}
    jobs = list(dict.fromkeys((bool(result.baseline), result.job) for result in results))
    baselines = [result for result in results if result.baseline]
    tuned = [result for result in results if not result.baseline]
    tuned.sort(key=lambda result: (jobs.index((False, result.job)), order.get(id(result), 0)))
    return baselines + tuned


def names(results: Sequence[Result]) -> list[str]:
    """Return a short and unique name for each result of one dataset."""
    short = {id(member): grid.name(member) for grid in find(results) for member in grid.members}
    return [short.get(id(result), result.name) for result in results]


def epochs(result: Result) -> str:
    """Return the number of epochs of a result as text."""
    return _text(result.settings[EPOCHS]) if EPOCHS in result.settings else _ABSENT


def _varied(settings: list[dict[str, Any]]) -> list[str]:
    """Return the keys whose values differ.

    Where the methods differ, a key of a method that another method does not have is not a difference.
    """
    keys = sorted({key for one in settings for key in one})
    methods = len({one.get("method.name") for one in settings})
    varied = []
    for key in keys:
        values = {json.dumps(one[key], sort_keys=True) for one in settings if key in one}
        is_absent = any(key not in one for one in settings) and not (methods > 1 and key.startswith("method."))
        if len(values) > 1 or is_absent:
            varied.append(key)
    return sorted(varied, key=lambda key: (key != RANK, key not in ALPHAS, key))


def _order(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)
