import gzip
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hard_table import FORMATS, TABLE, TEXTS
from openpyxl import Workbook

from common.core.errors import DataError
from common.data.table_reader import open_table, read_table
from common.data.table_writer import write_table


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "first"), [("a.csv", 2), ("a.tsv", 2), ("a.xlsx", 2), ("a.jsonl", 1), ("a.parquet", 1)]
)
def test_the_index_is_the_row_as_a_person_sees_it(tmp_path, name, first):
    write_table(tmp_path / name, pd.DataFrame({"a": ["x", "y"]}))
    assert read_table(tmp_path / name).index.tolist() == [first, first + 1]


def test_blank_jsonl_lines_count(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": 2}\n')
    assert read_table(path).index.tolist() == [1, 3]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_byte_order_mark_belongs_to_no_column(tmp_path, name, separator):
    path = write(tmp_path / name, f'\ufeff"text"{separator}label\nx{separator}y\n')
    assert read_table(path).to_dict("records") == [{"text": "x", "label": "y"}]


def test_a_byte_order_mark_in_jsonl(tmp_path):
    path = write(tmp_path / "a.jsonl", '\ufeff{"text": "x"}\n')
    assert read_table(path)["text"].tolist() == ["x"]


@pytest.mark.parametrize(
    "text",
    ["a,b\n1,2,3\n4,5,6\n", "a,b\n1,2,3\n4,5\n", "a,b\n1,2,\n", "a,b\n9,9\n3\n"],
    ids=["every row", "first row", "empty surplus", "too few"],
)
def test_other_cells_than_the_header_has(tmp_path, text):
    with pytest.raises(
        DataError, match=r"a\.csv: cannot be read as csv: row [23] has [13] cells, the header has 2 names"
    ):
        read_table(write(tmp_path / "a.csv", text))


def test_blank_csv_lines_count(tmp_path):
    assert read_table(write(tmp_path / "a.csv", "a,b\n1,2\n\n3,4\n\n")).index.tolist() == [2, 4]


@pytest.mark.parametrize("text", ["", "\n"])
def test_no_header(tmp_path, text):
    with pytest.raises(DataError, match=r"there is no header row"):
        read_table(write(tmp_path / "a.csv", text))


def test_an_open_quote_swallows_no_rows(tmp_path):
    with pytest.raises(DataError, match=r"unexpected end of data"):
        read_table(write(tmp_path / "a.csv", 'a,b\n1,"2\n3,4\n'))


def test_a_very_long_cell(tmp_path):
    assert len(read_table(write(tmp_path / "a.csv", "a,b\n1," + "x" * 200_000 + "\n"))["b"][2]) == 200_000


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
        with pytest.raises(DataError, match=f"{path.name}.*the column 't' occurs twice"):
            read_table(path)


def test_columns_without_a_name_are_allowed(tmp_path):
    path = excel_with(tmp_path / "a.xlsx", [None, "text", None], [0, "x", None])
    assert read_table(path)["text"].tolist() == ["x"]
    assert read_table(write(tmp_path / "a.csv", ",text,\n0,x,\n"))["text"].tolist() == ["x"]


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
        read_table(write(tmp_path / "a.jsonl", text))
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
    write_table(path, frame)
    write(path, harm(path.read_bytes()))
    try:
        found = read_table(path)
    except DataError as error:
        assert str(error).startswith(f"{path}: cannot be read as ")
        assert len(str(error).splitlines()) == 1
    else:
        # 40 bytes may hit what no reader looks at; then the rows must be whole.
        assert found["text"].tolist() == frame["text"].tolist()
        assert harm is spoilt


def test_a_damaged_sheet_inside_a_sound_zip(tmp_path):
    write_table(tmp_path / "a.xlsx", pd.DataFrame({"a": ["x"]}))
    with zipfile.ZipFile(tmp_path / "a.xlsx") as old, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as new:
        for name in old.namelist():
            new.writestr(name, half(old.read(name)) if name.endswith("sheet1.xml") else old.read(name))
    with pytest.raises(DataError, match=r"b\.xlsx: cannot be read as xlsx"):
        read_table(tmp_path / "b.xlsx")


def test_a_wrong_encoding_and_an_empty_file(tmp_path):
    for name, content in (("a.csv", b"a\n\xe9\n"), ("a.csv", b""), ("a.xlsx", b""), ("a.parquet", b"")):
        with pytest.raises(DataError, match=f"{name}: cannot be read as"):
            read_table(write(tmp_path / name, content))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_table(tmp_path / "a.csv")


def read_chunks(path, *sizes, columns=None):
    with open_table(path, columns) as source:
        return [source.read(size) for size in sizes]


@pytest.mark.parametrize("ending", FORMATS)
def test_chunks_are_the_whole(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    write_table(path, TABLE)
    found = read_chunks(path, 3, 1, 9, 9)
    assert [len(chunk) for chunk in found] == [3, 1, 4, 0]
    pd.testing.assert_frame_equal(pd.concat(found), read_table(path), check_index_type=False)
    [some] = read_chunks(path, 2, columns=["text"])
    assert list(some.columns) == ["text"] and some["text"].tolist() == TEXTS[:2]


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_are_skipped(tmp_path, ending):
    write_table(tmp_path / f"a.{ending}", TABLE)
    with open_table(tmp_path / f"a.{ending}") as source:
        source.skip(2)
        first = source.read(1)
        source.skip(3)
        second = source.read(5)
        source.skip(4)
        assert source.position == 8
    whole = read_table(tmp_path / f"a.{ending}")
    pd.testing.assert_frame_equal(pd.concat([first, second]), whole.iloc[[2, 6, 7]], check_index_type=False)


@pytest.mark.parametrize("steps", [[5] * 20, [1, 40, 3, 56], [97, 3], [33, 33, 34]])
def test_parquet_row_groups(tmp_path, monkeypatch, steps):
    """Jumps within a row group, over several, and batches that end elsewhere."""
    monkeypatch.setattr("common.data.parquet_reader.BATCH_ROWS", 7)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(100)}), path, row_group_size=30)
    with open_table(path) as source:
        for number, step in enumerate(steps):
            start = source.position
            if number % 2:
                source.skip(step)
            else:
                assert source.read(step)["n"].tolist() == list(range(start, start + step))
        assert source.position == 100


def test_parquet_cells_do_not_depend_on_the_chunk(tmp_path):
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, 2, None, 4], dtype="Int64"),
            "category": pd.Categorical(["a", "b", None, "a"]),
            "time": pd.to_datetime(["2026-01-01", None, "2026-01-03", "2026-01-04"]),
            "flag": pd.Series([True, None, False, True], dtype=object),
            "list": [[1], [], None, [2, 3]],
        },
        index=pd.Index(["w", "x", "y", "z"], name="key"),
    )
    frame.to_parquet(tmp_path / "extended.parquet")
    arrow = pa.table({"n": pa.array([1, 2, None, 4], pa.int32()), "m": pa.array([1, 2, 3, 4], pa.int8())})
    pq.write_table(arrow, tmp_path / "plain.parquet")
    pq.write_table(arrow, tmp_path / "bare.parquet", write_statistics=False)
    for name in ("extended", "plain", "bare"):
        path = tmp_path / f"{name}.parquet"
        whole, found = pd.read_parquet(path).astype(object), read_chunks(path, 1, 1, 1, 1)
        assert list(found[0].columns) == list(whole.columns)
        for number, chunk in enumerate(found):
            for column in whole.columns:
                cell, wanted = chunk[column].iloc[0], whole[column].iloc[number]
                assert type(cell) is type(wanted), (name, column)
                assert str(cell) == str(wanted), (name, column)  # arrays, missing values and all


def test_jsonl_keys_that_only_some_records_have(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2, "b": {"c": 3}}\n{"d": null}\n')
    with open_table(path) as source:
        assert source.read(1)["a"].tolist() == [1] and source.columns == ["a"]
        source.read(2)
        assert source.columns == ["a", "b", "d"]
    found = pd.concat(read_chunks(path, 1, 1, 1, columns=["a", "b", "d"]))
    pd.testing.assert_frame_equal(found.astype(object), read_table(path), check_index_type=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"a,b\n1,2\n3\n", "row 3 has 1 cells"),
        ("a.csv", b'a,b\n1,2\n3,"4\n', "unexpected end"),
        ("a.csv", b"a,a\n1,2\n", "column 'a' occurs twice"),
        ("a.csv", b"", "no header row"),
        ("a.csv", b"a\n\xff\n", "utf-8"),
        ("a.jsonl", b'{"a": 1}\n[2]\n', "line 2: expected an object"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "line 2"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n', mtime=0)[:-9], "cannot be read as jsonl"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_chunks(tmp_path / name, 9)
    assert str(tmp_path / name) in str(caught.value)


def test_a_fault_of_the_caller_is_not_the_files(tmp_path):
    write_table(tmp_path / "a.csv", TABLE)
    with pytest.raises(ValueError, match="mine"), open_table(tmp_path / "a.csv"):
        raise ValueError("mine")
    with pytest.raises(DataError, match="there is no such file"), open_table(tmp_path / "b.csv"):
        pass
