"""Submit runs as single-GPU Slurm jobs, or to this machine's queue where there is no Slurm.

    python scripts/submit.py --model minilm-lora --seeds 1,2,3
    python scripts/submit.py --model gemma-2-9b-it --baseline zero-shot --resources time=02:00:00
    python scripts/submit.py --model minilm-lora --sizes 10,20,40,70,100     the runs of its learning curve (make curve)
    python scripts/submit.py --all --jobs "mistral-* llama-*"     all their runs and baselines
    python scripts/submit.py --all --dry-run                      ask Slurm whether it would accept them
    make submit MODEL=… | make submit-all [JOBS=] [SEEDS=] [CLUSTER=] | make submit-check

The same command again submits only what is left: it skips runs that are finished, queued or running, resumes runs that
were interrupted, and refuses runs whose configuration has changed, with the differences. Needs no torch.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library is imported: a submission downloads nothing

from common.cli import curve_points, options
from common.cli.main import guard
from common.cluster import batch_script, profiles, selection, submit_record, submit_runs
from common.cluster.scheduler import AUTO, SLURM, Cluster, choose_cluster
from common.cluster.task import make_task
from common.config.catalog import CODE
from common.core import errors, yaml_io
from common.core.formatting import printable, text_table
from common.data import leaks
from common.data.load import load_rows


def main(argv: list[str] | None = None) -> int:
    """Submit; see the module."""
    parser = options.parser(
        __doc__, "model", "dataset", "set", "folds", "data", "baseline", "shots", "outputs", "force", "strict"
    )
    parser.add_argument("--all", action="store_true", help="all jobs and their baselines, and a report at the end")
    parser.add_argument("--jobs", metavar="PATTERN", default="*", help="with --all: only jobs of these names")
    parser.add_argument(
        "--seeds", "--seed", metavar="N,…", type=options.seeds, default=(1,), help="one run for each seed (default 1)"
    )
    curve_points.add_options(parser)
    parser.add_argument("--cluster", metavar="NAME", default=AUTO, help="slurm/<NAME>.yaml, local or auto")
    parser.add_argument("--resources", metavar="KEY=VALUE", nargs="+", default=[], help="override profile and job")
    parser.add_argument("--dry-run", action="store_true", help="ask Slurm whether it would accept them; queue nothing")
    request, flags = options.parse(parser, argv)
    if flags.all == (request.model is not None):
        raise errors.ConfigError("give MODEL=<job>; make submit-all submits every job")
    if flags.all and request.baseline:
        raise errors.ConfigError("BASELINE= goes with MODEL=; make submit-all submits every baseline")
    has_curve = flags.per_label or flags.sizes is not None
    if has_curve and (flags.all or flags.folds):
        raise errors.ConfigError("SIZES= and PER_LABEL= go with MODEL=, without FOLDS=; they are those of make curve")
    if flags.all:
        specs, skipped = selection.runs_of_all_jobs(request, flags.jobs, flags.seeds, flags.folds)
    else:
        requests = curve_points.expand(request, flags.sizes, flags.per_label) if has_curve else [request]
        specs = [one for each in requests for one in selection.runs_of_job(each, flags.seeds, flags.folds)]
        skipped = []
    unread = check_strict(specs) if flags.strict else {}
    cluster = choose_cluster(flags.cluster, request.outputs)
    given = yaml_io.split_overrides(flags.resources, "RESOURCES", "time=02:00:00")
    if flags.dry_run:
        return dry_run(specs, skipped, request.outputs, cluster, given, unread)
    how = submit_runs.Options(given, force=flags.force, of_all_jobs=flags.all)
    found = submit_runs.submit_runs(specs, skipped, request.outputs, cluster, how)
    print(text_table(("run", "what", "job"), [(one.name, one.action, one.job_id) for one in found]))
    print(printable(_reasons([(f"{one.name}: {one.action}", one.detail) for one in found if one.detail])))
    actions = sorted({one.action for one in found})
    counts = ", ".join(f"{sum(one.action == action for one in found)} {action}" for action in actions)
    print(f"{cluster.name}: {counts}. make status shows their state.")
    return errors.RunError.exit_code if any(one.is_failure for one in found) else 0


def check_strict(specs: list[selection.RunSpec]) -> dict[selection.RowsKey, str]:
    """Raise a `DataError` when a dataset of the runs has leaks or contradictory labels; nothing is submitted then.

    Returns:
        {`selection.rows_of`: why these rows cannot be read}: a submission refuses the runs on these.
    """
    unread = {}
    datasets = {selection.rows_of(spec): spec.dataset for spec in specs}
    for key, dataset in datasets.items():
        name, _, data_dir = key
        try:
            rows = load_rows(dataset, data_dir)
        except errors.DataError as error:
            unread[key] = str(error)
            continue
        try:
            leaks.check_strict(leaks.find_leaks(rows, rows.dataset))
        except errors.DataError as error:
            raise errors.DataError(f"dataset {name}: {error}") from error
    return unread


def dry_run(
    specs: list[selection.RunSpec],
    skipped: list[selection.Skipped],
    outputs: Path,
    cluster: Cluster,
    given: dict[str, object],
    unread: dict[selection.RowsKey, str],
) -> int:
    """Print whether the scheduler would accept every run, queue none, and return an exit code.

    Args:
        specs: of `selection`.
        skipped: of `selection`.
        outputs: the folder of all runs.
        cluster: the scheduler and its profile.
        given: RESOURCES=.
        unread: of `check_strict`.
    """
    if cluster.profile.executor == SLURM:
        batch_script.check_log_path(outputs.resolve())
    refused = [(f"{one.name}: left out", one.reason) for one in skipped]
    said = []
    with tempfile.TemporaryDirectory() as place:
        for spec in specs:
            resources = spec.job.resources if spec.job else None
            request = profiles.for_job(cluster.profile, resources, given, gpu=spec.job is not None)
            command = [spec.verb, "--run", str(spec.folder)]
            task = make_task(submit_record.job_name(spec.folder), command, Path(place), CODE)
            run = str(spec.folder.relative_to(outputs))
            if problem := unread.get(selection.rows_of(spec)):
                refused.append((f"{run}: refused", f"STRICT: {problem}"))
                continue
            try:
                profiles.check_card(request, spec.job)
                said.append(cluster.scheduler.check(task, request))
            except errors.PeftableError as error:
                if isinstance(error, errors.SlurmError) and error.is_silent:
                    raise
                refused.append((f"{run}: refused", str(error)))
    if said:
        print(f"{cluster.name}: {len(said)} of {len(specs)} runs would be accepted. Of the first it says:")
        print(f"  {said[0]}")
    print(printable(_reasons(refused)), end="")
    return errors.SlurmError.exit_code if len(said) < len(specs) else 0


def _reasons(found: list[tuple[str, str]]) -> str:
    """Return the reasons of some runs, each reason once, followed by the runs that have it."""
    by_reason: dict[str, list[str]] = {}
    for run, reason in found:
        by_reason.setdefault(reason, []).append(run)
    return "".join(f"\n{reason}\n" + "".join(f"  {run}\n" for run in runs) for reason, runs in by_reason.items())


if __name__ == "__main__":
    sys.exit(guard(main))
