"""Label new texts with a trained run.

    python scripts/predict.py --model minilm-lora --input reviews.csv
    python scripts/predict.py --run outputs/stance-sample/minilm-lora/seed-1 --text "A claim. || A sentence."
    make predict MODEL=minilm-lora INPUT=reviews.csv OUTPUT=labelled.xlsx
    make predict MODEL=minilm-lora INPUT=corpus.parquet OUTPUT=labelled.parquet SHARDS=64
    python scripts/predict.py --plan labelled.parquet.shards --shard 3 8-11  # some shards of that, anywhere
    python scripts/predict.py --plan labelled.parquet.shards --merge

The input is xlsx, csv, tsv, jsonl or parquet (also .gz) with the dataset's text columns. The output has all its columns
and adds `predicted` and `probability_<label>`; it is written whole, and never over an existing file without --force.
With --shards the input may also be a folder or a pattern of files; what was stopped continues with the same command.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.cli import options
from common.cli.main import guard
from common.cluster.scheduler import AUTO, SLURM, choose_cluster
from common.config.dataset import Label
from common.core import errors, yaml_io
from common.core.formatting import duration
from common.data.rows import to_rows
from common.data.table_reader import read_table
from common.data.table_writer import write_table
from common.predict import shards, slurm_array, workers
from common.predict.columns import check_free_columns, with_predictions
from common.predict.inputs import SEPARATOR, find_run, input_files, one_row, output_file
from common.predict.merge import check_free_output, merge_parts, merge_report, merge_summary
from common.predict.plan import PLAN, Plan, create_plan, plan_folder, plan_lock, read_plan
from common.predict.scorer import Scorer
from common.runs import run_folder


def main(argv: list[str] | None = None) -> int | None:
    """Predict for one text, one file, or shards of many rows; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "seed", "outputs", "force")
    add = parser.add_argument
    add("--run", metavar="DIR", type=options.path, help="a run folder, wherever it lies, not --model")
    add("--adapter", metavar="DIR", type=options.path, help="with --model: an adapter that peft saved")
    add("--input", metavar="FILE", type=options.path, help="a table with the dataset's text columns")
    add("--output", metavar="FILE", type=options.path, help="default: <input>.predicted.<format>")
    add("--text", help=f"one text instead of a file; a pair is written 'first {SEPARATOR} second'")
    add(
        "--shards",
        metavar="N",
        type=options.positive,
        help="divide the rows in N shards: an array of jobs, or processes",
    )
    add(
        "--processes",
        metavar="P",
        type=options.positive,
        help="with --shards: here, side by side (default: GPUs, or 1)",
    )
    add("--cluster", metavar="NAME", default=AUTO, help="with --shards: slurm/<NAME>.yaml, local or auto")
    add("--resources", metavar="KEY=VALUE", nargs="+", default=[], help="with --shards on a cluster: over its profile")
    add("--plan", metavar="DIR", type=options.path, help="<output>.shards, with --shard or --merge")
    add("--shard", metavar="K", type=_numbers, nargs="+", help="with --plan: work off these shards (from 0): 3 8-11")
    add(
        "--lane", metavar=("I", "N"), type=int, nargs=2, help="with --shard: every N-th of them, from the I-th (from 0)"
    )
    add("--merge", action="store_true", help="with --plan: check that every row is there once, write the output")
    request, flags = options.parse(parser, argv)
    if sum(value is not None for value in (flags.input, flags.text, flags.plan)) != 1:
        raise errors.ConfigError("give either INPUT=<file> or TEXT=<text> (or --plan)")
    if (flags.plan is not None) != (flags.shard is not None or flags.merge):
        raise errors.ConfigError("--plan goes with --shard or --merge, and those with --plan alone")
    if flags.plan is not None and (request.model or flags.run or flags.adapter):
        raise errors.ConfigError("--plan knows its model and its rows; give it with --shard or --merge alone")
    if flags.lane is not None and (flags.shard is None or not 0 <= flags.lane[0] < flags.lane[1]):
        raise errors.ConfigError("--lane I N goes with --shard; I is a whole number from 0 to N - 1")
    if flags.processes is not None and flags.shards is None:
        raise errors.ConfigError("PROCESSES goes with SHARDS")
    if flags.text is not None and flags.shards is not None:
        raise errors.ConfigError("SHARDS divides the rows of an INPUT; one TEXT has none to divide")
    if flags.plan is not None:
        first, every = flags.lane or (0, 1)
        numbers = [number for span in flags.shard or [] for number in span]
        return _continue(read_plan(flags.plan), numbers[first::every], flags.merge)
    folder, config = find_run(request, flags.run, flags.adapter)
    model = Scorer(config, flags.adapter or folder / run_folder.MODEL, flags.adapter is not None)
    if flags.text is not None:
        row = one_row(flags.text, config.dataset)
        _print_one(model([row])[0], config.dataset.labels)
        return 0
    files = input_files(flags.input)
    output = output_file(flags.output, flags.input, files)
    if flags.shards is not None:
        return _in_shards(output, files, model, request.outputs, flags)
    if files != [flags.input]:
        raise errors.ConfigError(f"INPUT={flags.input} means {len(files)} files; they are labelled with SHARDS=1")
    if output.exists() and not flags.force:
        raise errors.RunError(f"{output} exists already; give another OUTPUT=, or FORCE=1 to replace it.")
    frame = read_table(flags.input)
    labels = config.dataset.labels
    check_free_columns(frame.columns.tolist(), labels, flags.input)
    rows = to_rows(frame, config.dataset, str(flags.input), "input", labelled=False)
    start = time.perf_counter()
    scores = model(rows)
    seconds = time.perf_counter() - start
    write_table(output, with_predictions(frame, scores, labels))
    rate = len(rows) / seconds
    print(f"{output}: {len(rows)} rows labelled in {duration(seconds)} ({rate:.1f} rows/s, loading included)")
    return 0


def _in_shards(output: Path, files: Sequence[Path], model: Scorer, outputs: Path, flags: argparse.Namespace) -> int:
    folder = plan_folder(output)
    if output.exists() and not flags.force and not (folder / PLAN).exists():
        raise errors.RunError(f"{output} exists already; give another OUTPUT=, or FORCE=1 to replace it.")
    how = (model.config, model.folder, model.adapter, flags.shards, flags.force)
    with plan_lock(output):
        if flags.force or not (folder / PLAN).exists():  # what lies there is deleted
            slurm_array.check_not_submitted(folder)
        plan = create_plan(output, files, *how)
        print(
            f"{options.shown(plan.folder)}: {plan.rows} rows of {len(files)} files in {plan.shards} shards", flush=True
        )
        is_left = not merge_report(plan)
        if is_left:
            check_free_output(plan)
            cluster = choose_cluster("local" if flags.processes else flags.cluster, outputs)
            if cluster.profile.executor == SLURM:
                print(slurm_array.submit(plan, outputs, cluster, yaml_io.split_overrides(flags.resources)))
                return 0
    if is_left:  # hours, in which others may read the plan
        workers.score_shards(plan, flags.processes, model)
    return _continue(plan, [], merge=True)


def _continue(plan: Plan, numbers: Sequence[int], merge: bool) -> int:
    model = Scorer(run_folder.load_run_config(plan.folder), plan.model, plan.adapter)
    for number in numbers:
        shards.score_shard(plan, number, model)
    if merge:
        print(merge_summary(plan, merge_report(plan) or merge_parts(plan)))
    return 0


def _numbers(text: str) -> range:
    found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", text)
    if found is None or not (numbers := range(int(found[1]), int(found[2] or found[1]) + 1)):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of a shard; allowed are such as 3 or 8-11")
    return numbers


def _print_one(scores: np.ndarray, labels: Sequence[Label]) -> None:
    print(labels[int(scores.argmax())])
    for index in np.argsort(-scores):
        print(f"  {labels[index]!s:<12} {np.exp(scores[index]):.4f}")


if __name__ == "__main__":
    sys.exit(guard(main))
