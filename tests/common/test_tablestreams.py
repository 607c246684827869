"""Reading in pieces gives what `read_table` gives whole, and writing in pieces what `write_table` writes."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import tablefiles, tablestreams
from common.errors import DataError

FORMATS = [f"{name}{gz}" for name in tablefiles.FORMATS for gz in ("", ".gz")]
TEXTS = [
    "plain",
    'say "no", twice',
    "two\nlines",
    "naïve – 中文 😀",
    "one\u2028two\x85three",
    "007",
    " NA ",
    "tab\there",
]
TABLE = pd.DataFrame({"id": [f"r{n}" for n in range(8)], "text": TEXTS, "empty": [""] * 8}, dtype=object)


def pieces(path, *sizes, columns=None):
    with tablestreams.opened(path, columns) as source:
        return [source.take(size) for size in sizes]


@pytest.mark.parametrize("ending", FORMATS)
def test_pieces_are_the_whole(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    tablefiles.write_table(path, TABLE)
    found = pieces(path, 3, 1, 9, 9)
    assert [len(piece) for piece in found] == [3, 1, 4, 0]
    pd.testing.assert_frame_equal(pd.concat(found), tablefiles.read_table(path), check_index_type=False)
    [some] = pieces(path, 2, columns=["text"])
    assert list(some.columns) == ["text"] and some["text"].tolist() == TEXTS[:2]


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_are_skipped(tmp_path, ending):
    tablefiles.write_table(tmp_path / f"a.{ending}", TABLE)
    with tablestreams.opened(tmp_path / f"a.{ending}") as source:
        source.skip(2)
        first = source.take(1)
        source.skip(3)
        second = source.take(5)
        source.skip(4)
        assert source.position == 8
    whole = tablefiles.read_table(tmp_path / f"a.{ending}")
    pd.testing.assert_frame_equal(pd.concat([first, second]), whole.iloc[[2, 6, 7]], check_index_type=False)


@pytest.mark.parametrize("steps", [[5] * 20, [1, 40, 3, 56], [97, 3], [33, 33, 34]])
def test_parquet_row_groups(tmp_path, monkeypatch, steps):
    """Jumps within a row group, over several, and batches that end elsewhere."""
    monkeypatch.setattr(tablestreams, "_BATCH", 7)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(100)}), path, row_group_size=30)
    with tablestreams.opened(path) as source:
        for number, step in enumerate(steps):
            start = source.position
            if number % 2:
                source.skip(step)
            else:
                assert source.take(step)["n"].tolist() == list(range(start, start + step))
        assert source.position == 100


def test_parquet_cells_do_not_depend_on_the_piece(tmp_path):
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
        whole, found = tablefiles.read_table(path), pieces(path, 1, 1, 1, 1)
        assert list(found[0].columns) == list(whole.columns)
        for number, piece in enumerate(found):
            for column in whole.columns:
                cell, wanted = piece[column].iloc[0], whole[column].iloc[number]
                assert type(cell) is type(wanted), (name, column)
                assert str(cell) == str(wanted), (name, column)  # arrays, missing values and all


def test_jsonl_keys_that_only_some_records_have(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2, "b": {"c": 3}}\n{"d": null}\n')
    with tablestreams.opened(path) as source:
        assert source.take(1)["a"].tolist() == [1] and source.columns == ["a"]
        source.take(2)
        assert source.columns == ["a", "b", "d"]
    found = pd.concat(pieces(path, 1, 1, 1, columns=["a", "b", "d"]))
    pd.testing.assert_frame_equal(found.astype(object), tablefiles.read_table(path), check_index_type=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"a,b\n1,2\n3\n", "row 3 has 1 cells"),
        ("a.csv", b'a,b\n1,2\n3,"4\n', "unexpected end"),
        ("a.csv", b"a,a\n1,2\n", "column 'a' stands there twice"),
        ("a.csv", b"", "no header row"),
        ("a.csv", b"a\n\xff\n", "utf-8"),
        ("a.jsonl", b'{"a": 1}\n[2]\n', "line 2: expected an object"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "line 2"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n')[:-9], "cannot be read as jsonl"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        pieces(tmp_path / name, 9)
    assert str(tmp_path / name) in str(caught.value)


def test_a_fault_of_the_caller_is_not_the_files(tmp_path):
    tablefiles.write_table(tmp_path / "a.csv", TABLE)
    with pytest.raises(ValueError, match="mine"), tablestreams.opened(tmp_path / "a.csv"):
        raise ValueError("mine")
    with pytest.raises(DataError, match="there is no such file"), tablestreams.opened(tmp_path / "b.csv"):
        pass


@pytest.mark.parametrize("ending", FORMATS)
def test_a_chain_of_files(tmp_path, ending):
    files = []
    for number, rows in enumerate([2, 0, 3, 0, 0, 3, 0]):
        path = tmp_path / f"{number}.{ending}"
        start = sum(count for _, count in files)
        tablefiles.write_table(path, TABLE.iloc[start : start + rows])
        files.append((path, rows))
    with tablestreams.Chain(files, ["text"]) as chain:
        assert chain.frames(0, 0) == []
        parts = [chain.frames(0, 1), chain.frames(1, 4), chain.frames(6, 8)]
    assert [[path.name[0] for path, _ in part] for part in parts] == [["0"], ["0", "2"], ["5"]]
    texts = [text for part in parts for _, frame in part for text in frame["text"]]
    assert texts == [*TEXTS[:4], *TEXTS[6:]]
    first = 1 if ending.startswith(("jsonl", "parquet")) else 2
    assert [frame.index.tolist() for _, frame in parts[1]] == [[first + 1], [first, first + 1]]


def test_a_file_that_has_lost_rows(tmp_path):
    tablefiles.write_table(tmp_path / "a.csv", TABLE)
    with (
        tablestreams.Chain([(tmp_path / "a.csv", 9)], ["text"]) as chain,
        pytest.raises(DataError, match="has 8 rows now; there were 9"),
    ):
        chain.frames(0, 9)


def append(path, *parts, schema=None):
    with tablestreams.Appender(path, schema) as output:
        for part in parts:
            output.append(part)
        assert not path.exists()
    return output.rows


@pytest.mark.parametrize("ending", FORMATS)
def test_appended_pieces_are_the_whole(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(tablestreams, "_ROW_GROUP", 5)
    frame = TABLE.assign(number=np.arange(8) / 7)
    tablefiles.write_table(tmp_path / f"whole.{ending}", frame)
    schema = pa.schema([*((name, pa.string()) for name in TABLE.columns), ("number", pa.float64())])
    path = tmp_path / f"parts.{ending}"
    assert append(path, frame.iloc[:0], frame.iloc[:3], frame.iloc[3:7], frame.iloc[7:], schema=schema) == 8
    pd.testing.assert_frame_equal(tablefiles.read_table(path), tablefiles.read_table(tmp_path / f"whole.{ending}"))
    if ending in ("csv", "tsv", "jsonl"):
        assert path.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"whole.{ending}"]


@pytest.mark.parametrize("ending", FORMATS)
def test_nothing_is_left_of_a_failure(tmp_path, ending):
    schema = pa.schema([(name, pa.string()) for name in TABLE.columns])
    with (
        pytest.raises(RuntimeError),
        tablestreams.Appender(tmp_path / f"a.{ending}", schema) as output,
    ):
        output.append(TABLE)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_carriage_return_in_one_piece(tmp_path):
    parts = [pd.DataFrame({"a": ["x"], "n": [1]}), pd.DataFrame({"a": ["bare\rreturn"], "n": [2]})]
    append(tmp_path / "a.csv", *parts)
    assert tablefiles.read_table(tmp_path / "a.csv")["a"].tolist() == ["x", "bare\rreturn"]


def test_the_types_of_a_parquet_output(tmp_path):
    one, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    one.write_text('{"a": 1, "b": null}\n{"a": 2.5, "c": [1]}\n')
    other.write_text('{"a": 3, "b": "x"}\n')
    found = tablestreams.schema([(one, 2), (other, 1)], ["a", "b", "c"], tmp_path / "o.parquet")
    assert found == pa.schema([("a", pa.float64()), ("b", pa.string()), ("c", pa.list_(pa.int64()))])
    other.write_text('{"a": "word"}\n')
    with pytest.raises(DataError, match=r"o\.parquet: cannot be written as parquet: .*2\.jsonl differs"):
        tablestreams.schema([(one, 2), (other, 1)], ["a", "b", "c"], tmp_path / "o.parquet")
    one.write_text('{"a": "word"}\n{"a": 1}\n')
    with pytest.raises(DataError, match=r"o\.parquet: cannot be written as parquet"):
        tablestreams.schema([(one, 2)], ["a"], tmp_path / "o.parquet")


def test_parquet_keeps_its_own_types(tmp_path):
    table = pa.table(
        {
            "n": pa.array([1, None], pa.int16()),
            "c": pa.array(["x", "y"]).dictionary_encode(),
            "t": pa.array([1, 2], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    files = [(tmp_path / "a.parquet", 2)]
    schema = tablestreams.schema(files, table.column_names, tmp_path / "o.parquet")
    with tablestreams.Chain(files, table.column_names) as chain:
        append(tmp_path / "o.parquet", *chain.tables(0, 1), *chain.tables(1, 2), schema=schema)
    assert pq.read_table(tmp_path / "o.parquet").equals(table)
