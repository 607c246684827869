"""Predict the labels of new texts with a trained run.

    python scripts/predict.py --model minilm-lora --input reviews.csv
    python scripts/predict.py --run outputs/stance-sample/minilm-lora/seed-1 --text "A claim. || A sentence."
    make predict MODEL=minilm-lora INPUT=reviews.csv OUTPUT=predicted.xlsx
    make predict MODEL=minilm-lora INPUT=corpus.parquet OUTPUT=predicted.parquet SHARDS=64
    python scripts/predict.py --plan predicted.parquet.shards --shard 3 8-11      score some shards, on any machine
    python scripts/predict.py --plan predicted.parquet.shards --merge

CALIBRATED, THRESHOLDS and ABSTAIN use what the run's validation rows have taught; the first one changes no label.

    make predict MODEL=minilm-lora INPUT=reviews.csv CALIBRATED=1 ABSTAIN=0.05

The input is xlsx, csv, tsv, jsonl or parquet (also .gz) with the dataset's text columns. The output has all columns of
the input and adds `predicted` and `probability_<label>`. It is written as a whole, and replaces a file only with
--force. With --shards the input may also be a folder or a pattern of files, and the same command resumes what was
interrupted.
"""

import argparse
import re
import sys

from common.cli import options
from common.cli.main import guard
from common.cluster.scheduler import AUTO
from common.config.run_request import RunRequest
from common.core import errors
from common.core.formatting import printable
from common.predict import sharded
from common.predict.decision import SCORES, decide, share
from common.predict.inputs import SEPARATOR, find_run, input_files, output_file
from common.predict.plan import read_plan
from common.predict.scorer import Scorer
from common.predict.table import predict_table, predict_text


def main(argv: list[str] | None = None) -> None:
    """Predict one text, one table, or many rows in shards; see the module."""
    request, flags = _parse(argv)
    if flags.plan is not None:
        plan, (worker, workers) = read_plan(flags.plan), flags.worker or (0, 1)
        numbers = [number for span in flags.shard or [] for number in span]
        sharded.score_planned(plan, numbers[worker::workers])
        if flags.merge:
            print(sharded.merge(plan))
        return
    model, config = find_run(request, flags.run, flags.adapter)
    scorer = Scorer(config, model, flags.adapter is not None)
    decision = decide(model, config, flags.calibrated, flags.thresholds, flags.abstain)
    for line in decision.lines:
        print(line)
    if flags.text is not None:
        print(printable(predict_text(flags.text, scorer, decision)))
        return
    files = input_files(flags.input)
    output = output_file(flags.output, flags.input, files)
    if flags.shards is not None:
        sharding = sharded.Sharding(
            flags.shards, flags.processes, flags.cluster, flags.resources, flags.safe_csv == "1", decision
        )
        print(sharded.predict_in_shards(output, files, scorer, request.outputs, sharding, flags.force))
        return
    if files != [flags.input]:
        raise errors.ConfigError(f"INPUT={flags.input} means {len(files)} files; give SHARDS=1 to predict them")
    print(predict_table(flags.input, output, scorer, flags.force, flags.safe_csv == "1", decision))


def _parse(argv: list[str] | None) -> tuple[RunRequest, argparse.Namespace]:
    """Return the run and the flags, having checked that these do not contradict each other."""
    parser = options.parser(__doc__, "model", "dataset", "set", "seed", "outputs", "force")
    add = parser.add_argument
    add("--run", metavar="DIR", type=options.path, help="a run folder, wherever it lies, instead of --model")
    add("--adapter", metavar="DIR", type=options.path, help="with --model: a folder that peft's save_pretrained wrote")
    add("--input", metavar="FILE", type=options.path, help="a table with the dataset's text columns")
    add("--output", metavar="FILE", type=options.path, help="default: <input>.predicted.<format>")
    add("--safe-csv", choices=("0", "1"), default="1", help="1: no formulas in the columns added to csv and tsv")
    add("--text", help=f"one text instead of a file; a pair is written 'first {SEPARATOR} second'")
    add("--calibrated", action="store_true", help="probabilities after the temperature that was fitted on validation")
    add(
        "--thresholds",
        metavar="SCORE",
        choices=SCORES,
        help="labels by the thresholds that are best on validation",
    )
    add("--abstain", metavar="E", type=share, help="leave rows to a person so that the others' error is at most E")
    add("--shards", metavar="N", type=options.positive, help="divide the rows: an array of Slurm jobs, or processes")
    add("--processes", metavar="P", type=options.positive, help="with --shards: at a time here (default: GPUs, or 1)")
    add("--cluster", metavar="NAME", default=AUTO, help="with --shards: slurm/<NAME>.yaml, local or auto")
    add("--resources", metavar="KEY=VALUE", nargs="+", default=[], help="with --shards: override the cluster's profile")
    add("--plan", metavar="DIR", type=options.path, help="<output>.shards, with --shard or --merge")
    add("--shard", metavar="K", type=_numbers, nargs="+", help="with --plan: score these shards (from 0): 3 8-11")
    add("--worker", metavar=("I", "N"), type=int, nargs=2, help="with --shard: this is worker I of N (from 0)")
    add("--merge", action="store_true", help="with --plan: check that every row is there once, and write the output")
    request, flags = options.parse(parser, argv)
    names_a_model = request.model or flags.run or flags.adapter
    given = {"CALIBRATED": flags.calibrated, "THRESHOLDS": flags.thresholds, "ABSTAIN": flags.abstain is not None}
    learned = [name for name, is_given in given.items() if is_given]
    contradictions = (
        (
            sum(value is not None for value in (flags.input, flags.text, flags.plan)) != 1,
            "give either INPUT=<file> or TEXT=<text> (or --plan)",
        ),
        (
            (flags.plan is not None) != (flags.shard is not None or flags.merge),
            "--plan needs --shard or --merge, and these need --plan",
        ),
        (flags.plan is not None and names_a_model, "--plan knows its model and its rows: give no other with it"),
        (
            flags.worker is not None and (flags.shard is None or not 0 <= flags.worker[0] < flags.worker[1]),
            "--worker I N goes with --shard; I is a whole number from 0 to N - 1",
        ),
        (flags.processes is not None and flags.shards is None, "PROCESSES goes with SHARDS"),
        (
            flags.adapter is not None and bool(learned),
            f"{' and '.join(learned)} needs the validation rows of a run; an ADAPTER has none",
        ),
        (flags.plan is not None and bool(learned), f"--plan goes without {' and '.join(learned)}"),
        (flags.text is not None and flags.shards is not None, "SHARDS divides the rows of an INPUT; a TEXT is one row"),
    )
    for is_found, message in contradictions:
        if is_found:
            raise errors.ConfigError(message)
    return request, flags


def _numbers(text: str) -> range:
    found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", text)
    if found is None or not (numbers := range(int(found[1]), int(found[2] or found[1]) + 1)):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of a shard; allowed are such as 3 or 8-11")
    return numbers


if __name__ == "__main__":
    sys.exit(guard(main))
