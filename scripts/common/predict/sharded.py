"""Predict an input in shards: make its plan or resume it, score the shards here or on a cluster, and merge them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from common.cli.options import shown
from common.cluster.scheduler import AUTO, SLURM, choose_cluster
from common.core import yaml_io
from common.predict import shards, slurm_array, workers
from common.predict.create_plan import create_plan
from common.predict.decision import PLAIN, Decision
from common.predict.inputs import check_free_output
from common.predict.merge import merge_parts, merge_report, merge_summary
from common.predict.plan import PLAN, Plan, plan_folder, plan_lock
from common.predict.scorer import Scorer
from common.runs import run_folder


@dataclasses.dataclass(frozen=True)
class Sharding:
    """How the rows are divided, and where the shards are scored.

    Attributes:
        shards: how many.
        processes: side by side on this machine; None is the number of GPUs, or 1.
        cluster: CLUSTER=, a profile, "local" or "auto"; with `processes` the machine is this one.
        resources: words of RESOURCES=.
        safe_csv: SAFE_CSV=.
        decision: what is made of the scores.
    """

    shards: int
    processes: int | None = None
    cluster: str = AUTO
    resources: Sequence[str] = ()
    safe_csv: bool = True
    decision: Decision = PLAIN


def predict_in_shards(
    output: Path, files: Sequence[Path], scorer: Scorer, outputs: Path, sharding: Sharding, force: bool
) -> str:
    """Predict an input in shards, or submit what is left of them, and return a line that says what was done.

    Args:
        output: the table that the merge writes.
        files: the input.
        scorer: scores the rows where this process does it.
        outputs: the folder of all run folders, where `make status` looks for plans.
        sharding: how many shards, and where.
        force: start over, and replace an existing output.

    Raises:
        RunError: the output exists, another prediction was planned there, or its jobs are still queued or running.
    """
    folder = plan_folder(output)
    with plan_lock(output):
        is_new = force or not (folder / PLAN).exists()
        if is_new:
            check_free_output(output, force)
            slurm_array.check_not_submitted(folder)  # a new plan deletes the folder
        plan = create_plan(
            *(output, files, scorer.config, scorer.folder, scorer.adapter, sharding.shards, force),
            safe_csv=sharding.safe_csv,
            decision=sharding.decision,
        )
        print(f"{shown(plan.folder)}: {plan.rows} rows of {len(files)} files in {plan.shards} shards", flush=True)
        if report := merge_report(plan):
            return merge_summary(plan, report)
        check_free_output(plan.output, plan.replace)
        cluster = choose_cluster("local" if sharding.processes else sharding.cluster, outputs)
        if cluster.profile.executor == SLURM:
            return slurm_array.submit(plan, outputs, cluster, yaml_io.split_overrides(list(sharding.resources)))
    scorer.announce()
    workers.score_shards(plan, sharding.processes, scorer)  # without the lock: it may take hours
    return merge(plan)


def score_planned(plan: Plan, numbers: Sequence[int]) -> None:
    """Score some shards of a plan in this process."""
    scorer = Scorer(run_folder.load_run_config(plan.folder), plan.model, plan.adapter)
    if numbers:
        scorer.announce()
    for number in numbers:
        shards.score_shard(plan, number, scorer)


def merge(plan: Plan) -> str:
    """Merge the parts of a plan unless that is done, and return a line that says so."""
    return merge_summary(plan, merge_report(plan) or merge_parts(plan))
