"""Divide rows into train, validation and test, check that the needed splits exist, and draw stratified samples."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from common.config.dataset import IN_GROUP, SPLIT_NAMES, Dataset
from common.config.job import BALANCED, STRATIFIED, Job, Sampling
from common.config.label_values import Label
from common.core.errors import DataError, choices, nearest
from common.core.formatting import shortened
from common.data.nested_samples import nested_sample
from common.data.rows import Row, Rows
from common.data.visible_text import visible

_SHOWN_CHARACTERS = 60  # of a cell in a message


def require_split(rows: Rows, split: str, why: str) -> list[Row]:
    """Return the rows of a split that must exist.

    Args:
        rows: of all splits.
        split: "train", "validation" or "test".
        why: what the rows are needed for, for the message, such as "to train on".

    Raises:
        DataError: the split is missing or empty; the message says how to get one.
    """
    if not rows.get(split):
        raise DataError(
            f"the dataset has no {split} rows, which are needed {why}. Name a {split} file in the dataset YAML, or cut "
            f"a share off train: splits: {{fractions: {{{split}: 0.1}}}}. Splits found: {choices(rows)}."
        )
    return rows[split]


def check_splits(rows: Rows, trains: bool) -> None:
    """Check that the splits exist that a run needs.

    Args:
        rows: of all splits.
        trains: whether the run fine-tunes; a baseline needs no validation rows.

    Raises:
        DataError: a split is missing.
    """
    require_split(rows, "train", "to train on" if trains else "to learn the baseline from")
    if trains:
        require_split(rows, "validation", "to choose the best checkpoint")
    require_split(rows, "test", "to evaluate on")


def sample_rows(rows: list[Row], count: int | None, seed: int) -> list[Row]:
    """Return `count` rows in their order, a sample stratified by label; all rows if there are not more.

    Raises:
        DataError: a label would have no row in the sample.
    """
    if count is None or count >= len(rows):
        return rows
    from sklearn.model_selection import train_test_split

    number = Counter(row.label for row in rows)
    if (problem := _stratifies(number, count)) is not None:
        raise DataError(f"cannot sample {count} of {len(rows)} rows, stratified by label: {problem}")
    chosen, _ = train_test_split(
        range(len(rows)), train_size=count, random_state=seed, stratify=[row.label for row in rows]
    )
    return [rows[index] for index in sorted(chosen)]


def _stratifies(number: Mapping[int | None, int], count: int) -> str | None:
    """Return why `count` rows cannot be chosen by label, with rows of every label among them and among the others.

    Args:
        number: rows of each label.
        count: of the rows to choose.
    """
    rows, labels = sum(number.values()), len(number)
    if rows and min(number.values()) < 2:
        return "a label has one row, which cannot be in both parts. Add rows of it, or leave it out by drop_labels."
    if min(count, rows - count) < labels:
        return (
            f"there are {labels} labels, and each needs a row among the {count} and among the other {rows - count}: "
            f"allowed are {labels} to {rows - labels} rows."
            if rows >= 2 * labels
            else f"there are {labels} labels with {rows} rows in all, and each needs two."
        )
    return None


def sample_train_rows(rows: list[Row], job: Job, dataset: Dataset) -> list[Row]:
    """Return the train rows that a job learns from, the same rows for every seed of the job."""
    return draw_train_rows(rows, job.training.max_train_samples, job.training.sampling, dataset)


def draw_train_rows(rows: list[Row], count: int | None, sampling: Sampling, dataset: Dataset) -> list[Row]:
    """Return a sample of `count` train rows, in their order; all rows without a count.

    Raises:
        DataError: there are too few rows of a label.
    """
    if count is None or sampling == STRATIFIED:
        return sample_rows(rows, count, dataset.splits.seed)
    return nested_sample(rows, count, dataset.labels, dataset.splits.seed, balanced=sampling == BALANCED)


def sample_balanced(rows: list[Row], count: int, labels: Sequence[Label], seed: int) -> list[Row]:
    """Return `count` rows in random order, as many of each label as of any other, or one more.

    Args:
        rows: to draw from, without replacement.
        count: how many.
        labels: of the dataset; the seed chooses which of them have one row more.
        seed: the same seed draws the same rows.

    Raises:
        DataError: a label has too few rows.
    """
    rng = np.random.default_rng(seed)
    drawn: list[Row] = []
    for place, label in enumerate(rng.permutation(len(labels)).tolist()):
        members = [row for row in rows if row.label == label]
        wanted = count // len(labels) + (place < count % len(labels))
        if wanted > len(members):
            raise DataError(
                f"{count} balanced examples need {wanted} train rows of the label '{labels[label]}'; there are "
                f"{len(members)}."
            )
        drawn += [members[index] for index in rng.permutation(len(members))[:wanted].tolist()]
    return [drawn[index] for index in rng.permutation(len(drawn)).tolist()]


def divide_by_column(frames: dict[str, tuple[pd.DataFrame, str]], column: str) -> dict[str, tuple[pd.DataFrame, str]]:
    """Divide tables by a column whose cells say train, validation (also valid, val or dev) or test, in any case.

    Args:
        frames: {any name: (table, file for messages)}.
        column: the column's name.

    Returns:
        {split: (table, files for messages)}.

    Raises:
        DataError: a table lacks the column, a cell says something else, or two words mean one split.
    """
    divided: dict[str, list[tuple[pd.DataFrame, str]]] = {}
    words: dict[str, str] = {}  # {split: how the cells call it}
    for frame, origin in frames.values():
        if column not in frame.columns:
            raise DataError(
                f"{origin}: there is no column '{column}', which the dataset YAML names as `splits.column`."
                f"{nearest(column, frame.columns)} Columns found: {choices(frame.columns)}."
            )
        splits = []
        for place, value in frame[column].items():
            split = SPLIT_NAMES.get(value.casefold()) if isinstance(value, str) else None
            if split is None:
                raise DataError(
                    f"{origin}, row {place}, column '{column}': found {shortened(repr(value), _SHOWN_CHARACTERS)}; "
                    f"allowed: {choices(SPLIT_NAMES)}."
                )
            if words.setdefault(split, value) != value:
                raise DataError(
                    f"{origin}, row {place}, column '{column}': found '{value}', and '{words[split]}' before it; both "
                    f"mean {split}. Use one word for it."
                )
            splits.append(split)
        for split, part in frame.groupby(pd.Series(splits, frame.index, dtype=object), sort=False):
            divided.setdefault(str(split), []).append((part, origin))
    return {
        split: (pd.concat([part for part, _ in parts]), ", ".join(dict.fromkeys(origin for _, origin in parts)))
        for split, parts in divided.items()
    }


def divide_by_fractions(rows: Rows, dataset: Dataset, keep_given: bool) -> list[str]:
    """Move fractions of the train rows to validation and test, stratified by label, as `splits.fractions` says.

    Args:
        rows: of all splits, which are changed.
        dataset: its `splits` give the fractions and the seed.
        keep_given: keep splits that exist already, for a folder given as DATA_DIR; otherwise they are an error.

    Returns:
        Sentences for the user: labels with a single row, which stays in train, and how groups were divided.

    Raises:
        DataError: a split exists already, train is empty, or a label has too few rows.
    """
    count, notes = len(rows.get("train", [])), []
    # Rows of train's groups are cut off last, when validation has its own.
    for split, fraction in sorted(dataset.splits.fractions.items(), key=lambda item: item[0] == IN_GROUP):
        if split in rows and keep_given:
            continue
        if split in rows:
            raise DataError(
                f"splits.fractions asks for {split}, but the source has a {split} split; remove one of them."
            )
        if not count:
            raise DataError(f"the train split is empty: it has no rows of which {fraction:.0%} could become {split}.")
        cut = _cut_by_group if dataset.splits.by == "group" and split != IN_GROUP else _cut_by_label
        rows["train"], rows[split], note = cut(rows["train"], split, fraction, count, dataset)
        notes += [note] if note and note not in notes else []
    return notes


def _cut_by_label(
    train: list[Row], split: str, fraction: float, count: int, dataset: Dataset
) -> tuple[list[Row], list[Row], str]:
    """Return the rows of train and of a split of round(fraction × count) rows, and a note; both are shuffled."""
    from sklearn.model_selection import train_test_split

    number = Counter(row.label for row in train)
    single = [row for row in train if number[row.label] == 1]
    others = [row for row in train if number[row.label] > 1]
    size = round(fraction * count)
    if (problem := _stratifies({label: rows for label, rows in number.items() if rows > 1}, size)) is not None:
        raise DataError(
            f"cannot cut {split}, {fraction:.1%} of {count} rows, off train by label: {problem} Change the fraction in "
            f"splits.fractions, add rows, or name a {split} file."
        )
    kept, cut = train_test_split(
        others, test_size=size, random_state=dataset.splits.seed, stratify=[row.label for row in others]
    )
    names = [visible(dataset.labels[row.label]) for row in single if row.label is not None]
    note = f"train keeps the only row of the labels {choices(names)}; {split} has none of them" if names else ""
    return kept + single, cut, note


def _cut_by_group(
    train: list[Row], split: str, fraction: float, count: int, dataset: Dataset
) -> tuple[list[Row], list[Row], str]:
    """Return the rows of train and of a split with about fraction × count rows and groups of its own, and a note."""
    from common.data.group_split import cut_groups

    share = fraction * count / len(train)
    kept, cut = cut_groups(train, share, dataset.labels, dataset.splits.seed)
    own, every = len({row.group for row in cut}), len({row.group for row in train})
    asked = f"{len(cut) / count:.1%} of {count:,}; asked were {fraction:.1%}"
    return kept, cut, f"{split} has {own} of {every} groups: {len(cut):,} rows ({asked})"


def check_train(rows: Rows, dataset: Dataset) -> None:
    """Check that the train split, if there is one, has rows of every label.

    Raises:
        DataError: it is empty, or a label has no row.
    """
    if "train" not in rows:
        return
    present = {row.label for row in rows["train"]}
    if not present:
        raise DataError("the train split is empty: nothing to learn from.")
    if len(present) == 1:
        only = dataset.labels[next(iter(label for label in present if label is not None))]
        raise DataError(f"every train row has the label '{only}': a classifier needs at least two labels.")
    missing = [str(label) for index, label in enumerate(dataset.labels) if index not in present]
    if missing:
        raise DataError(
            f"no train row has the label {choices(missing)}: it could never be learned. "
            "Remove it from `labels` or add rows."
        )
