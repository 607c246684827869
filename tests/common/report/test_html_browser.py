"""The HTML report in headless Chromium: what a user clicks, types and sees, with hostile texts and many rows."""

import math
import random
import re
from pathlib import Path

import pytest
from report_runs import HOSTILE
from report_runs import HOSTILE_LABELS as LABELS
from scipy import stats

from common.core import formatting
from common.core.files import read_json, read_jsonl
from common.report import curves, groups, html_report, html_rows, results, transfer

pytestmark = pytest.mark.slow


def shown_rows(page) -> int:
    return int(re.match(r"([\d,]+) of", page.inner_text(".count"))[1].replace(",", ""))


def expect_rows(page, count: int) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.locator(".count")).to_have_text(re.compile(f"^{count} of"))


def choose(page, label: str, value: str) -> None:
    page.locator("#rows").get_by_label(label, exact=True).select_option(value)


def test_every_text_is_shown_as_text(open_page):
    page = open_page()
    assert page.inner_text("#dataset") == "Toy <u>stance</u>"
    wanted = [*HOSTILE[:3], "left U+202Eright to left overrideU+202C left", *HOSTILE[4:6]]
    wanted.append("nul U+0000, escape U+001B[31m, bell U+0007, line separator U+2028, byte order mark U+FEFF")
    page.focus(".list")
    page.keyboard.press("Home")
    for text in [*wanted, *HOSTILE[7:]]:
        assert page.locator(".detail .whole").all_text_contents()[1] == text
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    assert "<i>id</i>" in page.inner_text(".detail dl") and "__proto__" in page.inner_text(".detail dl")
    assert page.locator(".confusion th").first.is_visible()
    assert "<b>con</b>" in page.locator("#errors").inner_text()
    assert (
        page.locator("main b, main i, main u, main img").all_text_contents()
        == page.locator("main td b, main li b").all_text_contents()
    )  # only numbers of the page's own are bold


def test_tables_are_sorted_by_a_click(open_page):
    page = open_page()
    table = page.locator("#results table")

    def values():
        return [float(cell.split()[0]) for cell in table.locator("td:nth-child(4)").all_inner_texts()]

    assert values() == sorted(values(), reverse=True)
    head = table.get_by_role("columnheader").nth(3)
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and values() == sorted(values())
    table.get_by_role("button", name="model").press("Enter")
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names, key=str.lower) and head.get_attribute("aria-sort") == "none"


def test_filter_and_search(open_page, hostile_runs):
    page = open_page()
    records = read_jsonl(hostile_runs / "toy" / "minilm-full" / "seed-3" / "predictions-test.jsonl")
    choose(page, "Run", "minilm-full")
    assert shown_rows(page) == 60
    wrong = [one for one in records if one["gold"] != one["predicted"]]
    choose(page, "Outcome", "the run is wrong")
    assert shown_rows(page) == len(wrong) > 3
    label = wrong[0]["gold"]
    page.locator("#rows").get_by_label("Gold label").select_option(index=1 + LABELS.index(label))
    assert shown_rows(page) == sum(one["gold"] == label for one in wrong)
    page.get_by_role("button", name="Show all rows").click()
    assert shown_rows(page) == 60
    for words, count in (
        ("sentence 2", 11 - 1),
        ("SENTENCE 23", 1),
        ("<SCRIPT>", 2),
        ("שלום", 1),
        ("claim 3", 15),
        ("no such", 0),
    ):
        page.get_by_label("Search").fill(words)
        expect_rows(page, count)
    page.get_by_label("Search").fill("sentence 23")
    page.wait_for_selector("mark")
    assert page.locator(".detail mark").inner_text() == "Sentence 23"
    page.get_by_label("Search").fill("")
    expect_rows(page, 60)
    choose(page, "Order", "highest confidence first")
    sure = max(records, key=lambda one: one["scores"][one["predicted"]])
    assert page.locator(".option .id").first.inner_text() == sure["id"]


def test_a_cell_of_the_confusion_matrix_opens_its_rows(open_page, hostile_runs):
    page = open_page()
    records = read_jsonl(hostile_runs / "toy" / "minilm-lora" / "baseline-majority" / "predictions-test.jsonl")
    page.locator("#errors").get_by_label("Run", exact=True).select_option("majority class")
    matrix = read_json(hostile_runs / "toy" / "minilm-lora" / "baseline-majority" / "metrics.json")["test_confusion"]
    cells = page.locator("#errors .confusion tbody tr").all()
    assert [[int(cell.locator("b").inner_text()) for cell in row.locator("td").all()] for row in cells] == matrix
    cells[1].locator("td").nth(2).locator("button").click()
    assert shown_rows(page) == matrix[1][2] > 0
    wanted = [one["id"] for one in records if (one["gold"], one["predicted"]) == (LABELS[1], LABELS[2])]
    assert page.locator(".option .id").all_inner_texts() == wanted[: page.locator(".option").count()]
    assert page.evaluate("document.activeElement.className") == "list"


def test_two_runs_side_by_side(open_page, hostile_runs):
    page = open_page()
    first, second = (
        [one["gold"] == one["predicted"] for one in read_jsonl(hostile_runs / "toy" / name / "predictions-test.jsonl")]
        for name in ("minilm-full/seed-3", "minilm-lora/baseline-majority")
    )
    page.get_by_label("A", exact=True).select_option("minilm-full")
    page.get_by_label("B", exact=True).select_option("majority class")
    pairs = list(zip(first, second, strict=True))
    counts = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
    buttons = page.locator("#compare .confusion button")
    assert list(map(int, buttons.all_inner_texts())) == counts
    p = stats.binomtest(counts[1], counts[1] + counts[2]).pvalue
    assert ("p < 0.001" if p < 0.001 else f"p = {p:.3f}") in page.inner_text("#compare .verdict")
    buttons.nth(1).click()
    assert shown_rows(page) == counts[1]
    page.get_by_label("B", exact=True).select_option("minilm-lora, seed 1")
    assert "job.method.name" in page.inner_text("#compare")


def test_the_p_value_is_that_of_the_exact_test(open_page):
    page = open_page()
    script = Path(html_report.__file__).with_name("html").joinpath("data.js").read_text(encoding="utf-8")
    [function] = re.findall(r"function mcnemar.*?\n}\n", script, re.DOTALL)
    for one, other in ((0, 0), (0, 5), (7, 7), (12, 30), (400, 470), (30_000, 30_400), (5_000, 20_000)):
        found = page.evaluate(f"(() => {{ {function} return mcnemar({one}, {other}); }})()")
        wanted = stats.binomtest(one, one + other).pvalue if one + other else 1.0
        assert math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-12)


def test_the_keyboard_is_enough(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.focus(".list")
    selected = lambda: page.locator('.option[aria-selected="true"]').get_attribute("aria-posinset")  # noqa: E731
    for key, place in (("ArrowDown", 2), ("End", 60), ("ArrowDown", 60), ("ArrowUp", 59), ("Home", 1)):
        page.keyboard.press(key)
        assert selected() == str(place)
        active = page.get_attribute(".list", "aria-activedescendant")
        assert page.locator(f"#{active}").get_attribute("aria-posinset") == str(place)
        assert page.locator(f"#{active}").is_visible()
    page.keyboard.press("PageDown")
    assert int(selected()) > 3
    for _ in range(300):  # Tab reaches the end: no element keeps the focus
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    else:
        raise AssertionError("Tab does not reach the config of the run")
    page.keyboard.press("Enter")
    assert page.locator("#runs .config").is_visible() and "job.training.epochs" in page.inner_text("#runs .config")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_names_and_contrast(open_page, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make setup installs axe")
    page = open_page(width, scheme)
    page.locator("#rows").get_by_label("Outcome").select_option("the run is wrong")
    found = axe.Axe().run(page)
    assert not found.response["violations"], found.generate_report()
    assert {"color-contrast", "button-name", "select-name"} <= {rule["id"] for rule in found.response["passes"]}
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for plot in page.locator("svg[role=img]").all():
        assert len(plot.get_attribute("aria-label")) > 40


def test_the_theme_can_be_changed(open_page):
    page = open_page(scheme="light")
    background = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    light = background()
    page.get_by_label("Theme").select_option("dark")
    assert background() != light
    page.emulate_media(media="print")
    assert background() != "rgb(17, 19, 23)"  # paper is white
    assert not page.locator("#rows select").first.is_visible()


def test_cost_against_quality(open_page):
    page = open_page()
    plot = page.locator("#cost svg[role=img]")
    for key, word in (
        ("trainable", "trainable parameters"),
        ("time_s", "training time"),
        ("memory_bytes", "peak memory"),
    ):
        page.locator("#cost select").select_option(key)
        assert word in plot.get_attribute("aria-label") and plot.locator("path.marker").count() == 2
    page.locator("#cost select").select_option("trainable")
    front = plot.get_attribute("aria-label").split("Pareto front: ")[1]
    assert front == "minilm-lora, minilm-full." and page.locator("#cost .legend li").count() == 2


def test_more_labels(open_page):
    page = open_page()
    assert page.locator("#more h3").all_inner_texts() == [
        "Accuracy by train rows",
        "Accuracy by train rows of each label",
    ]
    more, few = page.locator("#more table").all()
    assert few.get_by_role("columnheader").nth(1).inner_text().startswith("1 per label")
    names = ["minilm-lora", "minilm-lora, embedding + logistic regression"]
    assert sorted(more.locator("tbody th").all_inner_texts()) == names
    last = more.get_by_role("button", name="60 rows")
    last.click()
    last.click()
    assert more.locator("tbody th").first.inner_text() == "minilm-lora"  # the other has no such point, which comes last
    sentences = page.locator("#more .sentences").first.locator("li").all_inner_texts()
    assert len(sentences) == 2 and all(text.startswith("minilm-lora") and "rows" in text for text in sentences)
    assert page.locator("#more .sentences li").last.inner_text().endswith("3 sizes; a curve needs at least 4.")
    plot, other = page.locator("#more svg[role=img]").all()
    assert plot.locator("path.marker").count() == 5 + 4 and other.locator("path.marker").count() == 3
    assert (
        plot.locator(".forecast").count() == plot.locator(".band").count() == 2 and other.locator(".band").count() == 0
    )
    for part in ("Toy <u>stance</u>: test accuracy by train rows.", "% with 60", *names, *sentences):
        assert part in plot.get_attribute("aria-label")
    drawn = plot.bounding_box()
    for shape in plot.locator("path.marker, .band, .interval").all():  # nothing leaves the plot
        box = shape.bounding_box()
        assert drawn["x"] <= box["x"] and box["x"] + box["width"] <= drawn["x"] + drawn["width"]
        assert drawn["y"] <= box["y"] and box["y"] + box["height"] <= drawn["y"] + drawn["height"]


def test_scores_by_group(open_page, hostile_runs):
    page = open_page()
    found = groups.find(results.load(hostile_runs))
    table = page.locator("#errors table", has_text="Claim 1")
    assert table.locator("tbody th").all_inner_texts() == list(found.rows)
    first = [cell.inner_text() for cell in table.locator("tbody tr").first.locator("td").all()]
    assert first == groups.table(found)[1][0][1:]
    table.get_by_role("button", name=found.models[-1]).click()
    values = [float(row.locator("td").last.inner_text().split()[0]) for row in table.locator("tbody tr").all()]
    assert values == sorted(values, reverse=True)
    plot = page.locator("#errors svg[role=img]")
    assert plot.locator("path.marker").count() == len(found.rows) * len(found.models)
    assert all(name in plot.get_attribute("aria-label") for name in (*found.rows, *found.models))
    assert groups.sentences(found)[0] in page.inner_text("#errors")


def test_tables_have_their_explanation(open_page, hostile_runs, tmp_path):
    found = results.load(hostile_runs)
    content = html_report.data(found, hostile_runs, hostile_runs, {}, {})
    header, rows = ["model", "held-out group", "gap"], [["m", "all", "+1.0 [–]"], ["", "<i>x</i> \u202ey", "+2.0 [–]"]]
    table = {"title": "In-group and held-out groups", "about": transfer.ABOUT, "header": header, "rows": rows}
    content["datasets"][0]["tables"] = [table]
    path = tmp_path / "gaps.html"
    path.write_text(html_report.page(content), encoding="utf-8")
    errors = open_page(path=path).locator("#errors")
    shown = errors.get_by_role("region", name="In-group and held-out groups")
    assert shown.locator("tbody tr").last.inner_text().split("\t")[1:] == ["<i>x</i> U+202Ey", "+2.0 [–]"]
    assert transfer.ABOUT in errors.inner_text()


def test_a_dataset_with_learning_curves_alone(open_page, hostile_runs, tmp_path):
    sampled = curves.find(results.load_all(hostile_runs))
    content = html_report.data([], hostile_runs, hostile_runs, {}, {}, sampled)
    path = tmp_path / "curves.html"
    path.write_text(html_report.page(content), encoding="utf-8")
    page = open_page(path=path, wait_for="#more .marker")
    assert page.locator("nav a").all_inner_texts() == ["More labels?"]
    assert page.locator("main > .scroller tbody td").all_inner_texts() == ["60", "–", "–", "–", "–"]


def test_fifty_thousand_rows(open_page, hostile_runs, tmp_path):
    """Only the rows in view are elements, and a search finds all of them."""
    found = results.load(hostile_runs)
    content = html_report.data(found, hostile_runs, hostile_runs, {}, {})
    rng, count = random.Random(1), html_rows.MAX_ROWS
    [rows] = html_rows.read(html_report.scored_runs(found, hostile_runs, hostile_runs))
    ids = [f"row-{number}" for number in range(count)]
    rows.places, rows.gold, rows.groups = {}, [], []
    for run in list(rows.predictions):
        labels = [(rng.choice(LABELS), rng.choice(LABELS)) for _ in ids]
        rows.add(html_rows.ScoredRun(run, (hostile_runs,), rows.run.configs), [
            {"id": id_, "group": None, "gold": LABELS[n % 3], "predicted": one, "scores": dict.fromkeys(LABELS, -1.1)}
            for n, (id_, (one, _)) in enumerate(zip(ids, labels, strict=True))
        ])  # fmt: skip
    document = html_rows.document(rows, count)
    document["texts"] = [{"name": "sentence", "texts": [f"Sentence number {n} of many." for n in range(count)]}]
    content["datasets"][0]["row_sets"] = [document]
    path = tmp_path / "many.html"
    path.write_text(html_report.page(content), encoding="utf-8")
    assert path.stat().st_size < 10e6
    page = open_page(path=path)
    assert shown_rows(page) == count and page.locator(".option").count() < 40
    page.focus(".list")
    page.keyboard.press("End")
    assert page.locator('.option[aria-selected="true"] .text').inner_text() == "Sentence number 49999 of many."
    assert page.locator(".option").count() < 40
    page.get_by_label("Search").fill("number 4999")
    expect_rows(page, 11)


def test_percents_are_rounded_as_in_the_tables(open_page):
    script = Path(html_report.__file__).with_name("html").joinpath("dom.js").read_text(encoding="utf-8")
    [function] = re.findall(r"function decimal.*?\n}\n", script, re.DOTALL)
    shares = [count / rows for rows in (2_000, 1_249, 225, 16) for count in range(rows + 1)]
    found = open_page().evaluate(
        f"shares => {{ {function} return shares.map((share) => decimal(100 * share)); }}", shares
    )
    assert found == [formatting.percent([share]) for share in shares]
