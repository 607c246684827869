"""Write the HTML report, outputs/report/index.html: one file with results, plots and every prediction.

The file needs no network and no other file. Its data are JSON in a script element that the browser does not execute;
the page's scripts (`html/*.js`) put texts into it as text only. A Content-Security-Policy allows these scripts and this
style sheet by their hashes, and nothing else.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.core.files import utc_now, write_text
from common.report import (
    ablations,
    comparison_tables,
    curve_tables,
    groups,
    html_plots,
    html_rows,
    html_texts,
    readme_tables,
    records,
    transfer,
    variant_grid,
)
from common.report.curves import Curve
from common.report.finished_runs import damage
from common.report.html_rows import RowSet, ScoredRun
from common.report.notes import DatasetNotes
from common.report.records import Standing
from common.report.result import Result
from common.runs import run_folder

PLACE = Path("report") / "index.html"  # below an outputs folder
_PARTS = Path(__file__).with_name("html")
_SCRIPTS = (
    "dom",
    "data",
    "table",
    "plots",
    "overview",
    "more",
    "groups",
    "errors",
    "list",
    "rows",
    "compare",
    "runs",
    "main",
)
# "<" could end the script element; the others are lost or changed when a browser reads a file as UTF-8 text.
_ESCAPED = re.compile("[<>&\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def write(
    found: Sequence[Result],
    source: Path,
    outputs: Path,
    notes: Mapping[str, DatasetNotes],
    standings: Mapping[int, Standing],
    curves: Sequence[Curve] = (),
) -> Path:
    """Write the report and return its path.

    Args:
        found: the results to show.
        source: the folder in which their folders lie.
        outputs: the folder of the runs themselves, whose predictions are shown; the report is written below it.
        notes: the notes of each dataset; a dataset may have none.
        standings: intervals and marks, by `id(result)`.
        curves: the learning curves over train rows; a dataset may have nothing else.
    """
    path = outputs / PLACE
    write_text(path, page(data(found, source, outputs, notes, standings, curves)))
    return path


def data(
    found: Sequence[Result],
    source: Path,
    outputs: Path,
    notes: Mapping[str, DatasetNotes],
    standings: Mapping[int, Standing],
    curves: Sequence[Curve] = (),
) -> dict[str, Any]:
    """Return everything that the page shows, as JSON values; arguments as of `write`."""
    sampled: dict[str, list[Curve]] = {}
    for curve in curves:
        sampled.setdefault(curve.lead.dataset, []).append(curve)
    results = readme_tables.datasets(found)
    datasets: list[dict[str, Any]] = []
    sets: dict[str, list[RowSet]] = {}
    for name in sorted({*results, *sampled}):
        members, own_curves = results.get(name, []), sampled.get(name, [])
        content = _dataset(members, own_curves, source, standings)
        content["elsewhere"] = [entry.model_dump() for entry in notes.get(name, DatasetNotes()).elsewhere]
        datasets.append({"name": name, **content})
        sets[name] = html_rows.read(scored_runs(members, source, outputs))
    limit = html_rows.row_limit([rows for one in sets.values() for rows in one])
    for dataset in datasets:
        dataset["row_sets"] = [html_rows.document(rows, limit) for rows in sets[dataset["name"]]]
    cut = html_texts.shorten(_columns(datasets))
    texts = {"note": cut, "about_more_labels": curve_tables.ABOUT}
    return {"schema": 1, "made": utc_now(), **texts, "datasets": datasets}


def _dataset(
    members: Sequence[Result], curves: Sequence[Curve], source: Path, standings: Mapping[int, Standing]
) -> dict[str, Any]:
    """Return what the page shows of one dataset's results and learning curves, without its rows."""
    lead = members[0] if members else curves[0].lead
    document = lead.documents[0]
    return {
        "title": str(document["dataset_title"]),
        "labels": [str(label) for label in document["test_labels"]],
        "test_rows": document["test_n"],
        "scores": list(records.score_names(lead).items()),
        "models": records.models(members, standings),
        "runs": records.runs(members, source),
        "sentences": _sentences(members),
        "more_labels": html_plots.more_labels(curves),
        "groups": html_plots.by_group(groups.find(readme_tables.whole(members))),
        "tables": _tables(members),
    }


def _sentences(members: Sequence[Result]) -> list[str]:
    """Return what the statistics of one dataset's results say."""
    whole = readme_tables.whole(members)
    return comparison_tables.sentences(whole) + ablations.sentences(members) + transfer.sentences(whole)


def _tables(members: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the tables that the page shows as they are: a title, an explanation, texts of header and rows."""
    gaps = transfer.table(readme_tables.whole(members))
    found = (
        ("Use of the texts (%, differences in points)", ablations.ABOUT, ablations.table(members)),
        ("In-group and held-out groups (%, gap in points)", transfer.ABOUT, gaps),
    )
    return [
        {"title": title, "about": about, "header": _texts(table[0]), "rows": list(map(_texts, table[1]))}
        for title, about, table in found
        if table
    ]


def _texts(cells: Sequence[str]) -> list[str]:
    return [html.unescape(cell) for cell in cells]


def page(content: dict[str, Any]) -> str:
    """Return the HTML file with its data, scripts and style sheet."""
    style = _read("style.css")
    script = "\n".join(['"use strict";', "{", *(_read(f"{name}.js") for name in _SCRIPTS), "}"])
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    parts = {"policy": html.escape(policy), "style": style, "script": script, "data": embedded(content)}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("template.html"))


def embedded(content: Any) -> str:
    """Return JSON that a script element can hold: no text in it can end the element or begin a comment."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def scored_runs(found: Sequence[Result], source: Path, outputs: Path) -> list[ScoredRun]:
    """Return the runs whose folder is on this machine and whole, with their numbers in `records.runs`."""
    runs = [(result.cache, folders) for result in variant_grid.arrange(found) for folders in result.folders]
    scored = []
    for number, (cache, folders) in enumerate(runs):
        places = tuple(outputs / folder.relative_to(source) for folder in folders)
        if all((place / run_folder.METRICS).is_file() and not damage(place, cache) for place in places):
            scored.append(ScoredRun(number, places, tuple(map(run_folder.load_run_config, places))))
    return scored


def _columns(datasets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [column for dataset in datasets for rows in dataset["row_sets"] for column in rows["texts"]]


def _read(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
