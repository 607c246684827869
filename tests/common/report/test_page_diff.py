from pathlib import Path

import pytest

from common.core.errors import ReportError
from common.core.formatting import markdown_table
from common.report import page, page_diff

README = Path("README.md")
TEXT = "# Title\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nend\n"


def test_insert_replaces_the_marked_text_alone():
    assert page_diff.insert(TEXT, "results", "new", README) == TEXT.replace("old", "new")
    assert page_diff.marked(TEXT, "results", README).strip() == "old"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.replace("<!-- results:end -->", ""), r"results:end --> occurs 0 times"),
        (TEXT + "<!-- results:begin -->", r"results:begin --> occurs 2 times"),
        ("<!-- results:end --><!-- results:begin -->", r"results:end --> comes before <!-- results:begin"),
    ],
)
def test_wrong_markers_are_named(text, problem):
    for use in (
        lambda: page_diff.insert(text, "results", "new", README),
        lambda: page_diff.marked(text, "results", README),
    ):
        with pytest.raises(ReportError, match=f"README.md: .*{problem}"):
            use()


def test_equal_texts_pass(swept):
    block = page.readme_block(swept)
    text = page_diff.insert(TEXT, page.BLOCK, block, README)
    page_diff.compare(page_diff.marked(text, page.BLOCK, README), block, README)
    assert page_diff.insert(text, page.BLOCK, block, README) == text


def test_compare_names_the_cell(found):
    wanted = page.readme_block(found)
    with pytest.raises(ReportError) as raised:
        page_diff.compare(wanted.replace("83.3 ± 14.4", "93.3 ± 14.4", 1), wanted, README)
    message = str(raised.value)
    for part in (
        "README.md",
        "row 'Toy stance, minilm-lora, lora'",
        "column 'score'",
        "'93.3 ± 14.4 [31.7, 100.0]'",
        "'83.3 ± 14.4 [31.7, 100.0]'",
    ):
        assert part in message
    assert "make report" in message


def test_compare_names_the_section(found):
    wanted = page.published_page(found, {}, {})
    with pytest.raises(
        ReportError, match=r"section 'Toy stance: Cost', row 'minilm-lora', column 'share': found '9\.99"
    ):
        page_diff.compare(wanted.replace("4.40 %", "9.99 %"), wanted, README)


def test_compare_names_a_variant_by_its_settings(swept):
    wanted = page.published_page(swept, {}, {})
    with pytest.raises(ReportError, match=r"row '8, 16, 2', column 'accuracy': found '51\.0 ± 0\.0 \["):
        page_diff.compare(wanted.replace("| 8 | 16 | 2 | 2 | 50.0", "| 8 | 16 | 2 | 2 | 51.0"), wanted, README)


def test_compare_names_the_line(found):
    wanted = page.published_page(found, {}, {})
    with pytest.raises(ReportError, match=r"line \d+: found '## Toy', should be '## Toy stance'"):
        page_diff.compare(wanted.replace("## Toy stance", "## Toy"), wanted, README)
    with pytest.raises(ReportError, match=r"\d+ generated lines, should be \d+"):
        page_diff.compare(wanted + "| more | 1 |\n", wanted, README)


def test_compare_sees_a_cell_too_many(found):
    wanted = page.readme_block(found)
    line = next(line for line in wanted.splitlines() if "majority" in line)
    with pytest.raises(ReportError, match="line 3: found"):
        page_diff.compare(wanted.replace(line, line + " 1 |"), wanted, README)


def test_compare_of_a_name_with_a_pipe():
    new = markdown_table(["model", "n"], [["a|b", "1"]])
    with pytest.raises(ReportError, match=r"row 'a\|b', column 'n': found '2'"):
        page_diff.compare(new.replace("| 1 |", "| 2 |"), new, README)
