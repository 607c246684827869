"""Types of the JSON documents that a run leaves: metrics.json and failure.json."""

from typing import Any, NotRequired, TypedDict, cast


class Metrics(TypedDict):
    """Content of metrics.json, and of metrics-<split>.json for another split than test.

    The name of a measured value begins with its split, `test_accuracy`, and ends with its unit, `train_s`; `value`
    reads it by that name. Fractions lie in [0, 1], and unmeasured values are None.

    Attributes:
        job, dataset, variant, seed, baseline: which run it is; baseline is "", or absent, for a fine-tuned model.
        score: name of the measure that leads the dataset's tables, such as "test_accuracy".
        shots: of the baseline few-shot, the number of examples in every prompt.
        dropped_rows_count: {split: rows that the dataset's `drop_labels` left out}, where it has any.
        test_copied_from: "validation" where the dataset says that test is a copy of it (`splits: {test: validation}`).
        ablation: of the job, where it takes a text away or shuffles it: which.
        head, model: of the job, None for a classical baseline.
        history: of training: a step, its epoch, and what was logged there.
        test_labels: the C labels, in the order of rows and columns of `test_confusion`, (C, C) counts by gold label.
        test_f1_mean_labels_of: the labels whose F1 scores `test_f1_mean_labels` averages.
        leaked_count, near_leaked_count: rows of validation and test that are in train, exactly or nearly
            (`leaks.leak_counts` has all such counts); None where near duplicates were not looked for.
        number_text_count: texts that are a number, true, false or such alone (`checks.reading_counts` has the other
            counts of what the model reads: damaged texts, unknown tokens, rows of other texts with the same tokens,
            spelled special tokens).
        provenance: code, packages and time of the process that wrote it (`provenance.collect`).
        attempts: provenance and hardware of every process that worked on a fine-tuned model's run, oldest first.
    """

    schema: int
    job: str
    dataset: str
    variant: str
    seed: int | None
    baseline: NotRequired[str]
    dataset_title: str
    score: str
    shots: NotRequired[int]
    dropped_rows_count: NotRequired[dict[str, int]]
    test_copied_from: NotRequired[str]
    ablation: NotRequired[str]
    head: str | None
    model: str | None
    data_sha256: str
    provenance: dict[str, Any]
    attempts: NotRequired[list[dict[str, Any]]]
    hardware: NotRequired[dict[str, Any] | None]
    history: NotRequired[list[dict[str, float]]]
    duplicate_count: NotRequired[int]
    near_duplicate_count: NotRequired[int | None]
    leaked_count: NotRequired[int]
    near_leaked_count: NotRequired[int | None]
    contradiction_count: NotRequired[int]
    number_text_count: NotRequired[int]
    unknown_token_count: NotRequired[int]
    collapsed_count: NotRequired[int]
    special_spelled_count: NotRequired[int]
    near_contradiction_count: NotRequired[int | None]
    train_accuracy: NotRequired[float | None]
    test_n: NotRequired[int]
    test_labels: NotRequired[list[Any]]
    test_confusion: NotRequired[list[list[int]]]
    test_f1_mean_labels_of: NotRequired[list[Any]]


class Failure(TypedDict, total=False):
    """Content of failure.json; {} where no start of the run has failed.

    Attributes:
        error: class and message.
        interrupted: whether a signal stopped the run, which is no fault.
        expected: whether the message is meant for a user, rather than a bug's.
        continue_with: the command that resumes the run.
        time: UTC time.
    """

    schema: int
    error: str
    interrupted: bool
    expected: bool
    continue_with: str
    time: str


def value(document: Metrics, name: str) -> Any:
    """Return one measured value, such as `test_accuracy`; None where it was not measured."""
    return cast("dict[str, Any]", document).get(name)
