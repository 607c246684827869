"""report/html_report.py: one file that holds the data as JSON, without a way out of it. A browser reads it in
test_html_browser.py."""

import base64
import hashlib
import html
import json
import re

import pytest
import report_runs

from common.report import html_report, publish, records, results
from common.report.notes import DatasetNotes
from common.report.records import Standing


def embedded_json(page: str):
    [text] = re.findall('<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


@pytest.fixture
def outputs(tmp_path):
    rows = report_runs.write_rows(tmp_path / "rows", 9)
    report_runs.scored_run(tmp_path / "outputs", rows, baseline="majority", right=0.0)
    for seed in (1, 2):
        report_runs.scored_run(tmp_path / "outputs", rows, seed=seed, facts={"params_trainable_count": 800_000})
    return tmp_path / "outputs"


def written(outputs, standings=None):
    found = results.load(outputs)
    path = html_report.write(found, outputs, outputs, {}, standings(found) if standings else {})
    assert path == outputs / "report" / "index.html"
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "]]>",
        "&lt;",
        "\u2028\u2029",
        "\ud800",
        "\x00\x1b",
        "\ufeff",
    ],
)
def test_no_text_ends_the_script_element(text):
    found = html_report.embedded([text])
    assert not set("<>&") & set(found) and found.isprintable() and json.loads(found) == [text]
    found.encode()  # a lone surrogate is escaped


def test_the_policy_allows_only_what_is_in_the_page(outputs):
    page = written(outputs)
    [policy] = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    [style] = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    [script] = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (script, style)]
    wanted = f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'"
    assert html.unescape(policy) == f"{wanted}; base-uri 'none'; form-action 'none'"
    assert "{{" not in page.replace(script, "")
    for way_out in ("http://", "https://", "src=", "@import", "url(", "innerHTML", "outerHTML", "insertAdjacentHTML"):
        assert way_out not in page.replace("http://www.w3.org/2000/svg", ""), way_out


def test_the_content(outputs):
    document = embedded_json(written(outputs))
    [dataset] = document["datasets"]
    majority, tuned = dataset["models"]
    assert (majority["baseline"], majority["runs"], majority["trainable"]) == (True, [0], None)
    assert (tuned["name"], tuned["best"], tuned["runs"], tuned["trainable"]) == ("minilm-lora", True, [1, 2], 800_000)
    assert tuned["interval"] is None and tuned["mark"] == ""
    assert tuned["validation"] == 0.7 and len(tuned["scores"]["test_accuracy"]) == 2
    assert [run["folder"] for run in dataset["runs"]] == [
        "toy/minilm-lora/baseline-majority",
        "toy/minilm-lora/seed-1",
        "toy/minilm-lora/seed-2",
    ]
    run = dataset["runs"][1]
    assert run["curves"] == {
        "loss": [[0.5, 0.9]],
        "validation_loss": [[1.0, 0.8], [2.0, 0.7]],
        "validation_accuracy": [[1.0, 0.6], [2.0, 0.7]],
    }
    assert ["job.method.r", "16"] in run["config"] and ["data.dir", "–"] in run["config"]  # no path of this machine
    assert dict(run["facts"])["test rows"] == "9"
    [rows] = dataset["row_sets"]
    assert [entry["run"] for entry in rows["predictions"]] == [0, 1, 2]


def test_an_interval_and_a_mark_reach_the_page(outputs):
    page = written(outputs, lambda found: {id(found[-1]): Standing(0.5, 0.9, "like the best")})
    tuned = embedded_json(page)["datasets"][0]["models"][1]
    assert (tuned["interval"], tuned["mark"]) == ([0.5, 0.9], "like the best")


def test_intervals_and_marks_are_those_of_the_tables(outputs):
    found = results.load(outputs)
    majority, tuned = found
    standings = records.standings(found)
    interval = tuned.interval("test_accuracy")
    assert standings[id(tuned)] == (interval.low, interval.high, "highest on test")
    assert standings[id(majority)].mark in ("", "≈ highest on test")
    [dataset] = embedded_json(written(outputs, lambda found: records.standings(found)))["datasets"]
    assert dataset["models"][1]["interval"] == [interval.low, interval.high]
    assert dataset["sentences"][0].startswith("Highest accuracy: minilm-lora.")


def test_published_metrics_without_their_runs(outputs, tmp_path):
    """Everybody can make the page from outputs/published; rows are shown where the runs are."""
    published = tmp_path / "published"
    publish.publish(outputs, published)
    found = results.load(published)
    notes = {"toy": DatasetNotes.model_validate({"elsewhere": [{"model": "SVM", "score": 67.3, "source": "a paper"}]})}
    [dataset] = html_report.data(found, published, tmp_path / "nothing", notes, {})["datasets"]
    assert dataset["row_sets"] == [] and len(dataset["models"]) == 2
    assert dataset["elsewhere"] == [{"model": "SVM", "score": 67.3, "source": "a paper"}]
    [dataset] = html_report.data(found, published, outputs, {}, {})["datasets"]
    assert len(dataset["row_sets"][0]["predictions"]) == 3
    next(outputs.glob("toy/*/seed-1/config.yaml")).write_text("{")  # damaged since: its rows are left out
    [dataset] = html_report.data(found, published, outputs, {}, {})["datasets"]
    assert len(dataset["row_sets"][0]["predictions"]) == 2 and len(dataset["models"]) == 2


def test_a_long_curve_is_thinned(tmp_path):
    history = [{"step": n, "epoch": n / 100, "loss": float(n % 2)} for n in range(1, 1001)]
    rows = report_runs.write_rows(tmp_path / "rows", 6)
    report_runs.scored_run(tmp_path / "outputs", rows, facts={"history": history})
    [dataset] = embedded_json(written(tmp_path / "outputs"))["datasets"]
    curve = dataset["runs"][0]["curves"]["loss"]
    assert len(curve) == 250 and curve[0] == [0.04, 0.5] and curve[-1][0] == 10.0
