"""More labels? Train a job on growing parts of the train rows, and print what more rows would bring.

    python scripts/curve.py --model minilm-lora --dataset mine
    make curve MODEL=minilm-lora                         10, 20, 40, 70 and 100 % of train; tfidf and embedding, too
    make curve MODEL=minilm-lora SEEDS=1,2,3 SIZES=5,25,50,100
    make curve MODEL=minilm-lora PER_LABEL=1             8, 16, 32 and 64 rows of each label
    make curve MODEL=smollm2-135m-prompt BASELINE=few-shot PER_LABEL=1 SIZES=1,2,4,8
    make curve DATASET=emotion BASELINE=tfidf
    make submit MODEL=minilm-lora SIZES=10,20,40,70,100  the same runs as jobs; afterwards make curve prints the curve

Every size is a variant with a folder of its own: a finished one is skipped, an interrupted one resumes. A size that
fails does not stop the others. The curve is also in `make report`; its runs are in no other table.
"""

import sys
from pathlib import Path

from common.cli import curve_points, options
from common.cli.main import guard
from common.cluster.selection import Fingerprints, RunSpec, runs_of_job
from common.config.run_request import RunRequest
from common.core import errors
from common.report import curve_plots, curve_tables, curves, results, statistics
from common.runs import run_folder

SCRIPTS = Path(__file__).parent


def main(argv: list[str] | None = None) -> int:
    """Do the runs that are left, then print the curve; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "data", "baseline", "outputs")
    parser.add_argument(
        "--seeds", "--seed", metavar="N,…", type=options.seeds, default=(1,), help="one run for each seed (default 1)"
    )
    curve_points.add_options(parser)
    request, flags = options.parse(parser, argv)
    points = curve_points.with_seeds(curve_points.expand(request, flags.sizes, flags.per_label), flags.seeds)
    runs = [(point, spec) for point in points for spec in runs_of_job(point, (point.seed or 0,))]
    left = find_unfinished(runs)
    if len(left) < len(runs):
        print(f"{len(runs) - len(left)} of {len(runs)} runs are finished and are skipped.")
    failed = []
    for number, (point, spec) in enumerate(left, 1):
        print(f"[{number}/{len(left)}] {spec.command}", flush=True)
        code = options.run([str(SCRIPTS / f"{spec.verb}.py"), *options.words(point)])
        if code == errors.Interrupted.exit_code:
            return code
        if code:
            failed.append((code, f"  {spec.command}  (exit code {code})"))
    show(runs[0][1].dataset_name, flags.per_label, request.outputs)
    if failed:
        lines = [f"error: {len(failed)} of {len(runs)} runs failed:", *(line for _, line in failed)]
        print("\n".join(lines), file=sys.stderr)
        return failed[0][0]
    return 0


def find_unfinished(runs: list[tuple[RunRequest, RunSpec]]) -> list[tuple[RunRequest, RunSpec]]:
    """Return the runs that are not finished; a `RunError` where a finished one has other settings or rows than now."""
    fingerprints, left = Fingerprints(), []
    for point, spec in runs:
        if run_folder.is_finished(spec.folder):
            run_folder.create_run(spec.folder, fingerprints.config(spec), spec.command)  # refuses a changed job
        else:
            left.append((point, spec))
    return left


def show(dataset: str, per_label: bool, outputs: Path) -> None:
    """Print table, sentences and plot of the curves of one dataset and kind of sample, those of other jobs, too."""
    everything = results.load_all(outputs, statistics.Cache(outputs / statistics.FOLDER))
    found = [one for one in curves.find(everything) if (one.lead.dataset, one.per_label) == (dataset, per_label)]
    if not found:
        print("There is no curve yet: it needs two sizes or more.")
    for text in curve_tables.lines(found):
        print(f"\n{text}")
    for path in curve_plots.draw(found, outputs / "plots"):
        print(f"\n{options.shown(path)}: written")


if __name__ == "__main__":
    sys.exit(guard(main))
