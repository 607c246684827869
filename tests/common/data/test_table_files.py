import gzip
import zipfile

import pandas as pd
import pytest
from openpyxl import Workbook, load_workbook

from common.core.errors import DataError
from common.data import table_files

NAMES = [f"rows.{name}{end}" for name in table_files.FORMATS for end in ("", ".gz")]
WORDS = ["01", "NA", "null", "None", "nan", "", "#N/A", "1e5", "TRUE", "007", "n/a"]
TEXTS = [
    "=1+1",
    "+1",
    "comma, tab\tand 'quotes' \"doubled\"",
    " spaces ",
    "two\nlines",
    "naïve – 中文 😀",
    "one\u2028two\x85three",
    "_x000D_",
    "#hash",
]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", NAMES)
def test_texts_come_back_as_they_were(tmp_path, name):
    frame = pd.DataFrame({"text": WORDS + TEXTS})
    table_files.write_table(tmp_path / name, frame)
    assert table_files.read_table(tmp_path / name)["text"].tolist() == WORDS + TEXTS


@pytest.mark.parametrize("name", [name for name in NAMES if "xlsx" not in name])
def test_control_characters_and_carriage_returns_survive(tmp_path, name):
    texts = ["bell\x07", "bare\rreturn", "both\r\nends", "plain"]
    table_files.write_table(tmp_path / name, pd.DataFrame({"text": texts, "n": range(4)}))
    found = table_files.read_table(tmp_path / name)
    assert found["text"].tolist() == texts
    assert [int(number) for number in found["n"]] == [0, 1, 2, 3]


def test_control_characters_become_visible_in_xlsx(tmp_path):
    table_files.write_table(tmp_path / "a.xlsx", pd.DataFrame({"text": ["a\x07b", "a\x00b"]}))
    assert table_files.read_table(tmp_path / "a.xlsx")["text"].tolist() == ["a\ufffdb", "a\ufffdb"]


def test_a_text_with_an_equals_sign_is_no_formula(tmp_path):
    table_files.write_table(tmp_path / "a.xlsx", pd.DataFrame({"=h": ["=1+1"]}))
    cells = [row[0] for row in load_workbook(tmp_path / "a.xlsx").active.iter_rows()]
    assert [(cell.value, cell.data_type) for cell in cells] == [("=h", "s"), ("=1+1", "s")]


@pytest.mark.parametrize("name", ["a.xlsx", "a.jsonl", "a.parquet"])
def test_numbers_stay_numbers(tmp_path, name):
    frame = pd.DataFrame({"whole": [1, 2], "part": [0.125, 1 / 3]})
    table_files.write_table(tmp_path / name, frame)
    found = table_files.read_table(tmp_path / name)
    assert found["whole"].tolist() == [1, 2]
    assert found["part"].tolist() == pytest.approx([0.125, 1 / 3], abs=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_table_gives_the_same_texts_and_columns_without_rows(tmp_path, name):
    table_files.write_table(tmp_path / name, pd.DataFrame({"b": ["x"], "a": ["y"]}))
    assert list(table_files.read_table(tmp_path / name).columns) == ["b", "a"]


def test_gzip_is_deterministic(tmp_path):
    frame = pd.DataFrame({"a": ["x"] * 99})
    for name in ("1.csv.gz", "2.csv.gz"):
        table_files.write_table(tmp_path / name, frame)
    assert (tmp_path / "1.csv.gz").read_bytes() == (tmp_path / "2.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "1.csv.gz").read_bytes()).startswith(b"a\nx\n")


@pytest.mark.parametrize(
    ("name", "first"), [("a.csv", 2), ("a.tsv", 2), ("a.xlsx", 2), ("a.jsonl", 1), ("a.parquet", 1)]
)
def test_the_index_is_the_row_as_a_person_sees_it(tmp_path, name, first):
    table_files.write_table(tmp_path / name, pd.DataFrame({"a": ["x", "y"]}))
    assert table_files.read_table(tmp_path / name).index.tolist() == [first, first + 1]


def test_blank_jsonl_lines_count(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": 2}\n')
    assert table_files.read_table(path).index.tolist() == [1, 3]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_byte_order_mark_belongs_to_no_column(tmp_path, name, separator):
    path = write(tmp_path / name, f'\ufeff"text"{separator}label\nx{separator}y\n')
    assert table_files.read_table(path).to_dict("records") == [{"text": "x", "label": "y"}]


def test_a_byte_order_mark_in_jsonl(tmp_path):
    path = write(tmp_path / "a.jsonl", '\ufeff{"text": "x"}\n')
    assert table_files.read_table(path)["text"].tolist() == ["x"]


@pytest.mark.parametrize(
    "text",
    ["a,b\n1,2,3\n4,5,6\n", "a,b\n1,2,3\n4,5\n", "a,b\n1,2,\n", "a,b\n9,9\n3\n"],
    ids=["every row", "first row", "empty surplus", "too few"],
)
def test_other_cells_than_the_header_has(tmp_path, text):
    with pytest.raises(
        DataError, match=r"a\.csv: cannot be read as csv: row [23] has [13] cells, the header has 2 names"
    ):
        table_files.read_table(write(tmp_path / "a.csv", text))


def test_blank_csv_lines_count(tmp_path):
    assert table_files.read_table(write(tmp_path / "a.csv", "a,b\n1,2\n\n3,4\n\n")).index.tolist() == [2, 4]


@pytest.mark.parametrize("text", ["", "\n"])
def test_no_header(tmp_path, text):
    with pytest.raises(DataError, match=r"there is no header row"):
        table_files.read_table(write(tmp_path / "a.csv", text))


def test_an_open_quote_swallows_no_rows(tmp_path):
    with pytest.raises(DataError, match=r"unexpected end of data"):
        table_files.read_table(write(tmp_path / "a.csv", 'a,b\n1,"2\n3,4\n'))


def test_a_very_long_cell(tmp_path):
    assert len(table_files.read_table(write(tmp_path / "a.csv", "a,b\n1," + "x" * 200_000 + "\n"))["b"][2]) == 200_000


def excel_with(path, *rows):
    book = Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_a_repeated_column_is_refused_and_not_renamed(tmp_path):
    files = [
        write(tmp_path / "a.csv", "t,u,t\n1,2,3\n"),
        write(tmp_path / "a.tsv", "\ufefft\tt\n1\t2\n"),
        excel_with(tmp_path / "a.xlsx", ["t", "t"], [1, 2]),
    ]
    for path in files:
        with pytest.raises(DataError, match=f"{path.name}.*the column 't' stands there twice"):
            table_files.read_table(path)


def test_columns_without_a_name_are_allowed(tmp_path):
    path = excel_with(tmp_path / "a.xlsx", [None, "text", None], [0, "x", None])
    assert table_files.read_table(path)["text"].tolist() == ["x"]
    assert table_files.read_table(write(tmp_path / "a.csv", ",text,\n0,x,\n"))["text"].tolist() == ["x"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1}\n{"a": \n', "line 2: "),
        ('{"a": 1}\n\n[1]\n', "line 3: expected an object, found list"),
        (b'{"a": "\xe9"}\n', "utf-8"),
    ],
)
def test_a_bad_jsonl_line_is_named(tmp_path, text, problem):
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read as jsonl: ") as raised:
        table_files.read_table(write(tmp_path / "a.jsonl", text))
    assert problem in str(raised.value)


def half(content):
    return content[: len(content) // 2]


def spoilt(content):
    middle = len(content) // 2
    return content[:middle] + b"\xff" * 40 + content[middle + 40 :]


@pytest.mark.parametrize("harm", [half, spoilt, lambda content: b"no table"])
@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet", "a.csv.gz", "a.jsonl.gz", "a.xlsx.gz"])
def test_a_corrupted_file_is_named(tmp_path, name, harm):
    path = tmp_path / name
    frame = pd.DataFrame({"text": [f"{number * 7919 % 1000} text" for number in range(200)]})
    table_files.write_table(path, frame)
    write(path, harm(path.read_bytes()))
    try:
        found = table_files.read_table(path)
    except DataError as error:
        assert str(error).startswith(f"{path}: cannot be read as ")
        assert len(str(error).splitlines()) == 1
    else:
        # 40 bytes may hit what no reader looks at; then the rows must be whole.
        assert found["text"].tolist() == frame["text"].tolist()
        assert harm is spoilt


def test_a_damaged_sheet_inside_a_sound_zip(tmp_path):
    table_files.write_table(tmp_path / "a.xlsx", pd.DataFrame({"a": ["x"]}))
    with zipfile.ZipFile(tmp_path / "a.xlsx") as old, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as new:
        for name in old.namelist():
            new.writestr(name, half(old.read(name)) if name.endswith("sheet1.xml") else old.read(name))
    with pytest.raises(DataError, match=r"b\.xlsx: cannot be read as xlsx"):
        table_files.read_table(tmp_path / "b.xlsx")


def test_a_wrong_encoding_and_an_empty_file(tmp_path):
    for name, content in (("a.csv", b"a\n\xe9\n"), ("a.csv", b""), ("a.xlsx", b""), ("a.parquet", b"")):
        with pytest.raises(DataError, match=f"{name}: cannot be read as"):
            table_files.read_table(write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "frame", "problem"),
    [
        ("a.xlsx", pd.DataFrame({"a": ["ok", "x" * 32_768]}), "row 3 has a text of 32768 characters"),
        ("a.xlsx", pd.DataFrame({"a": [["a list"]]}), "Cannot convert"),
        ("a.parquet", pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)}), "column a"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, frame, problem):
    with pytest.raises(DataError, match=problem):
        table_files.write_table(tmp_path / name, frame)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.txt", "a", "a.gz", "a.xls", ".csv"])
def test_an_unknown_ending(tmp_path, name):
    write(tmp_path / name, "a\n1\n")
    with pytest.raises(DataError, match=r"unknown file format; allowed endings: xlsx, csv, tsv, jsonl, parquet"):
        table_files.read_table(tmp_path / name)


def test_format_of_takes_any_case_and_dots(tmp_path):
    assert table_files.format_of(tmp_path / "v1.2.CSV.GZ") == ("csv", True)
    assert table_files.format_of(tmp_path / "my.data.xlsx") == ("xlsx", False)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        table_files.read_table(tmp_path / "a.csv")


def test_find_split_files(tmp_path):
    for name in ("test.jsonl", "train.csv.gz", "other.csv", "train.txt"):
        write(tmp_path / name, "")
    found = table_files.find_split_files(tmp_path)
    assert {split: path.name for split, path in found.items()} == {"train": "train.csv.gz", "test": "test.jsonl"}
    assert list(found) == ["train", "test"]


@pytest.mark.parametrize("name", ["val.xlsx", "dev.tsv.gz", "validation.csv"])
def test_validation_has_further_names(tmp_path, name):
    for other in ("train.xlsx", "test.xlsx", name):
        write(tmp_path / other, "")
    found = table_files.find_split_files(tmp_path)
    assert {split: path.name for split, path in found.items()} == {
        **{"train": "train.xlsx", "validation": name, "test": "test.xlsx"}
    }


def test_two_names_of_one_split_are_refused(tmp_path):
    for name in ("train.xlsx", "val.xlsx", "validation.xlsx"):
        write(tmp_path / name, "")
    with pytest.raises(DataError, match=r"both validation\.xlsx and val\.xlsx are there, for one split; keep one"):
        table_files.find_split_files(tmp_path)


def test_find_split_files_refuses(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        table_files.find_split_files(tmp_path / "absent")
    with pytest.raises(DataError, match="no split found"):
        table_files.find_split_files(tmp_path)
    write(tmp_path / "train.csv", "")
    write(tmp_path / "train.csv.gz", "")
    with pytest.raises(DataError, match=r"both train\.csv and train\.csv\.gz are there"):
        table_files.find_split_files(tmp_path)
