"""Finished runs of folds by group: each has a held-out group, and rows of the groups that it has trained on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import toy_runs

from common.config.dataset import Folds
from common.data.rows import Row
from common.evaluation import write_results
from common.runs import run_folder

SPLITS = {"folds": "group", "fractions": {"validation": 0.1, "in_group": 0.1}}


def fold_run(
    outputs: Path,
    groups: Sequence[str],
    number: int,
    right: tuple[int, int],
    rows: tuple[int, int] = (40, 20),
    seed: int = 1,
    baseline: str = "",
    with_in_group: bool = True,
    first_known: int = 0,
    **overrides: object,
) -> Path:
    """Write the run of one fold, whose held-out group is `groups[number - 1]`, and return its folder.

    Args:
        outputs: the outputs folder.
        groups: names of all groups.
        number: of the fold.
        right: how many of the rows of known groups, and of the held-out group, are predicted well.
        rows: how many there are of each.
        seed: of the run.
        baseline: its name, "" for a fine-tuned model.
        with_in_group: whether the rows of known groups are scored.
        first_known: number of the first row of known groups: rows with the same number in two folds are the same.
        overrides: further settings of the job.
    """
    config = toy_runs.run_config(overrides={"fold": number, **overrides}, seed=seed, splits=SPLITS, group="claim")
    dataset = config.dataset.with_fold(number)
    config = dataclasses.replace(config, dataset=dataset, folds=Folds(len(groups), "a" * 64), baseline=baseline)
    last = f"baseline-{baseline}" if baseline else f"seed-{seed}"
    folder = run_folder.folder(outputs, "toy", config.job_name, config.variant, last)
    folder.mkdir(parents=True)
    run_folder.create_run(folder, config, "make train")
    held_out = groups[number - 1]
    known = [name for name in groups if name != held_out]
    parts = {
        "in_group": [known[place % len(known)] for place in range(rows[0])] if with_in_group else [],
        "test": [held_out] * rows[1],
    }
    facts = {"history": [{"step": 1, "validation_accuracy": 0.9}], "best_step": 1, "params_trainable_count": 1e6}
    for (split, names), count in zip(parts.items(), right, strict=True):
        if names:
            prefix = f"{split} {held_out if split == 'test' else ''}"
            first = first_known if split == "in_group" else 0
            members = [
                Row(f"{prefix} {first + place}", ("a", "b"), place % 2, name) for place, name in enumerate(names)
            ]
            wrong = np.arange(len(names)) >= count
            chosen = (np.arange(len(names)) + wrong) % 2
            scores = np.where(chosen[:, None] == np.arange(2), np.log(0.8), np.log(0.2))
            write_results.write_split(folder, config, split, members, scores, facts)
    return folder
