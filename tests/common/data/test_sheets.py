"""Workbooks: which sheet is read, and cells that have no value or are no texts."""

import datetime
import resource

import openpyxl
import pytest
from old_workbooks import write_ods_xml
from openpyxl import Workbook
from toy_runs import dataset, read_options

from common.core.errors import DataError
from common.data.rows import to_rows
from common.data.sheet_cells import shown_date
from common.data.table_reader import read_table


def rows_of(frame, text="text"):
    return to_rows(frame, dataset(text=[text]), "a.xlsx", "input", labelled=False)


def test_one_of_two_sheets_is_asked_for(case):
    path = case("two-sheets.xlsx")
    with pytest.raises(DataError, match=r"train, train2.*`sheet:`"):
        read_table(path)
    assert "uniform" in read_table(path, read_options(sheet="train2"))["text"][2]
    with pytest.raises(DataError, match=r"no sheet 'train3'\. Did you mean 'train'\?"):
        read_table(path, read_options(sheet="train3"))


def test_a_hidden_sheet_is_not_read_and_said(case, capsys):
    path = case("hidden-first-sheet.xlsx")
    assert not read_table(path)["text"].str.contains("OLD").any()
    assert read_table(path, read_options(sheet="old"))["text"].str.contains("OLD").all()
    assert len([line for line in capsys.readouterr().err.splitlines() if "old" in line]) <= 1


def test_hidden_rows_are_read_and_said(tmp_path, capsys):
    book = Workbook()
    for row in (["text", "label"], ["a", "x"], ["b", "y"]):
        book.active.append(row)
    book.active.row_dimensions[3].hidden = True
    book.save(tmp_path / "a.xlsx")
    assert read_table(tmp_path / "a.xlsx")["text"].tolist() == ["a", "b"]
    assert "1 hidden row of sheet 'Sheet'" in capsys.readouterr().err


def test_names_of_columns_are_strings(case):
    assert list(read_table(case("numeric-header.xlsx")).columns) == ["2023", "label"]


def test_a_formula_without_a_value_is_refused(case):
    with pytest.raises(DataError, match=r"row 2, column 'text': cell C2 holds a formula.*save it"):
        rows_of(read_table(case("formulas-without-values.xlsx")))


def test_an_error_is_refused_where_it_is_read(tmp_path):
    book = Workbook()
    for row in (["text", "other"], ["a", "#REF!"], ["b", "x"]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    frame = read_table(tmp_path / "a.xlsx")
    assert [row.texts for row in rows_of(frame)] == [("a",), ("b",)]
    with pytest.raises(DataError, match=r"row 2, column 'other': cell B2 shows the error #REF!"):
        rows_of(frame, "other")


def test_a_date_reads_as_the_sheet_shows_it(case):
    assert rows_of(read_table(case("date-in-text.xlsx")))[4].texts == ("2024-01-05 0:00:00",)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("yyyy-mm-dd", "2024-01-05"),
        ("dd.mm.yyyy hh:mm", "05.01.2024 15:07"),
        ("d mmm yy", "5 Jan 24"),
        ("dddd, mmmm d", "Friday, January 5"),
        ("h:mm AM/PM", "3:07 PM"),
        ("[$-409]m/d/yyyy;@", "1/5/2024"),
        ('"on" d\\.m', "on 5.1"),
        ("General", "2024-01-05 15:07:09"),
    ],
)
def test_formats_of_dates(code, shown):
    assert str(shown_date(datetime.datetime(2024, 1, 5, 15, 7, 9), code)) == shown


@pytest.mark.slow
def test_a_far_cell_needs_no_memory(case):
    path = case("far-cell.xlsx")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"row 1048576 has a value, after 1,048,572 empty rows"):
        read_table(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_rows_before_the_header(tmp_path):
    book = Workbook()
    for row in (["Export"], [], ["text", "label"], ["a", "x"]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    frame = read_table(tmp_path / "a.xlsx", read_options(skip_rows=2))
    assert frame.to_dict("records") == [{"text": "a", "label": "x"}] and frame.index.tolist() == [4]
    with pytest.raises(DataError, match="`skip_rows:`"):
        read_table(tmp_path / "a.xlsx", read_options(skip_rows=1))


def workbook(path, **sheets):
    """Write a workbook with these sheets, each a list of rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_rows_are_counted_as_they_are_read(tmp_path):
    path = workbook(tmp_path / "a.xlsx", A=[["b", "y"]], notes=[["some", "n"], ["c", "k"]])
    with pytest.raises(DataError, match="2 sheets with rows: A, notes"):
        read_table(path, read_options(header=["text", "label"]))
    path = workbook(tmp_path / "b.xlsx", A=[["title"], [None], ["text"], ["x"]], notes=[["only"], ["titles"]])
    assert read_table(path, read_options(skip_rows=2))["text"].tolist() == ["x"]


def test_white_space_of_an_ods_cell(tmp_path):
    inner = 'a<text:tab/>b<text:tab text:tab-ref="1"></text:tab>c<text:s text:c="3"/>d<text:line-break/>e'
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    rows = [["text", "label"], [inner, "x"], ["p</text:p><text:p>q", "y"]]
    table = "".join(f"<table:table-row>{''.join(map(cell.format, row))}</table:table-row>" for row in rows)
    path = write_ods_xml(tmp_path / "a.ods", table)
    assert read_table(path)["text"].tolist() == ["a\tb\tc   d\ne", "p\nq"]
