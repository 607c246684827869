"""Results that several tests of the report start from."""

import itertools
import shutil
from pathlib import Path

import pytest
import report_runs
import waiting
from toy_runs import finished_run, run_config

from common.core.files import read_jsonl, write_jsonl
from common.report import curves, html_report, results

LABELS = {"labels": ["con", "neu", "pro"], "title": "Three labels"}


@pytest.fixture
def found(tmp_path):
    """The majority baseline, and a model with three seeds, on four test rows with two labels."""
    finished_run(tmp_path, baseline="majority", right=2, train_s=None)
    for seed, right in ((1, 4), (2, 3), (3, 3)):
        config = run_config(seed=seed)
        finished_run(tmp_path, config, right=right, train_cpu_s=61.0, gpu_memory_peak_bytes=None)
    return results.load(tmp_path)


@pytest.fixture
def swept(tmp_path):
    """A baseline, another model, and four variants of one job, of which one is the job itself (rank 8, alpha 16).

    On test the variants of rank 16 are the best, on validation the one of rank 8 and alpha 8.
    """
    finished_run(tmp_path, run_config(**LABELS), baseline="untuned", right=2)
    finished_run(tmp_path, run_config("minilm-emotion-full", **LABELS), right=4)
    for r, alpha in ((16, 32), (8, 16), (8, 8), (16, 16)):
        overrides = {"method.r": r, "method.alpha": alpha}
        history = [
            {"step": 1, "validation_accuracy": 0.9},
            {"step": 2, "validation_accuracy": 0.7 if alpha == 8 else 0.6},
        ]
        for seed in (1, 2):
            config = run_config("minilm-emotion-lora", seed, overrides, **LABELS)
            train_right = 4 if r == 16 else None
            finished_run(tmp_path, config, right=2 + (r == 16), train_right=train_right, history=history, best_step=2)
    return results.load(tmp_path)


@pytest.fixture(scope="package")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="make setup installs playwright")
    with playwright.sync_playwright() as driver:
        own = driver.chromium.executable_path
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", own))), None)
        if found is None:
            pytest.skip("there is no Chromium: apt-get install chromium, or playwright install chromium")
        browser = driver.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def hostile_runs(tmp_path_factory) -> Path:
    """Three models, one with two seeds, on 60 rows with hostile texts, labels and groups; and three learning curves."""
    place = tmp_path_factory.mktemp("report")
    rows = report_runs.write_rows(place / "rows", 60, report_runs.HOSTILE, report_runs.HOSTILE_LABELS)
    for split in ("train", "test"):
        records = read_jsonl(rows / f"{split}.jsonl")
        records[0] |= {"claim": "__proto__", "id": "<i>id</i>"}
        write_jsonl(rows / f"{split}.jsonl", records)
    about = {"labels": report_runs.HOSTILE_LABELS, "title": "Toy <u>stance</u>"}
    for sizes, kind, jobs in (((6, 12, 24, 42), "nested", ("", "embedding")), ((3, 6, 12), "balanced", ("",))):
        for (step, size), baseline in itertools.product(enumerate(sizes), jobs):
            more = {"right": 0.2 + 0.08 * step, "baseline": baseline, "sample": (size, kind)}
            report_runs.scored_run(place / "outputs", rows, **more, **about)
    report_runs.scored_run(place / "outputs", rows, baseline="majority", right=0.0, **about)
    for job, seed, size in (("minilm-lora", 1, 8e5), ("minilm-lora", 2, 8e5), ("minilm-full", 3, 2e7)):
        facts = {"params_trainable_count": size, "train_cpu_s": size / 1e5, "cpu_memory_peak_bytes": 1e9}
        facts |= {"train_count": 60}
        report_runs.scored_run(place / "outputs", rows, job, seed, right=0.4 + seed / 10, facts=facts, **about)
    return place / "outputs"


@pytest.fixture(scope="package")
def hostile_report(hostile_runs) -> Path:
    """The HTML report of `hostile_runs`."""
    everything = results.load_all(hostile_runs)
    found = [result for result in everything if result.curve_rows is None]
    return html_report.write(found, hostile_runs, hostile_runs, {}, {}, curves.find(everything))


@pytest.fixture
def open_page(browser, hostile_report):
    """`open_page(width=1280, scheme="light")` opens the report; nothing may be loaded, and no error may be logged."""
    contexts, problems = [], []

    def open_it(width: int = 1280, scheme: str = "light", path: Path = hostile_report, wait_for: str = ".option"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(1000 * waiting.HANG_S)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.on("request", lambda request: None if request.url.startswith("file:") else problems.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(wait_for)
        return page

    yield open_it
    for context in contexts:
        assert context.pages[0].evaluate("window.attacked") is None
        context.close()
    assert problems == []
