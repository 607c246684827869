"""Reading in pieces gives what `read_table` gives whole."""

import gzip

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hard_table import FORMATS, TABLE, TEXTS

from common.core.errors import DataError
from common.data import table_files, table_reader


def pieces(path, *sizes, columns=None):
    with table_reader.opened(path, columns) as source:
        return [source.take(size) for size in sizes]


@pytest.mark.parametrize("ending", FORMATS)
def test_pieces_are_the_whole(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    table_files.write_table(path, TABLE)
    found = pieces(path, 3, 1, 9, 9)
    assert [len(piece) for piece in found] == [3, 1, 4, 0]
    pd.testing.assert_frame_equal(pd.concat(found), table_files.read_table(path), check_index_type=False)
    [some] = pieces(path, 2, columns=["text"])
    assert list(some.columns) == ["text"] and some["text"].tolist() == TEXTS[:2]


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_are_skipped(tmp_path, ending):
    table_files.write_table(tmp_path / f"a.{ending}", TABLE)
    with table_reader.opened(tmp_path / f"a.{ending}") as source:
        source.skip(2)
        first = source.take(1)
        source.skip(3)
        second = source.take(5)
        source.skip(4)
        assert source.position == 8
    whole = table_files.read_table(tmp_path / f"a.{ending}")
    pd.testing.assert_frame_equal(pd.concat([first, second]), whole.iloc[[2, 6, 7]], check_index_type=False)


@pytest.mark.parametrize("steps", [[5] * 20, [1, 40, 3, 56], [97, 3], [33, 33, 34]])
def test_parquet_row_groups(tmp_path, monkeypatch, steps):
    """Jumps within a row group, over several, and batches that end elsewhere."""
    monkeypatch.setattr(table_reader, "_BATCH", 7)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(100)}), path, row_group_size=30)
    with table_reader.opened(path) as source:
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
        whole, found = table_files.read_table(path), pieces(path, 1, 1, 1, 1)
        assert list(found[0].columns) == list(whole.columns)
        for number, piece in enumerate(found):
            for column in whole.columns:
                cell, wanted = piece[column].iloc[0], whole[column].iloc[number]
                assert type(cell) is type(wanted), (name, column)
                assert str(cell) == str(wanted), (name, column)  # arrays, missing values and all


def test_jsonl_keys_that_only_some_records_have(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2, "b": {"c": 3}}\n{"d": null}\n')
    with table_reader.opened(path) as source:
        assert source.take(1)["a"].tolist() == [1] and source.columns == ["a"]
        source.take(2)
        assert source.columns == ["a", "b", "d"]
    found = pd.concat(pieces(path, 1, 1, 1, columns=["a", "b", "d"]))
    pd.testing.assert_frame_equal(found.astype(object), table_files.read_table(path), check_index_type=False)


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
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n', mtime=0)[:-9], "cannot be read as jsonl"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        pieces(tmp_path / name, 9)
    assert str(tmp_path / name) in str(caught.value)


def test_a_fault_of_the_caller_is_not_the_files(tmp_path):
    table_files.write_table(tmp_path / "a.csv", TABLE)
    with pytest.raises(ValueError, match="mine"), table_reader.opened(tmp_path / "a.csv"):
        raise ValueError("mine")
    with pytest.raises(DataError, match="there is no such file"), table_reader.opened(tmp_path / "b.csv"):
        pass


@pytest.mark.parametrize("ending", FORMATS)
def test_a_chain_of_files(tmp_path, ending):
    files = []
    for number, rows in enumerate([2, 0, 3, 0, 0, 3, 0]):
        path = tmp_path / f"{number}.{ending}"
        start = sum(count for _, count in files)
        table_files.write_table(path, TABLE.iloc[start : start + rows])
        files.append((path, rows))
    with table_reader.Chain(files, ["text"]) as chain:
        assert chain.frames(0, 0) == []
        parts = [chain.frames(0, 1), chain.frames(1, 4), chain.frames(6, 8)]
    assert [[path.name[0] for path, _ in part] for part in parts] == [["0"], ["0", "2"], ["5"]]
    texts = [text for part in parts for _, frame in part for text in frame["text"]]
    assert texts == [*TEXTS[:4], *TEXTS[6:]]
    first = 1 if ending.startswith(("jsonl", "parquet")) else 2
    assert [frame.index.tolist() for _, frame in parts[1]] == [[first + 1], [first, first + 1]]


def test_a_file_that_has_lost_rows(tmp_path):
    table_files.write_table(tmp_path / "a.csv", TABLE)
    with (
        table_reader.Chain([(tmp_path / "a.csv", 9)], ["text"]) as chain,
        pytest.raises(DataError, match="has 8 rows now; there were 9"),
    ):
        chain.frames(0, 9)
