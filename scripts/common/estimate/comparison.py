"""Compare a job with the plain scripts of `plain_baselines`: the same results first, then the times, side by side.

Weights and texts are real. The plain model shares the frozen weights of the job's model, and both train the same
parameters from the same start. Training is one epoch over token ids; scoring begins with texts.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from transformers import set_seed

from common.config.dataset import Dataset
from common.config.job import Job
from common.core import files
from common.core.errors import ConfigError, DataError
from common.data.rows import Row, Rows
from common.data.splits import sample_rows
from common.estimate import compare_classification, compare_prompts, plain_baselines, side_by_side
from common.estimate.sides import Sides
from common.model.build import build_head
from common.model.inspect import parameter_counts
from common.runs import provenance

SEED = 1
SCHEMA = 1
# Rows are as many as one epoch has these floating-point operations (6 per parameter and token), in whole steps.
_OPERATIONS = {"cpu": 1.5e12, "cuda": 1.5e14}
_FEWEST_STEPS = 2


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is compared.

    Attributes:
        job_name: of the job.
        job: method `lora`.
        dataset_name: of the dataset.
        dataset: labels, and the prompt.
        rows: of train and test.
        count: rows of a round; by default as many as the model's size allows.
    """

    job_name: str
    job: Job
    dataset_name: str
    dataset: Dataset
    rows: Rows
    count: int | None = None


def check(job: Job) -> None:
    """Raise a `ConfigError` for a job that the plain scripts cannot do."""
    if job.method.name != "lora":
        raise ConfigError(f"COMPARE=1 compares jobs of method lora with plain scripts; the job's is {job.method.name}.")
    if job.pooling != "default" or job.quantization == "int8" or job.training.optim != "adamw_torch":
        raise ConfigError(
            "COMPARE=1 compares with AutoModelForSequenceClassification, AdamW and quantization none or nf4; the job "
            f"has pooling {job.pooling}, optim {job.training.optim}, quantization {job.quantization}."
        )


def compare(subject: Subject, rounds: int) -> dict[str, Any]:
    """Check that both sides do the same work, measure them, and return the document of `report/speed.py`.

    Args:
        subject: what is compared.
        rounds: measured rounds, after the warm-up.

    Raises:
        ConfigError: `check`.
        ModelError: the results differ.
        DataError: train or test has too few rows.
    """
    job = subject.job
    check(job)
    load = side_by_side.load_average()
    set_seed(SEED)
    head = build_head(job, subject.dataset)
    pad = head.pad_token_id
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(
            head,
            plain_baselines.load_model(job, len(subject.dataset.labels), pad),
            job,
            subject.dataset,
            *_rows(subject, head),
            Path(folder),
            SEED,
        )
        of_head = compare_prompts if job.head == "prompt" else compare_classification
        sides.train_once()
        print("the results are compared", flush=True)
        equal = of_head.check_equal(sides)
        tasks = []
        for task in of_head.tasks(sides):
            print(f"measured: {task.title}, {task.rows} rows", flush=True)
            times = side_by_side.measure(task.ways, rounds)
            tasks.append({"task": task.title, "rows": task.rows, "times": {n: vars(t) for n, t in times.items()}})
        memory = of_head.memory(sides)
    return {
        "schema": SCHEMA,
        "job": subject.job_name,
        "dataset": subject.dataset_name,
        "rounds": rounds,
        "precision": job.precision,
        "equivalence": equal,
        "tasks": tasks,
        "train_memory_bytes": memory,
        "load_average": {"before": load, "after": side_by_side.load_average()},
        "hardware": provenance.hardware(),
        "provenance": provenance.of_process(),
    }


def _rows(subject: Subject, head: Any) -> tuple[list[Row], list[Row]]:
    """Return the train rows and the test rows: samples, as many as an affordable round has."""
    size = subject.job.training.batch_size
    train, test = subject.rows["train"], subject.rows["test"]
    if len(train) < _FEWEST_STEPS * size or len(test) < size:
        raise DataError(f"COMPARE=1 needs {_FEWEST_STEPS * size} train rows and {size} test rows, or a smaller batch.")
    lengths = [head.training_tokens(row) for row in head.encoder.encode(train[: 4 * size])]
    parameters = parameter_counts(head.model)["params_total_count"]
    tokens = _OPERATIONS[head.device.type] / (6 * parameters)
    wanted = subject.count or int(tokens * len(lengths) / sum(lengths))
    count = min(max(_FEWEST_STEPS, wanted // size), len(train) // size) * size
    shown = min(count, len(test))
    return sample_rows(train, count, SEED), sample_rows(test, shown, SEED)


def write(document: dict[str, Any], folder: Path) -> Path:
    """Write a comparison to `<folder>/<job>.<dataset>.json`, and return the file."""
    file = folder / f"{document['job']}.{document['dataset']}.json"
    files.write_json(file, document)
    return file
