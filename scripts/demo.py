"""The main job on the embedded corpus: three baselines, three ways of fine-tuning, one table.

    make demo                    (or: python scripts/demo.py)

Every step is a command that you could type yourself; it is printed before it runs. What is finished is skipped, so a
second demo takes seconds, and one that was stopped continues. Runs lie in outputs/demo/ and are never published.
"""

import argparse
import dataclasses
import os
import shlex
import sys
import time
from pathlib import Path

from common.cli.main import guard
from common.cli.options import run
from common.config import catalog
from common.config.job import Job
from common.core import yaml_io
from common.core.formatting import duration
from common.data.load import load_rows
from common.data.rows import rows_fingerprint
from common.runs import run_folder
from common.runs.run_config import differences

DATASET = "stance-sample"
OUTPUTS = Path("outputs/demo")
SEED = 1


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of the demo.

    Attributes:
        title: what it does, for a person.
        words: the script and its options.
        folder: of the run it finishes.
        job: its job with the demo's settings; None for the classical baselines, which have none.
        seconds: how long it takes on two cores; only the ratios matter, they are scaled as steps finish.
    """

    title: str
    words: tuple[str, ...]
    folder: Path
    job: Job | None
    seconds: float


def steps() -> list[Step]:
    """Return the demo's runs in order."""
    return [
        _classical("majority", "the most frequent label", 3),
        _classical("tfidf", "TF-IDF + logistic regression", 4),
        _untuned("minilm-lora", 9),
        # Shorter than the jobs' own training, to keep to three minutes.
        _fine_tuning(
            "minilm-last-layers", "the last three layers", "training.epochs=4 training.learning_rate=2e-4", 38
        ),
        _fine_tuning("minilm-lora", "LoRA", "training.epochs=5", 58),
        _fine_tuning("minilm-full", "every parameter", "training.epochs=3", 48),
    ]


def _classical(name: str, title: str, seconds: float) -> Step:
    words = ("baseline.py", "--dataset", DATASET, "--baseline", name)
    folder = run_folder.folder(OUTPUTS, DATASET, "classical", "", f"baseline-{name}")
    return Step(f"Baseline: {title}", words, folder, None, seconds)


def _untuned(job_name: str, seconds: float) -> Step:
    words = ("baseline.py", "--model", job_name, "--dataset", DATASET, "--baseline", "untuned")
    folder = run_folder.folder(OUTPUTS, DATASET, job_name, "", "baseline-untuned")
    return Step("Baseline: MiniLM, untuned", words, folder, catalog.load_job(job_name)[0], seconds)


def _fine_tuning(job_name: str, title: str, overrides: str, seconds: float) -> Step:
    job, variant = catalog.load_job(job_name, yaml_io.split_overrides([overrides]))
    words = ("train.py", "--model", job_name, "--dataset", DATASET, "--set", overrides, "--seed", str(SEED))
    folder = run_folder.folder(OUTPUTS, DATASET, job_name, variant, f"seed-{SEED}")
    return Step(f"Fine-tuning MiniLM: {title}", words, folder, job, seconds)


def is_stale(step: Step, data_sha256: str) -> bool:
    """Return whether a step's run was made with other settings or other data than the current ones."""
    if not (step.folder / run_folder.CONFIG).exists():
        return False
    recorded = run_folder.load_run_config(step.folder)
    dataset = catalog.load_dataset(DATASET)
    current = dataclasses.replace(recorded, job=step.job, dataset=dataset, data_sha256=data_sha256)
    return bool(differences(recorded, current))


def is_done(step: Step, data_sha256: str) -> bool:
    """Return whether a step's run is finished with the current settings and data."""
    return run_folder.is_finished(step.folder) and not is_stale(step, data_sha256)


def main(argv: list[str] | None = None) -> int:
    """Run what is left of the demo, then show the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    ).parse_args(argv)
    os.chdir(catalog.ROOT)
    rows = load_rows(catalog.load_dataset(DATASET))
    counts = ", ".join(f"{len(members)} {split}" for split, members in rows.items())
    print(f"Stance detection (claim + sentence → con / neu / pro) on {counts} sentences of data/sample/.")
    fingerprint = rows_fingerprint(rows)
    planned = steps()
    left = [step for step in planned if not is_done(step, fingerprint)]
    if len(left) < len(planned):
        print(f"{len(planned) - len(left)} of {len(planned)} steps are finished already and are skipped.")
    spent = expected = 0.0
    for number, step in enumerate(left):
        ahead = sum(later.seconds for later in left[number:])
        scale = spent / expected if expected > 20 else 1.0  # short steps tell little about the machine
        position = f"[{planned.index(step) + 1}/{len(planned)}]"
        command = ["scripts/" + step.words[0], *step.words[1:], "--outputs", str(OUTPUTS)]
        if is_stale(step, fingerprint):
            command.append("--force")  # the settings have changed since: the old run is kept beside the new one
        print(f"\n{position} {step.title}. About {duration(ahead * scale)} left in all.")
        print(f"    python {shlex.join(command)}", flush=True)
        start = time.monotonic()
        code = run(command)
        if code:
            print(f"The demo stopped at step {position}; `make demo` continues.", file=sys.stderr)
            return code
        spent, expected = spent + time.monotonic() - start, expected + step.seconds
    code = run(["scripts/collect.py", "--here", "--outputs", str(OUTPUTS)])
    print(_next_steps(planned[-2].folder))
    return code


def _next_steps(run: Path) -> str:
    return f"""
What next
  Use a model:     make predict RUN={run} TEXT="Vegans are right. || Where did you read that?"
                   (a small model on few sentences: it tells talk from argument well, pro from con poorly)
  A whole file:    make predict RUN={run} INPUT=data/sample/test.xlsx OUTPUT=outputs/demo/labelled.xlsx
  Other settings:  make train MODEL=minilm-lora SET="method.r=4 training.epochs=4"
  Your own data:   copy data/stance-sample.yaml to data/mine.yaml, name your files and columns, then
                   make check MODEL=minilm-lora DATASET=mine && make train MODEL=minilm-lora DATASET=mine"""


if __name__ == "__main__":
    sys.exit(guard(main))
