"""What is made of the scores of new rows: calibrated probabilities, thresholds of labels, and rows left to a person.

All of it is learned from the validation rows of the run that predicts, by `evaluation/calibration.py`.
"""

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from common.config.dataset import Score
from common.config.label_values import Label
from common.config.run_request import make_command
from common.core.errors import ConfigError, RunError, choices
from common.core.files import read_jsonl
from common.evaluation import calibration, probabilities
from common.evaluation.calibration import Abstention
from common.runs.exported import export_format
from common.runs.run_config import RunConfig

SCORES = get_args(Score)
_PREDICTIONS = "predictions-validation.jsonl"


@dataclasses.dataclass(frozen=True)
class Decision:
    """How scores become labels.

    Attributes:
        temperature: divides log probabilities; 1 leaves them.
        thresholds: of each label, None where the most probable label is predicted.
        abstention: which rows are left to a person, None for no row.
        lines: what validation shows of it, for people.
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    abstention: Abstention | None = None
    lines: tuple[str, ...] = ()

    @classmethod
    def read(cls, document: dict[str, Any]) -> "Decision":
        """Return the decision that `dataclasses.asdict` made a document of; {} is the plain one."""
        found = cls(**document)
        return dataclasses.replace(
            found,
            thresholds=tuple(found.thresholds) if found.thresholds else None,
            abstention=Abstention(**document["abstention"]) if found.abstention else None,
            lines=tuple(found.lines),
        )

    def identity(self, labels: Sequence[Label]) -> dict[str, Any]:
        """Return what changes the columns, by a name for people; {} for the plain decision."""
        found: dict[str, Any] = {} if self.temperature == 1.0 else {"temperature": self.temperature}
        if self.thresholds:
            found |= {f"threshold of {label}": one for label, one in zip(labels, self.thresholds, strict=True)}
        if self.abstention:
            found["least probability that does not abstain"] = self.abstention.least
        return found

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Return log probabilities (N, C) after temperature scaling."""
        return scores if self.temperature == 1.0 else calibration.with_temperature(scores, self.temperature)

    def predicted(self, scores: np.ndarray) -> np.ndarray:
        """Return the places (N,) of the predicted labels by calibrated log probabilities (N, C)."""
        if not len(scores):
            return np.zeros(0, dtype=np.int64)
        return np.asarray((scores - np.log(self.thresholds or (1.0,))).argmax(axis=1))

    def abstains(self, scores: np.ndarray) -> np.ndarray:
        """Return whether each row (N,) is left to a person, by calibrated log probabilities (N, C)."""
        least = self.abstention.least if self.abstention else 0.0
        return self.confidence(scores) < least

    def confidence(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability (N,) of the predicted label."""
        return np.exp(np.asarray(scores, dtype=np.float64))[np.arange(len(scores)), self.predicted(scores)]


PLAIN = Decision()


def share(text: str) -> float:
    """Read ABSTAIN=, an error rate from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"ABSTAIN is '{text}'; allowed is an error rate such as 0.05")
    return value


def decide(model: Path, config: RunConfig, calibrated: bool, thresholds: str | None, abstain: float | None) -> Decision:
    """Return the decision that CALIBRATED, THRESHOLDS and ABSTAIN ask for.

    Args:
        model: the folder of the model that predicts, in its run folder.
        config: its recorded config.
        calibrated: whether probabilities are scaled by the run's temperature.
        thresholds: name of the score that thresholds of labels raise, None for no thresholds.
        abstain: error rate that the rows which are kept may have, None to keep all.

    Raises:
        RunError: the run's validation rows were not scored, lack a label, or do not decide the temperature; or no rule
            has so low an error.
        ConfigError: the dataset does not compute the score, or the model is an exported one.
    """
    if not (calibrated or thresholds or abstain is not None):
        return PLAIN
    if export_format(model):
        raise ConfigError(
            f"{model}: CALIBRATED, THRESHOLDS and ABSTAIN need the validation rows of a run; an exported folder has "
            "none. Give MODEL=<job>, or RUN=<the run's folder>."
        )
    folder = model.parent
    again = _score_again(config)
    temperature = calibration.read_temperature(folder, again) if calibrated else 1.0
    decision = Decision(temperature, lines=(f"temperature {temperature:.3f}",) if calibrated else ())
    if not (thresholds or abstain is not None):
        return decision
    if not (folder / _PREDICTIONS).exists():
        raise RunError(f"{folder}: it has no {_PREDICTIONS}; its validation rows must be scored again: {again}")
    labels = [str(label) for label in config.dataset.labels]
    scores, gold = probabilities.of_records(read_jsonl(folder / _PREDICTIONS), labels)
    scores = decision.calibrated(scores)
    if thresholds:
        decision = _with_thresholds(decision, config, scores, gold, thresholds)
    return decision if abstain is None else _with_abstention(decision, scores, gold, abstain)


def _score_again(config: RunConfig) -> str:
    """Return the command that scores the validation rows of a run."""
    names = {"MODEL": config.job_name, "DATASET": config.dataset_name, "SEED": config.seed, "SPLIT": "validation"}
    parts = config.variant.split(",") if config.variant else []
    # The name of a variant replaces what no path can have, joins lists by "+", and ends with a hash where it is long.
    plain = all(re.fullmatch(r"[\w.]+=[A-Za-z0-9.-]+", part) for part in parts)
    if plain and not re.search("-[0-9a-f]{8}$", config.variant):
        return make_command("evaluate", **names, **({"SET": " ".join(parts)} if parts else {}))
    return f"{make_command('evaluate', **names)} and the SET= of the variant {config.variant}"


def _with_thresholds(
    decision: Decision, config: RunConfig, scores: np.ndarray, gold: np.ndarray, name: str
) -> Decision:
    labels = [str(label) for label in config.dataset.labels]
    mean_of = tuple(labels.index(str(label)) for label in config.dataset.mean_f1_labels or ())
    if name == "f1_mean_labels" and not mean_of:
        raise ConfigError("THRESHOLDS=f1_mean_labels needs `mean_f1_labels` in the dataset's YAML file")
    if missing := [label for place, label in enumerate(labels) if place not in gold]:
        raise RunError(
            f"THRESHOLDS={name}: the {len(gold)} validation rows have no row of the label {choices(missing)}, so its "
            "threshold cannot be learned. Train with validation rows of every label, or leave THRESHOLDS out."
        )
    found = calibration.fit_thresholds(scores, gold, name, mean_of)
    shown = ", ".join(f"{label} {value:.3f}" for label, value in zip(labels, found, strict=True))
    line = f"thresholds for {name} on {len(gold)} validation rows: {shown}"
    return dataclasses.replace(decision, thresholds=tuple(map(float, found)), lines=(*decision.lines, line))


def _with_abstention(decision: Decision, scores: np.ndarray, gold: np.ndarray, allowed: float) -> Decision:
    right = decision.predicted(scores) == gold
    rule = calibration.fit_abstention(decision.confidence(scores), right, allowed)
    if rule is None:
        raise RunError(
            f"ABSTAIN={allowed:g}: no probability is so high that at most {allowed:.1%} of the validation rows above "
            f"it are wrong; of all rows {1 - right.mean():.1%} are. Allow more errors, or train a better model."
        )
    line = (
        f"abstains below a probability of {rule.least:.4f}: on validation {rule.coverage:.1%} of {len(gold)} rows are "
        f"kept, {rule.error:.1%} of these are wrong (at most {rule.highest_error:.1%} with 95 % confidence, though the "
        "same rows chose the bound)"
    )
    return dataclasses.replace(decision, abstention=rule, lines=(*decision.lines, line))
