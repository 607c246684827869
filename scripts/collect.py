"""Collect finished runs and regenerate the README's tables and plots.

    python scripts/collect.py              outputs/ → outputs/published/ → README.md and plots
    python scripts/collect.py --check      fail, naming the cell, where the README differs from outputs/published/
    python scripts/collect.py --expect FILE      list the runs of it that have not ended well, and fail
    python scripts/collect.py --here --outputs outputs/demo     print the tables of those runs; publish nothing
    make report [CHECK=1] [HERE=1]

The README's tables come from outputs/published/ alone, which is committed: anyone can regenerate them. Runs of the demo
are never published. Needs no torch.
"""

import os
import sys
from pathlib import Path

from common.cli import options
from common.cli.main import guard
from common.config.catalog import ROOT
from common.core import errors
from common.core.files import read_json, write_text
from common.core.formatting import text_table
from common.report import plots, readme_tables, results, variant_grid
from common.runs import run_folder


def main(argv: list[str] | None = None) -> None:
    """Collect and report; see the module."""
    parser = options.parser(__doc__, "outputs")
    parser.add_argument("--check", action="store_true", help="compare only; write nothing")
    parser.add_argument(
        "--here", action="store_true", help="print the tables of --outputs; plots go to <outputs>/plots"
    )
    parser.add_argument(
        "--published", metavar="DIR", type=options.path, default=results.PUBLISHED, help="default outputs/published"
    )
    parser.add_argument(
        "--readme", metavar="FILE", type=options.path, default=ROOT / "README.md", help="default README.md"
    )
    parser.add_argument(
        "--expect",
        metavar="FILE",
        type=options.path,
        help="JSON with the runs that should be there; a missing one fails",
    )
    request, flags = options.parse(parser, argv)
    try:
        if flags.here:
            show(request.outputs)
        else:
            report(request.outputs, flags.published, flags.readme, flags.check)
    except Exception as error:
        if flags.expect:  # else nobody is told which runs failed
            print(f"no report: {error}", file=sys.stderr)
            check_expected(flags.expect, request.outputs)
        raise
    if flags.expect:
        check_expected(flags.expect, request.outputs)


def report(outputs: Path, published: Path, readme: Path, check: bool) -> None:
    """Publish the finished runs, and renew the README's tables and plots, or compare them."""
    if not readme.is_file():
        raise errors.ReportError(f"{readme}: there is no such file.")
    if not check:
        for folder in results.publish(outputs, published):
            print(f"published {options.shown(folder)}")
    found = results.load(published)
    folder = published / "plots"
    pictures = {}
    for dataset in readme_tables.datasets(found):
        members = [result for result in found if result.dataset == dataset]
        paths = folder.glob(f"{dataset}.*.png") if check else plots.draw(dataset, members, folder)
        pictures[dataset] = [os.path.relpath(path, readme.parent) for path in sorted(paths)]
    contents = readme_tables.blocks(found, pictures)
    text = readme.read_text(encoding="utf-8")
    if check:
        readme_tables.compare(text, contents, readme)
        print(f"{options.shown(readme)}: every cell agrees with {options.shown(published)}")
        return
    renewed = readme_tables.insert(text, contents, readme)
    if renewed != text:
        write_text(readme, renewed)
    note = "" if renewed != text else ", unchanged"
    print(f"{options.shown(readme)}: {len(found)} results in {len(pictures)} tables{note}")


def check_expected(expected: Path, outputs: Path) -> None:
    """Raise a `RunError` that lists the runs which have no metrics."""
    names = read_json(expected)["runs"]
    if missing := [name for name in names if not (outputs / name / run_folder.METRICS).exists()]:
        raise errors.RunError(
            f"{len(missing)} of {len(names)} runs have not ended well (make status says why; make submit-all goes on):"
            + "".join(f"\n  {name}" for name in missing)
        )


def show(outputs: Path) -> None:
    """Print the tables of the finished runs below a folder, and draw their plots."""
    found = results.load(outputs)
    if not found:
        raise errors.ReportError(f"{outputs}: no finished run is here.")
    for dataset in readme_tables.datasets(found):
        members = [result for result in found if result.dataset == dataset]
        for job, table in readme_tables.result_tables(members):
            print(f"\nResults on {dataset} (test, %){f': {job}' if job else ''}\n\n{text_table(*table)}")
        if variant_grid.has_errors_to_show(members):
            print(f"\nMisidentified (test, % of a label's rows)\n\n{text_table(*readme_tables.errors_table(members))}")
        if any(result.with_train() for result in members):
            print(f"\nTrain and test (accuracy in %, loss in nats)\n\n{text_table(*readme_tables.fit_table(members))}")
        print(f"\nCost\n\n{text_table(*readme_tables.cost_table(members))}")
        print("\nPlots")
        for path in plots.draw(dataset, members, outputs / "plots"):
            print(f"  {options.shown(path)}")


if __name__ == "__main__":
    sys.exit(guard(main))
