"""Predict one table or one text in this process."""

import shutil
import time
from pathlib import Path

import numpy as np

from common.core.formatting import duration
from common.predict import slurm_array
from common.predict.create_plan import create_plan
from common.predict.decision import PLAIN, Decision
from common.predict.inputs import check_free_output, one_row
from common.predict.merge import abstained_line, merge_parts
from common.predict.plan import PLAN, plan_folder, plan_lock
from common.predict.scorer import Scorer
from common.predict.shards import score_shard


def predict_table(
    source: Path,
    output: Path,
    scorer: Scorer,
    force: bool = False,
    safe_csv: bool = True,
    decision: Decision = PLAIN,
) -> str:
    """Write a table with the prediction columns added, and return a line that says so.

    It is a plan of one shard, which is deleted at the end: the rows are read in parts, all are checked before the first
    is scored, and the same command resumes.

    Args:
        source: the table.
        output: the file to write.
        scorer: scores the rows.
        force: start over, and replace an existing output.
        safe_csv: whether csv and tsv files get no formulas in the columns that are added.
        decision: what is made of the scores.

    Raises:
        DataError: a row is wrong, or the table has a column of that name already.
        RunError: the output exists, or another prediction was planned there.
    """
    start = time.perf_counter()
    folder = plan_folder(output)
    with plan_lock(output):
        if force or not (folder / PLAN).exists():
            check_free_output(output, force)
            slurm_array.check_not_submitted(folder)
        print(f"{source}: all rows are checked first", flush=True)
        model = scorer.config, scorer.folder, scorer.adapter
        plan = create_plan(output, [source], *model, shards=1, force=force, safe_csv=safe_csv, decision=decision)
    scorer.announce()
    score_shard(plan, 0, scorer)
    report = merge_parts(plan)
    shutil.rmtree(folder)
    seconds = time.perf_counter() - start
    line = (
        f"{output}: {plan.rows} rows predicted in {duration(seconds)} ({plan.rows / seconds:.1f} rows/s, all included)"
    )
    return "; ".join(filter(None, [line, abstained_line(report)]))


def predict_text(text: str, scorer: Scorer, decision: Decision) -> str:
    """Return the predicted label of TEXT=, then a line for each label with its probability, the most probable first.

    Raises:
        DataError: the dataset needs another number of texts.
    """
    labels = scorer.config.dataset.labels
    calibrated = decision.calibrated(scorer([one_row(text, scorer.config.dataset)]))
    scores, place = calibrated[0], int(decision.predicted(calibrated)[0])
    lines = [f"  {labels[index]!s:<12} {np.exp(scores[index]):.4f}" for index in np.argsort(-scores)]
    left = " (abstained: leave it to a person)" if decision.abstention and decision.abstains(calibrated)[0] else ""
    return "\n".join([f"{labels[place]}{left}", *lines])
