"""Publish finished runs, and write the tables and plots: README.md, outputs/published/README.md and an HTML report.

    python scripts/collect.py              outputs/ → outputs/published/ → tables and plots
    python scripts/collect.py --check      fail and name the cell where a page differs from outputs/published/
    python scripts/collect.py --expect FILE      fail and list the runs of FILE that have no metrics
    python scripts/collect.py --here --outputs outputs/demo     print the tables of these runs; publish nothing
    python scripts/collect.py --format latex     also write the tables to <outputs>/report/latex/
    make report [CHECK=1] [HERE=1] [FORMAT=markdown|latex|csv|xlsx]

The HTML report, <outputs>/report/index.html, also has every prediction with its text; it is not published.
The tables are computed from outputs/published/ alone, which is committed: everybody can write them again. The runs of
the demo are not published. Needs no torch.
"""

import html
import sys
from collections.abc import Sequence
from pathlib import Path

from common.cli import options
from common.cli.main import guard
from common.config.catalog import ROOT
from common.core import errors
from common.core.files import read_json, write_text
from common.core.formatting import shortened, text_table
from common.report import (
    ablations,
    comparison_tables,
    curve_plots,
    curve_tables,
    curves,
    finished_runs,
    formats,
    groups,
    hardware,
    html_report,
    notes,
    page,
    page_diff,
    plots,
    publish,
    readme_tables,
    records,
    results,
    speed,
    statistics,
    transfer,
    variant_grid,
)
from common.report.result import Result
from common.runs import run_folder

PAGE = "README.md"  # of outputs/published


def main(argv: list[str] | None = None) -> None:
    """Publish the finished runs and write the tables, or print the tables of an outputs folder."""
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
        help="JSON with the expected runs; fail where one has no metrics",
    )
    parser.add_argument("--format", choices=formats.FORMATS, help="also write the tables in this format")
    request, flags = options.parse(parser, argv)
    if flags.check and flags.format:
        raise errors.ConfigError("FORMAT has no effect with CHECK=1, which writes nothing. Leave one of them out.")
    cache = statistics.Cache(request.outputs / statistics.FOLDER)
    try:
        if flags.here:
            found = show(request.outputs, cache)
        else:
            found = report(request.outputs, flags.published, flags.readme, flags.check, cache)
        if flags.format:
            found_curves = load(request.outputs if flags.here else flags.published, cache)[1]
            write_tables(flags.format, found, found_curves, request.outputs)
    except Exception as error:
        if flags.expect:  # the list of failed runs is needed also when the report fails
            print(f"no report: {error}", file=sys.stderr)
            check_expected(flags.expect, request.outputs)
        raise
    if flags.expect:
        check_expected(flags.expect, request.outputs)
    check_whole(cache, *([] if flags.check else [request.outputs]), *([] if flags.here else [flags.published]))


def report(outputs: Path, published: Path, readme: Path, check_only: bool, cache: statistics.Cache) -> list[Result]:
    """Publish the finished runs and write all pages, or compare the tables with the published metrics.

    Returns:
        The published results.
    """
    if not readme.is_file():
        raise errors.ReportError(f"{readme}: there is no such file.")
    if not check_only:
        for folder in publish.publish(outputs, published, cache):
            print(f"published {options.shown(folder)}")
    found, found_curves = load(published, cache)
    say_left_out(published, cache)
    plot_files: dict[str, list[str]] = {}
    for dataset, members in readme_tables.datasets(found).items():
        folder = published / "plots"
        paths = folder.glob(f"{dataset}.*.png") if check_only else draw_anew(dataset, members, folder)
        plot_files[dataset] = [path.relative_to(published).as_posix() for path in sorted(paths)]
    if not check_only:
        draw_curves_anew(found_curves, published / "plots")
    block = page.readme_block(found)
    compared = speed.read(published)
    more = curve_tables.section(found_curves, curve_plots.of_page(published))
    whole = page.published_page(found, plot_files, notes.read(published), hardware.read(published), compared, more)
    text = readme.read_text(encoding="utf-8")
    ratios = speed.headlines(compared)
    if check_only:
        page_diff.compare(page_diff.marked(text, speed.BLOCK, readme), ratios, readme)
        check(readme, page_diff.marked(text, page.BLOCK, readme), block)
        check(published / PAGE, _text(published / PAGE), whole)
        return found
    new = page_diff.insert(page_diff.insert(text, page.BLOCK, block, readme), speed.BLOCK, ratios, readme)
    write(readme, text, new)
    write(published / PAGE, _text(published / PAGE), whole)
    if found or found_curves:
        about = notes.read(published)
        _written(html_report.write(found, published, outputs, about, records.standings(found), found_curves))
    return found


def load(folder: Path, cache: statistics.Cache) -> tuple[list[Result], list[curves.Curve]]:
    """Return the results below a folder, and its learning curves, whose points are not among the results."""
    everything = results.load_all(folder, cache)
    return [result for result in everything if result.curve_rows is None], curves.find(everything)


def draw_anew(dataset: str, members: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the plots of one dataset, remove those that are no longer due, and return their files."""
    drawn = draw(dataset, members, folder)
    for path in set(folder.glob(f"{dataset}.*.png")) - set(drawn):
        path.unlink()
    return drawn


def draw_curves(found: Sequence[curves.Curve], folder: Path) -> list[Path]:
    """Draw the learning curves and return their files; where they cannot be drawn it is said, and stops nothing."""
    try:
        return curve_plots.draw(found, folder)
    except errors.PeftableError:
        raise
    except Exception as error:  # of matplotlib
        _say_not_drawn("learning curves", error)
        return curve_plots.files(folder)


def draw_curves_anew(found: Sequence[curves.Curve], folder: Path) -> None:
    """Draw the learning curves, and remove the plots of those that are no longer there."""
    drawn = draw_curves(found, folder)
    for path in set(curve_plots.files(folder)) - set(drawn):
        path.unlink()


def draw(dataset: str, members: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the plots of one dataset and return their files; one that cannot be drawn is said, and stops no other."""
    try:
        return plots.draw(dataset, members, folder)
    except errors.PeftableError:
        raise
    except Exception as error:  # of matplotlib: texts and numbers that it cannot draw
        _say_not_drawn(dataset, error)
        return list(folder.glob(f"{dataset}.*.png"))


def _say_not_drawn(what: str, error: Exception) -> None:
    reason = shortened(" ".join(str(error).split()), 300)
    print(f"{what}: not all of its plots could be drawn: {type(error).__name__}: {reason}", file=sys.stderr)


def check(file: Path, found: str, wanted: str) -> None:
    """Raise a `ReportError` that names the first cell in which the generated text of a file differs."""
    page_diff.compare(found, wanted, file)
    print(f"{options.shown(file)}: every cell agrees with the published metrics")


def write(file: Path, before: str, text: str) -> None:
    """Write a file whose text has changed."""
    if text != before:
        write_text(file, text)
    print(f"{options.shown(file)}: {'unchanged' if text == before else 'written'}")


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def check_expected(expected: Path, outputs: Path) -> None:
    """Raise a `RunError` that lists the expected runs without metrics."""
    names = read_json(expected)["runs"]
    if missing := [name for name in names if not run_folder.is_finished(outputs / name)]:
        raise errors.RunError(
            f"{len(missing)} of {len(names)} runs have no metrics (make status says why; make submit-all resumes them):"
            + "".join(f"\n  {name}" for name in missing)
        )


def check_whole(cache: statistics.Cache, *folders: Path) -> None:
    """Raise a `ReportError` that lists the finished runs that are left out, because a file cannot be read."""
    runs = [run for folder in folders for run in finished_runs.find(folder)]
    if damaged := [problem for run in runs if (problem := finished_runs.damage(run, cache))]:
        count = "1 run is" if len(damaged) == 1 else f"{len(damaged)} runs are"
        raise errors.ReportError(f"{count} left out:" + "".join(f"\n  {problem}" for problem in damaged))


def say_left_out(folder: Path, cache: statistics.Cache) -> None:
    """Print which finished folds are in no table, and how to finish the others."""
    if lines := results.left_out(folder, cache):
        print(
            "note: folds are one row of the tables when all of them are finished (make train … FOLDS=all). In no "
            "table:" + "".join(f"\n  {line}" for line in lines),
            file=sys.stderr,
        )


def show(outputs: Path, cache: statistics.Cache) -> list[Result]:
    """Print the tables of the finished runs below a folder, draw their plots, write the HTML report, return them."""
    found, found_curves = load(outputs, cache)
    say_left_out(outputs, cache)
    if not found and not found_curves:
        check_whole(cache, outputs)
        raise errors.ReportError(f"{outputs}: there is no finished run here, or none that a table can show.")
    for dataset, every in readme_tables.datasets(found).items():
        members = readme_tables.whole(every)
        for job, table in readme_tables.score_tables(members):
            print(f"\nResults on {dataset} (test, %){f': {job}' if job else ''}\n\n{_plain(table)}")
        print("\n" + "\n".join(comparison_tables.sentences(members)))
        if compared := comparison_tables.comparison_table(members):
            print(f"\nPaired tests (differences in points)\n\n{_plain(compared)}")
        if used := ablations.table(every):
            print(f"\nUse of the texts (%, differences in points)\n\n{_plain(used)}")
            print("\n" + "\n".join(ablations.sentences(every)))
        if gaps := transfer.table(members):
            print(f"\nIn-group and held-out groups (%, gap in points)\n\n{_plain(gaps)}")
            print("\n" + "\n".join(transfer.sentences(members)))
        if by_group := groups.find(members):
            print(f"\n{by_group.name} by group (test, %)\n\n{_plain(groups.table(by_group))}")
            print("\n" + "\n".join(groups.sentences(by_group)))
        if variant_grid.has_errors_to_show(members):
            print(f"\nError rate per class (test, %)\n\n{_plain(readme_tables.errors_table(members))}")
        if any(result.with_train() for result in members):
            print(f"\nTrain and test (accuracy in %, loss in nats)\n\n{_plain(readme_tables.fit_table(members))}")
        if not all(result.baseline for result in members):
            print(f"\nCost\n\n{_plain(readme_tables.cost_table(members))}")
        print("\nPlots")
        for path in draw(dataset, members, outputs / "plots"):
            print(f"  {options.shown(path)}")
    for text in curve_tables.lines(found_curves):
        print(f"\n{text}")
    for path in draw_curves(found_curves, outputs / "plots"):
        print(f"  {options.shown(path)}")
    print()
    _written(html_report.write(found, outputs, outputs, {}, records.standings(found), found_curves))
    return found


def _plain(table: readme_tables.Table) -> str:
    """Return a table for a terminal, with the characters that Markdown needs as entities."""
    header, rows = table
    return text_table([html.unescape(cell) for cell in header], [[html.unescape(cell) for cell in row] for row in rows])


def write_tables(form: str, found: list[Result], found_curves: list[curves.Curve], outputs: Path) -> None:
    """Write the tables in another format to <outputs>/report/<format>/."""
    folder = outputs / "report" / form
    for note in formats.write(form, found, folder, records.standings(found), found_curves):
        print(f"note: {note}", file=sys.stderr)
    print(f"{options.shown(folder)}/: written")


def _written(path: Path) -> None:
    print(f"{options.shown(path)}: written. Open it in a browser; it contains texts of the data.")


if __name__ == "__main__":
    sys.exit(guard(main))
