"""Measure what a job costs on this machine: memory and speed of training and of scoring, with random weights.

    python scripts/bench.py --model llama-3.1-8b
    python scripts/bench.py --model llama-3.1-8b --set training.token_budget=2048 --memory-gb 24 --json
    make bench MODEL=llama-3.1-8b SET="training.token_budget=2048" MEMORY_GB=24

The model has its true shape, method, head and quantisation, the rows are random tokens, the longest of max_length:
nothing is downloaded, no data are read, nothing is written. The figures are of hardware, never of accuracy. On a GPU
no more than --memory-gb is taken (default 14.5, what a card of 16 GB leaves); exit code 4 says that the job needs more.

    python scripts/bench.py --compare                                  three jobs, some 15 minutes on two cores
    python scripts/bench.py --compare --model minilm-lora --dataset emotion --data-dir rows/emotion
    make bench COMPARE=1 [MODEL=…]

With --compare the job's model has its real weights and rows, and runs beside plain scripts for the same work
(`estimate/plain_baselines.py`): first both must have the same losses, gradients, scores and predictions, then they are
measured in turns. The figures go to outputs/published/bench/, of which `make report` makes the tables.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import sys
from typing import Any

from common.cli import options, sweeps
from common.cli.main import guard
from common.cli.target import Target, resolve_target
from common.config.run_request import RunRequest
from common.core.errors import ConfigError
from common.core.formatting import text_table
from common.data.load import load_all_splits
from common.report import speed
from common.report.results import PUBLISHED
from common.runs import provenance

_COMPARED = ("minilm-lora", "smollm2-135m-classification", "smollm2-135m-prompt")


def main(argv: list[str] | None = None) -> None:
    """Measure one job; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "data")
    parser.add_argument("--memory-gb", metavar="GB", type=_gigabytes, default=14.5, help="of a GPU at most (14.5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--compare", action="store_true", help="measure beside plain scripts; see above")
    parser.add_argument("--rounds", metavar="N", type=options.positive, default=3, help="with --compare: default 3")
    parser.add_argument("--rows", metavar="N", type=options.positive, help="with --compare: rows of a round")
    parser.add_argument("--published", metavar="DIR", type=options.path, default=PUBLISHED, help="with --compare")
    request, flags = options.parse(parser, argv)
    if flags.compare:
        compare(request, flags)
        return
    if request.data_dir:
        raise ConfigError("--data-dir (DATA_DIR=) goes with --compare (COMPARE=1): without it no rows are read.")
    target = resolve_target(sweeps.single_variant(request))
    from common.estimate import benchmark
    from common.model import device
    from common.model.load import quiet_libraries
    from common.train.arguments import check_training_arguments  # seconds to import

    quiet_libraries()
    hardware = provenance.hardware()
    found: dict[str, Any] = {
        "schema": 1,
        "job": target.job_name,
        "variant": target.variant,
        "dataset": target.dataset_name,
        "device": hardware["gpu"]
        or f"{hardware['cpu']}, {hardware['threads']} thread{'' if hardware['threads'] == 1 else 's'}",
        "weights": "random",
    }
    with contextlib.redirect_stdout(sys.stderr):  # nothing but the result on stdout
        device.announce()
        check_training_arguments(target.job, target.dataset, [])
        found |= benchmark.measure(target.job, target.dataset, 1e9 * flags.memory_gb)
    print(json.dumps(found, indent=2, ensure_ascii=False) if flags.json else _for_people(found, target))


def compare(request: RunRequest, flags: argparse.Namespace) -> None:
    """Compare one job, or those of the published table, with plain scripts."""
    provenance.of_process()
    targets = []
    for name in [request.model] if request.model else _COMPARED:
        targets.append(resolve_target(sweeps.single_variant(dataclasses.replace(request, model=name))))
    from common.estimate import comparison
    from common.model import device
    from common.model.load import quiet_libraries

    quiet_libraries()
    for target in targets:
        comparison.check(target.job)
    found = []
    with contextlib.redirect_stdout(sys.stderr) if flags.json else contextlib.nullcontext():
        device.announce()
        for target in targets:
            rows = load_all_splits(target.dataset, request.data_dir)
            print(f"{target.job_name} on {target.dataset_name}", flush=True)
            subject = comparison.Subject(
                target.job_name, target.job, target.dataset_name, rows.dataset, rows, flags.rows
            )
            found.append(comparison.compare(subject, flags.rounds))
            file = comparison.write(found[-1], flags.published / speed.FOLDER)
            print(f"{options.shown(file)}: written\n{text_table(*speed.table(found[-1:]))}", flush=True)
    if flags.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))


def _for_people(found: dict[str, Any], target: Target) -> str:
    job, variant = target.job, f" ({found['variant']})" if found["variant"] else ""
    cap = f", at most {found['memory_cap_bytes'] / 1e9:.2f} GB of it" if found["memory_cap_bytes"] else ""
    settings = f"{job.training.batch_size} rows a step, {job.training.token_budget:,} tokens a pass"
    return "\n".join(
        [
            f"job {found['job']}{variant}, random weights, rows of up to {job.max_length} random tokens",
            f"on {found['device']}{cap}",
            f"Parameters: {found['params_total_count']:,} in all, {found['params_trainable_count']:,} trainable",
            f"Training: {_figures(found, 'train')} ({settings}; {_estimate(found['memory_estimate_bytes'])})",
            f"Scoring: {_figures(found, 'score')} ({job.runtime.score_token_budget:,} tokens a pass; "
            f"{_estimate(found['memory_estimate_score_bytes'])})",
            "",
            "These figures are of hardware, never of accuracy: nothing was learned.",
        ]
    )


def _figures(found: dict[str, Any], name: str) -> str:
    peak = found[f"{name}_memory_peak_bytes"]
    memory = "GPU memory not measured: no GPU" if peak is None else f"peak memory {peak / 1e9:.2f} GB"
    return f"{found[f'{name}_tokens_per_s']:,.0f} tokens/s, {memory}"


def _estimate(size: int | None) -> str:
    return f"make check estimates {size / 1e9:.2f} GB on a GPU" if size else "make check has no estimate"


def _gigabytes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"'{text}' is given; allowed is a number above 0")


if __name__ == "__main__":
    sys.exit(guard(main))
