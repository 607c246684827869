"""xls, xlsb and ods: errors, formulas without a value, hidden rows, dates, and values far from the others."""

import resource
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from old_workbooks import Error, write_ods, write_ods_xml, write_xls, write_xlsb
from toy_runs import dataset, read_options

from common.core.errors import DataError
from common.data.load import load_rows
from common.data.rows import to_rows
from common.data.table_reader import read_table

WRITERS = {"xls": write_xls, "xlsb": write_xlsb, "ods": write_ods}
ROWS = [["text", "label", 2023.0], ["one", "x", 1.5], [Error("#DIV/0!"), "y", None], (["three", "y", 7.0], True)]


@pytest.fixture(params=WRITERS)
def ending(request):
    """One of the endings."""
    return request.param


def rows_of(frame, text="text"):
    return to_rows(frame, dataset(text=[text]), "a.xls", "input", labelled=False)


def test_an_error_is_refused_where_it_is_read(tmp_path, ending):
    frame = read_table(WRITERS[ending](tmp_path / f"a.{ending}", ROWS))
    assert list(frame.columns) == ["text", "label", "2023"] and frame["2023"].tolist() == [1.5, "", 7]
    assert [row.texts for row in rows_of(frame, "label")] == [("x",), ("y",), ("y",)]
    with pytest.raises(DataError, match=r"row 3, column 'text': cell A3 shows the error #DIV/0!; correct it"):
        rows_of(frame)


def test_an_error_is_no_missing_label(tmp_path, ending):
    path = WRITERS[ending](tmp_path / f"a.{ending}", [["text", "label"], ["a", "x"], ["b", Error("#N/A")], ["c", "y"]])
    keys = {"source": {"files": str(path)}, "text": ["text"], "label": "label", "labels": ["x", "y"]}
    with pytest.raises(DataError, match="row 3, column 'label': cell B3 shows the error #N/A"):
        load_rows(dataset(**keys, drop_labels=[None]))


def test_hidden_rows_are_read_and_said(tmp_path, ending, capsys):
    assert len(read_table(WRITERS[ending](tmp_path / f"a.{ending}", ROWS))) == 3
    assert "1 hidden row of sheet 'A' is read like the others: 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("date", "shown_as", "shown"),
    [
        (45296.5, "dd.mm.yyyy", "05.01.2024"),
        (45296.0, 14, "2024-01-05"),  # the default short date, as from xlsx
        (45296.0, 27, "2024-01-05"),  # of East Asia, without a code of its own
        (45296.5, 57, "2024-01-05 12:00:00"),
        (0.5, "hh:mm", "12:00"),
        (1.25, 46, "1 day, 6:00:00"),
        (1.25, "[h]:mm:ss", "1 day, 6:00:00"),
        (0.25, "[h]:mm", "6:00:00"),
        (0.0, "[h]:mm", "0:00:00"),
    ],
)
def test_a_date_of_xls_reads_as_the_sheet_shows_it(tmp_path, date, shown_as, shown):
    path = write_xls(tmp_path / "a.xls", [["text"], ["a"]], date=date, shown_as=shown_as)
    assert [row.texts for row in rows_of(read_table(path))] == [("a",), (shown,)]


@pytest.mark.parametrize(
    ("date", "shown_as"),
    [(3e6, "dd.mm.yyyy"), (3e6, 14), (-1.0, "dd.mm.yyyy"), (-1.0, "[h]:mm"), (1e300, "[h]:mm"), (1e300, 57)],
)
def test_a_date_that_no_sheet_shows_is_refused_where_it_is_read(tmp_path, date, shown_as):
    path = write_xls(tmp_path / "a.xls", [["text", "label"], ["a", "x"]], date=date, shown_as=shown_as)
    frame = read_table(path)
    assert frame["label"].tolist() == ["x", ""]
    with pytest.raises(DataError, match="row 3, column 'text': cell A3 shows the error #####; correct it"):
        rows_of(frame)


@pytest.mark.parametrize("writer", [write_xlsb, write_ods])
def test_a_far_cell_needs_no_memory(tmp_path, writer):
    path = writer(tmp_path / f"a.{writer.__name__[6:]}", [["text"], ["a"]], far=(1_048_575, 16_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"sheet 'A': it has 1,048,576 rows of 16,001 columns"):
        read_table(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_errors_and_formulas_of_other_programs_that_write_ods(tmp_path):
    formula = 'table:formula="of:=1/0"'
    rows = [
        f'<table:table-cell {formula} office:value-type="float" office:value="0"><text:p>#VALUE!</text:p>',
        f'<table:table-cell {formula} office:value-type="string"><text:p>Err:502</text:p>',
        f'<table:table-cell {formula} office:value-type="string"><text:p>a result</text:p>',
        f'<table:table-cell {formula} office:value-type="float" office:value="2"><text:p>2</text:p>',
        '<table:table-cell office:value-type="string"><text:p>#N/A</text:p>',  # a text
        f"<table:table-cell {formula}>",
    ]
    cells = "".join(f"<table:table-row>{row}</table:table-cell></table:table-row>" for row in rows)
    cells += f"<table:table-row><table:table-cell {formula}/></table:table-row>"
    head = '<table:table-row><table:table-cell office:value-type="string"><text:p>text</text:p></table:table-cell>'
    found = read_table(write_ods_xml(tmp_path / "a.ods", f"{head}</table:table-row>{cells}"))["text"].tolist()
    assert found == ["#VALUE!", "Err:502", "a result", 2, "#N/A", "", ""]
    problems = [getattr(cell, "problem", "") for cell in found]
    assert "A2 shows the error #VALUE!" in problems[0] and "Err:502" in problems[1] and not any(problems[2:5])
    assert all("holds a formula without a saved value" in problem for problem in problems[5:])


def test_rows_in_groups_and_a_name_with_signs_of_xml(tmp_path, capsys):
    def row(text, attributes=""):
        cell = f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'
        return f"<table:table-row{attributes}>{cell}</table:table-row>"

    def group(rows):
        return f"<table:table-row-group>{rows}</table:table-row-group>"

    rows = row("text") + group(row("one") + group(row("two", ' table:visibility="collapse"'))) + row("three")
    path = write_ods_xml(tmp_path / "a.ods", rows, name="Q&amp;A")
    assert read_table(path)["text"].tolist() == ["one", "two", "three"]
    assert "1 hidden row of sheet 'Q&A' is read like the others: 3" in capsys.readouterr().err


@pytest.mark.parametrize("harm", [lambda content: content[: len(content) // 2], lambda _: b"\x09\x08 no workbook"])
def test_a_damaged_workbook_is_named(tmp_path, ending, harm):
    path = WRITERS[ending](tmp_path / f"a.{ending}", ROWS)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(DataError, match=rf"a\.{ending}: cannot be read as"):
        read_table(path)


def test_a_damaged_member_of_xlsb_is_named(tmp_path):
    """The library panics, which is no exception of Python's."""
    path = write_xlsb(tmp_path / "a.xlsb", ROWS)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = "rId1".encode("utf-16-le")
    members["xl/workbook.bin"] = members["xl/workbook.bin"].replace(b"\x04\0\0\0" + text, b"\xff\xff\0\0" + text)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match=r"a\.xlsb: cannot be read as xlsb: the workbook is damaged"):
        read_table(path)


# Of XML, what a cell of ods can hold; outer and double spaces are other tags.
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Co", "Cn", "Z"]), max_size=8)
CELLS = st.one_of(WORDS, st.integers(-(2**31), 2**31), st.sampled_from(["#N/A", "1", "TRUE", "=1", "nan", "a b"]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_table_comes_back(tmp_path, ending, data):
    width = data.draw(st.integers(1, 3))
    rows = data.draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=5))
    names = [f"column {number}" for number in range(width)]
    rows = [*rows, ["end"] * width]
    found = read_table(WRITERS[ending](tmp_path / f"a.{ending}", [names, *rows]), read_options())
    assert list(found.columns) == names and found.to_numpy().tolist() == rows


@pytest.mark.parametrize("hidden", ["", ' table:visibility="collapse"'])
def test_an_ods_row_that_is_repeated_very_often_is_refused_at_once(tmp_path, hidden):
    row = f'<table:table-row{hidden} table:number-rows-repeated="1{"0" * 15}">'
    cell = '<table:table-cell office:value-type="string"><text:p>a</text:p></table:table-cell>'
    path = write_ods_xml(tmp_path / "a.ods", f"{row}{cell}</table:table-row>")
    with pytest.raises(DataError, match="sheet 'A'"):
        read_table(path)
