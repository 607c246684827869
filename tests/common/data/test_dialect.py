"""csv, tsv and txt files: separators, quotes, escapes, headers, and what the dataset YAML says about them."""

import csv
from pathlib import Path

import pytest
from toy_runs import dataset, read_options

from common.core.errors import ConfigError, DataError
from common.data.load import load_rows
from common.data.table_reader import open_table, read_table


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def refusal(path: Path, **values: object) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, read_options(**values))
    return str(caught.value)


def test_a_tsv_without_quoting_is_refused_or_read_as_it_is(case):
    path = case("unquoted.tsv")
    message = refusal(path)
    assert "row 5" in message and "`quoting: false`" in message
    assert len(read_table(path, read_options(quoting=False))) == 40
    assert len(read_table(path, read_options(quoting=True))) == 34  # what was asked for


@pytest.mark.parametrize(
    ("name", "rows", "first", "note"),
    [
        ("quote-opens-cell.tsv", 2, ['"Hello" she said', "OTHER"], "a part of the text"),
        ("backslash-quotes.csv", 40, ['it\'s "escaped" here', "bad"], '\\"'),
        ("semicolon.csv", 2, ["First, with a comma", "good"], "';'"),
        ("pipe.csv", 1, ["1", "joy", "When I met a friend, and talked"], "'|'"),
    ],
)
def test_another_dialect_is_found_and_said_once(case, capsys, name, rows, first, note):
    path = case(name)
    frame = read_table(path)
    assert len(frame) == rows
    assert all(str(cell).startswith(start) for cell, start in zip(frame.iloc[0], first, strict=False))
    read_table(path)
    notes = [line for line in capsys.readouterr().err.splitlines() if name in line]
    assert len(notes) <= 1 and all(note in line for line in notes)  # another test may have read it before


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt"])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('text|label\n"so \\"it\\" is"|x\nb|y\n', [['so "it" is', "x"], ["b", "y"]]),
        ('text|label\n"so" it is|x\nb|y\n', [['"so" it is', "x"], ["b", "y"]]),
    ],
)
def test_another_separator_beside_another_use_of_quotes(tmp_path, name, text, wanted):
    assert read_table(write(tmp_path / name, text)).to_numpy().tolist() == wanted


def test_texts_with_equally_many_commas_do_not_make_the_comma_the_separator(tmp_path):
    """The smallest file known in which the library clevercsv (0.8.5) finds the comma."""
    path = write(tmp_path / "a.txt", "text;label\n" + "a, b, c, d, e, f;x\n" * 6)
    assert read_table(path).to_numpy().tolist() == [["a, b, c, d, e, f", "x"]] * 6


def test_chunks_are_read_in_the_dialect_that_was_found(tmp_path):
    path = write(tmp_path / "a.csv", "text;label\na, b;x\nc, d, e;y\n")
    with open_table(path, ["text"]) as reader:
        reader.skip(1)
        assert reader.read(5)["text"].tolist() == ["c, d, e"]


SWALLOWED = {
    "csv": ("a.csv", 'text,label\n"one,x\ntwo,y\nthree",x\n', 2),
    "csv that quotes elsewhere": ("a.csv", 'text,label\n"a, b",x\n"one,x\ntwo",x\n', 3),
    "tsv that quotes elsewhere": ("a.tsv", 'text\tlabel\n"a\tb"\tx\n"one\tx\n two"\tx\n', 3),
    "two lines": ("a.csv", 'text,label\n"Well, yes\nno",x\n', 2),
    "one column": ("a.csv", 'text\nx\n"one\ntwo"\n', 3),
    "label first": ("a.csv", 'label,text\nx,"one\ny,two"\n', 2),
    "carriage returns": ("a.csv", 'text,label\r\n"one,x\r\ntwo",y\r\n', 2),
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_rows_are_never_joined_silently(tmp_path, name):
    file, text, row = SWALLOWED[name]
    message = refusal(write(tmp_path / file, text))
    assert f"row {row}" in message and "`quoting: false`" in message and "`quoting: true`" in message
    assert len(read_table(tmp_path / file, read_options(quoting=True))) == row - 1


def test_a_quote_late_in_a_large_file_joins_no_rows(tmp_path):
    lines = [f"{number},some words of a text,x" for number in range(60_000)]
    lines[50_000], lines[50_003] = '50000,"open,x', '50003,closed",x'
    message = refusal(write(tmp_path / "a.csv", "\n".join(["id,text,label", *lines]) + "\n"))
    assert "row" in message and "`quoting: false`" in message


@pytest.mark.parametrize(
    "text",
    [
        'text,label\n"Dear all,\nthank you, all",x\n',
        'text,label\n"a, b",x\n"Dear all,\nthank you",x\n',
        'id,text,label\n1,"one\ntwo\n\nthree, four",x\n',
        '"text","label"\n"one,x\ntwo",y\n',
    ],
)
def test_texts_of_several_lines_are_read(tmp_path, text):
    with (write(tmp_path / "a.csv", text)).open(newline="") as stream:
        wanted = list(csv.reader(stream))
    assert read_table(tmp_path / "a.csv").to_numpy().tolist() == wanted[1:]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("text,label\na,b,x\n", ["row 2 has 3 cells", "`separator:`", "`quoting:`"]),
        ('text,label\nok,x\n"a" b,c,x\n', ["row 3", "`quoting: false`"]),
        ("a;b|c\n1;2|3\n", ["';'", "'|'", "`separator:`"]),
        ('text,label\n"a" b,x\n"whole",y\n', ["row 2", "`quoting: false`"]),  # a cell in quotes: both may be meant
        ('te,xt;label\n"a,b";x\n', ["','", "';'", "`separator:`"]),  # `"a` may be a cell
    ],
)
def test_what_may_be_meant_in_several_ways_is_refused(tmp_path, text, parts):
    message = refusal(write(tmp_path / "a.csv", text))
    assert all(part in message for part in parts), message


def test_the_yaml_says_the_dialect(tmp_path):
    path = write(tmp_path / "a.csv", 'Export of today\n\nx~a, b\ny~"c\n')
    frame = read_table(path, read_options(separator="~", quoting=False, header=["label", "text"], skip_rows=2))
    assert frame.to_dict("records") == [{"label": "x", "text": "a, b"}, {"label": "y", "text": '"c'}]
    assert frame.index.tolist() == [3, 4]


def test_the_options_of_a_dataset_reach_its_files(tmp_path):
    path = write(tmp_path / "a.csv", "A~one~con\nA~two~pro\n")
    source = {"files": str(path), "separator": "~", "header": ["claim", "sentence", "stance"]}
    rows = load_rows(dataset(source=source))
    assert [row.texts for row in rows["train"]] == [("A", "one"), ("A", "two")]


def test_header_only(case):
    with pytest.raises(DataError, match=r"header-only\.csv.*no rows"):
        load_rows(dataset(source={"files": str(case("header-only.csv"))}, text=["text"], label="label"))


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"separator": "ab"}, "separator"),
        ({"separator": "a"}, "cannot separate"),
        ({"header": ["a", "a"]}, "twice"),
        ({"encoding": "utf-9"}, "'utf-9' is unknown"),
        ({"encoding": "base64"}, "'base64' is unknown"),
        ({"skip_rows": -1}, "skip_rows"),
        ({"hub": "a/b", "files": None, "sheet": "x"}, "`sheet` belongs to `files`"),
    ],
)
def test_wrong_options(values, part):
    with pytest.raises(ConfigError, match=part):
        dataset(source={"files": "a.csv"} | values)


@pytest.mark.parametrize(
    "text",
    [
        'text,label,note\n"a, b",good,\n"Great,good,\nscreen 12",bad,\nx,bad,\n',  # the last column is empty
        'id,text,label\n1,"a, b",good\n2,"Great,good\n3,ok,bad\n4, fine,bad\n5,screen 12",bad\nx,y,bad\n',
    ],
)
def test_a_stray_quote_beside_empty_cells_and_spaces(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="join"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("encoding", ["utf_8", "U8", "utf-8"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("\ufefftext,label\na,b\n".encode())
    assert list(read_table(tmp_path / "a.csv", read_options(encoding=encoding)).columns) == ["text", "label"]


@pytest.mark.parametrize("first", ["sep=;\n", "sep=;\r\n", '"sep=;"\n'])
def test_the_first_line_of_a_spreadsheet_program_states_the_separator(tmp_path, first):
    path = write(tmp_path / "a.csv", first + "text;label\na, b;x\nc;d;y\n")
    assert "row 4 has 3 cells" in refusal(path)
    path = write(tmp_path / "a.csv", first + "text;label\na, b;x\n")
    found = read_table(path)
    assert found.to_dict("records") == [{"text": "a, b", "label": "x"}] and found.index.tolist() == [3]


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.tsv"])
def test_one_column_whose_texts_hold_separators(tmp_path, name, capsys):
    texts = ["Well, yes, no", "plain", 'he said "no", then; left\there']
    path = write(tmp_path / name, "text\n" + "\n".join(texts) + "\n")
    assert read_table(path)["text"].tolist() == texts
    assert "each line is one cell" in capsys.readouterr().err


def test_one_text_a_line(tmp_path):
    assert read_table(write(tmp_path / "a.txt", "text\none\ntwo\n"))["text"].tolist() == ["one", "two"]
    path = write(tmp_path / "b.txt", "one, two\nthree\n")
    assert read_table(path, read_options(header=["text"]))["text"].tolist() == ["one, two", "three"]


@pytest.mark.parametrize(
    "text",
    ["text\na,b\nc,d\n", 'text\n"a, b",\nc\n', 'text\n"1","a"\n"2","b, c"\n'],
)
def test_one_name_above_several_columns_is_refused(tmp_path, text):
    assert "`separator:`" in refusal(write(tmp_path / "a.csv", text))
