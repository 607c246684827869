"""Files as people send them: each is read as it is meant, or refused with what helps; none is read wrongly."""

import openpyxl
import pytest
from toy_runs import dataset

from common.core.errors import DataError
from common.data.load import load_rows

GERMAN = 'text;label\r\nDas Gerät ist schön, aber „groß“;gut\r\nÜberhaupt nicht, 5" zu klein;schlecht\r\n'
TEXTS = ["Das Gerät ist schön, aber „groß“", 'Überhaupt nicht, 5" zu klein']


def load(path, content=None, labels=("gut", "schlecht"), **keys):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    plain = {"text": ["text"], "label": "label", "labels": labels if labels == "all" else list(labels)}
    return load_rows(dataset(**{"source": {"files": str(path)}} | plain | keys))


def rows_of(rows):
    return [(row.texts[0], str(rows.dataset.labels[row.label])) for row in rows["train"]]


def workbook(path, rows, merged=None):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if merged:
        book.active.merge_cells(merged)
    book.save(path)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", GERMAN.encode("cp1252")),  # as Excel exports it in Germany
        ("a.csv", GERMAN.encode("utf-8-sig")),
        ("a.csv", GERMAN.replace(";", "\t").encode("utf-16")),  # Excel's "Unicode text"
        ("a.txt", GERMAN.replace(";", "\t").encode("utf-16")),
        ("a.xlsx", GERMAN.encode("utf-8-sig")),  # renamed by hand
        ("a.csv", ("sep=;\r\n" + GERMAN).encode("cp1252")),
    ],
)
def test_german_exports(tmp_path, name, content):
    assert rows_of(load(tmp_path / name, content)) == list(zip(TEXTS, ["gut", "schlecht"], strict=True))


ROWS = [("a", "gut"), ("b", "schlecht")]


@pytest.mark.parametrize(
    "content",
    [
        "text,label,,,\na,gut,,,\nb,schlecht,,,\n",  # empty columns at the right
        ",text,label\n0,a,gut\n1,b,schlecht\n",  # an index
        b"text,label\r\na,gut\nb,schlecht\r",  # three kinds of line ends
        "text\tlabel\na\tgut\nb\tschlecht\n",
        "label,other,text\ngut,1,a\nschlecht,2,b\n",
    ],
)
def test_what_is_read_as_it_is_meant(tmp_path, content):
    assert rows_of(load(tmp_path / "a.csv", content)) == ROWS


def test_a_workbook_under_another_name(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["text", "label"], ["a", "gut"], ["b", "schlecht"]])
    assert rows_of(load(path.rename(tmp_path / "a.csv"))) == ROWS


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("text,label\na,gut,\nb,schlecht,\n", ["row 2 has 3 cells"]),
        ("text,label,text\na,gut,x\n", ["the column 'text' occurs twice"]),
        ("text,label\na,gut \nb,schlecht\n", ["row 2", "'gut '", "mean 'gut'"]),
        ("text,label\na,gut\u00a0\nb,schlecht\n", ["row 2", "<U+00A0>", "mean 'gut'"]),
        ("text,label\na,'gut\nb,schlecht\n", ["row 2", "''gut'", "mean 'gut'"]),  # an apostrophe of Excel
        ("text,label\na,TRUE\n", ["row 2", "'TRUE'", "not a label"]),
        ("text, label\na,gut\n", ["there is no column 'label'", "mean ' label'"]),
        ("# exported today\ntext,label\na,gut\n", ["row 2 has 2 cells", "`skip_rows:`"]),
        ("text,label\na,gut\n\\N,\\N\n", ["row 3", "'\\N'", "not a label"]),  # a database's null
        ("text,label\na,gut\nTotal,2\n", ["row 3", "'2'"]),
        ("text,label\na,gut\ntext,label\nb,schlecht\n", ["row 3", "'label'", "not a label"]),
        ("text,label\n\u200b\u2060,gut\nb,schlecht\n", ["row 2", "invisible characters only", "<U+200B><U+2060>"]),
        (b"text,label\nsch\xc3\xb6n,gut\nsch\xf6n,schlecht\n", ["line 2 is utf-8, line 3 is not"]),
        (b"text,label\na,gut\n\x1a", ["row 3 has 1 cells"]),  # the end of a file of MS-DOS
        ("text,label\ntrès bien,gut\n".encode("cp1252"), ["cp1250 'trčs bien", "cp1252 'très bien", "`encoding:`"]),
    ],
)
def test_what_is_refused(tmp_path, content, parts):
    with pytest.raises(DataError) as caught:
        load(tmp_path / "a.csv", content)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize(
    ("rows", "merged", "part"),
    [
        ([["Data", None], ["text", "label"], ["a", "gut"]], "A1:B1", "`skip_rows:`"),
        ([["text", "label"], ["a", "gut"], ["b", None], ["c", "schlecht"]], "B2:B3", "row 3, column 'label'"),
        ([["text", "label", "label"], ["a", "gut", "x"]], None, "the column 'label' occurs twice"),
        ([["text", "label"], ["a", "gut"], [None, None], ["b", "schlecht"]], None, "row 3"),
    ],
)
def test_workbooks_that_are_refused(tmp_path, rows, merged, part):
    with pytest.raises(DataError) as caught:
        load(workbook(tmp_path / "a.xlsx", rows, merged))
    assert part in str(caught.value)


def test_ids_weights_and_splits(tmp_path):
    content = "id;text;label;weight;split\n1;a;gut;0,5;train\n1;b;schlecht;1;train \n"
    for keys, part in (
        ({"id": "id"}, "row 3: id '1' occurs already in row 2"),
        ({"weight": "weight"}, "row 2, column 'weight': found '0,5'"),
        ({"splits": {"column": "split"}}, "row 3, column 'split': found 'train '"),
    ):
        with pytest.raises(DataError, match=part):
            load(tmp_path / "a.csv", content, **keys)


def test_thousands_of_labels(tmp_path):
    lines = [f"text {number} {again},label {number}" for number in range(3000) for again in range(3)]
    rows = load(tmp_path / "a.csv", "\n".join(["text,label", *lines]), labels="all")
    assert len(rows.dataset.labels) == 3000 and len(rows["train"]) == 9000
    assert len("".join(rows.notes)) < 3000
