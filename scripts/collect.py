"""Collect finished runs and regenerate the README's tables and plots.

    python scripts/collect.py              outputs/ → outputs/published/ → README.md and plots
    python scripts/collect.py --check      fail, naming the cell, where the README differs from outputs/published/
    python scripts/collect.py --here --outputs outputs/demo     print the tables of those runs; publish nothing
    make report [CHECK=1] [HERE=1]

The README's tables come from outputs/published/ alone, which is committed: anyone can regenerate them. Runs of the demo
are never published. Needs no torch.
"""

import os
import sys
from pathlib import Path

from common import cli, errors, grids, plots, reports, results
from common.catalog import ROOT
from common.files import write_text
from common.tables import text_table


def main(argv: list[str] | None = None) -> None:
    """Collect and report; see the module."""
    parser = cli.parser(__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; write nothing")
    parser.add_argument(
        "--here", action="store_true", help="print the tables of --outputs; plots go to <outputs>/plots"
    )
    parser.add_argument(
        "--published", metavar="DIR", type=cli.path, default=results.PUBLISHED, help="default outputs/published"
    )
    parser.add_argument("--readme", metavar="FILE", type=cli.path, default=ROOT / "README.md", help="default README.md")
    arguments = parser.parse_args(argv)
    if arguments.here:
        show(arguments.outputs)
        return
    if not arguments.readme.is_file():
        raise errors.ReportError(f"{arguments.readme}: there is no such file.")
    if not arguments.check:
        for folder in results.publish(arguments.outputs, arguments.published):
            print(f"published {cli.shown(folder)}")
    found = results.load(arguments.published)
    folder = arguments.published / "plots"
    pictures = {}
    for dataset in reports.datasets(found):
        members = [result for result in found if result.dataset == dataset]
        paths = folder.glob(f"{dataset}.*.png") if arguments.check else plots.draw(dataset, members, folder)
        pictures[dataset] = [os.path.relpath(path, arguments.readme.parent) for path in sorted(paths)]
    contents = reports.blocks(found, pictures)
    text = arguments.readme.read_text(encoding="utf-8")
    if arguments.check:
        reports.compare(text, contents, arguments.readme)
        print(f"{cli.shown(arguments.readme)}: every cell agrees with {cli.shown(arguments.published)}")
        return
    renewed = reports.insert(text, contents, arguments.readme)
    if renewed != text:
        write_text(arguments.readme, renewed)
    note = "" if renewed != text else ", unchanged"
    print(f"{cli.shown(arguments.readme)}: {len(found)} results in {len(pictures)} tables{note}")


def show(outputs: Path) -> None:
    """Print the tables of the finished runs below a folder, and draw their plots."""
    found = results.load(outputs)
    if not found:
        raise errors.ReportError(f"{outputs}: no finished run is here.")
    for dataset in reports.datasets(found):
        members = [result for result in found if result.dataset == dataset]
        for job, table in reports.result_tables(members):
            print(f"\nResults on {dataset} (test, %){f': {job}' if job else ''}\n\n{text_table(*table)}")
        if grids.has_errors_to_show(members):
            print(f"\nMisidentified (test, % of a label's rows)\n\n{text_table(*reports.errors_table(members))}")
        if any(result.with_train() for result in members):
            print(f"\nTrain and test (accuracy in %, loss in nats)\n\n{text_table(*reports.fit_table(members))}")
        print(f"\nCost\n\n{text_table(*reports.cost_table(members))}")
        print("\nPlots")
        for path in plots.draw(dataset, members, outputs / "plots"):
            print(f"  {cli.shown(path)}")


if __name__ == "__main__":
    sys.exit(errors.guard(main))
