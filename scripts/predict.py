"""Label new texts with a trained run.

    python scripts/predict.py --model minilm-lora --input reviews.csv
    python scripts/predict.py --run outputs/stance-sample/minilm-lora/seed-1 --text "A claim. || A sentence."
    make predict MODEL=minilm-lora INPUT=reviews.csv OUTPUT=labelled.xlsx

The input is xlsx, csv, tsv, jsonl or parquet (also .gz) with the dataset's text columns. The output has all its columns
and adds `predicted` and `probability_<label>`; it is written whole, and never over an existing file without --force.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from common import cli, data, errors, runs, sweeps, tablefiles
from common.stats import duration

SEPARATOR = "||"


def main(argv: list[str] | None = None) -> None:
    """Predict for one file or one text; see the module."""
    parser = cli.parser(__doc__, "model", "dataset", "set", "seed", "force")
    parser.set_defaults(data_dir=None)
    parser.add_argument("--run", metavar="DIR", type=cli.path, help="a run folder, wherever it lies, not --model")
    parser.add_argument("--adapter", metavar="DIR", type=cli.path, help="with --model: an adapter that peft saved")
    parser.add_argument("--input", metavar="FILE", type=cli.path, help="a table with the dataset's text columns")
    parser.add_argument("--output", metavar="FILE", type=cli.path, help="default: <input>.predicted.<format>")
    parser.add_argument("--text", help=f"one text instead of a file; a pair is written 'first {SEPARATOR} second'")
    arguments = parser.parse_args(argv)
    if (arguments.input is None) == (arguments.text is None):
        raise errors.ConfigError("give either INPUT=<file> or TEXT=<text>")
    folder, config = _find(arguments)
    if arguments.text is not None:
        _print_one(_score(folder, config, [_one_row(arguments.text, config)], arguments)[0], config)
        return
    output = arguments.output or _default_output(arguments.input)
    tablefiles.format_of(output)
    if output.exists() and not arguments.force:
        raise errors.RunError(f"{output} exists already; give another OUTPUT=, or FORCE=1 to replace it.")
    frame = tablefiles.read_table(arguments.input)
    added = ["predicted", *(f"probability_{label}" for label in config.dataset.labels)]
    clash = [name for name in added if name in frame.columns]
    if clash:
        raise errors.DataError(f"{arguments.input}: it has a column '{clash[0]}' already; rename it first.")
    rows = data.to_rows(frame, config.dataset, str(arguments.input), "input", labelled=False)
    start = time.perf_counter()
    scores = _score(folder, config, rows, arguments)
    seconds = time.perf_counter() - start
    tablefiles.write_table(output, _with_predictions(frame, scores, added, config))
    print(
        f"{output}: {len(rows)} rows labelled in {duration(seconds)} "
        f"({len(rows) / seconds:.1f} rows/s, loading included)"
    )


def _find(arguments: argparse.Namespace) -> tuple[Path, runs.RunConfig]:
    if arguments.run is not None:
        if arguments.model or arguments.adapter:
            raise errors.ConfigError("give either RUN=<folder> or MODEL=<job>")
        config = runs.thaw(arguments.run)
        runs.need_model(arguments.run, f"make train MODEL={config.job_name}")
        return arguments.run, config
    if arguments.adapter:
        return arguments.adapter, cli.target(arguments).config(None, "")
    arguments = sweeps.need_one(arguments)
    target = cli.target(arguments)
    folder = cli.trained_folder(target, arguments)
    return folder, runs.need_same_recipe(folder, target.config(arguments.seed, ""))


def _score(folder: Path, config: runs.RunConfig, rows: list[data.Row], arguments: argparse.Namespace) -> np.ndarray:
    """Return natural-log probabilities (N, C), whatever the job's decoding: every text gets a label."""
    from common import models, saved, scoring

    models.quiet_libraries()
    job = runs.need_job(config)
    if arguments.adapter:
        head = saved.load_adapter(job, config.dataset, folder)
    else:
        head = saved.load(job, config.dataset, folder / runs.MODEL)
    return scoring.score(head, rows, job.runtime.score_token_budget, "predict")


def _one_row(text: str, config: runs.RunConfig) -> data.Row:
    names = config.dataset.text
    texts = tuple(part.strip() for part in text.split(SEPARATOR)) if len(names) > 1 else (text.strip(),)
    if len(texts) != len(names) or not all(texts):
        wanted = f" {SEPARATOR} ".join(f"<{name}>" for name in names)
        raise errors.DataError(f"TEXT holds {sum(map(bool, texts))} texts; the dataset needs: TEXT='{wanted}'")
    return data.Row(id="text", texts=texts, label=None)


def _print_one(scores: np.ndarray, config: runs.RunConfig) -> None:
    labels = config.dataset.labels
    print(labels[int(scores.argmax())])
    for index in np.argsort(-scores):
        print(f"  {labels[index]!s:<12} {np.exp(scores[index]):.4f}")


def _default_output(source: Path) -> Path:
    name, gzipped = tablefiles.format_of(source)
    ending = f".{name}.gz" if gzipped else f".{name}"
    return source.with_name(f"{source.name[: -len(ending)]}.predicted{ending}")


def _with_predictions(
    frame: pd.DataFrame, scores: np.ndarray, added: list[str], config: runs.RunConfig
) -> pd.DataFrame:
    labels = config.dataset.labels
    result = frame.copy()
    result[added[0]] = [labels[index] for index in scores.argmax(axis=1)] if len(frame) else []
    probabilities = np.exp(scores.astype(np.float64)).reshape(len(frame), len(labels))
    for index, name in enumerate(added[1:]):
        result[name] = probabilities[:, index].round(6)
    return result


if __name__ == "__main__":
    sys.exit(errors.guard(main))
