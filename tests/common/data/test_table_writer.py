"""Writing in pieces gives what `write_table` writes whole."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hard_table import FORMATS, TABLE

from common.core.errors import DataError
from common.data import table_files, table_reader, table_writer


def append(path, *parts, schema=None):
    with table_writer.Appender(path, schema) as output:
        for part in parts:
            output.append(part)
        assert not path.exists()
    return output.rows


@pytest.mark.parametrize("ending", FORMATS)
def test_appended_pieces_are_the_whole(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(table_writer, "_ROW_GROUP", 5)
    frame = TABLE.assign(number=np.arange(8) / 7)
    table_files.write_table(tmp_path / f"whole.{ending}", frame)
    schema = pa.schema([*((name, pa.string()) for name in TABLE.columns), ("number", pa.float64())])
    path = tmp_path / f"parts.{ending}"
    assert append(path, frame.iloc[:0], frame.iloc[:3], frame.iloc[3:7], frame.iloc[7:], schema=schema) == 8
    pd.testing.assert_frame_equal(table_files.read_table(path), table_files.read_table(tmp_path / f"whole.{ending}"))
    if ending in ("csv", "tsv", "jsonl"):
        assert path.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"whole.{ending}"]


@pytest.mark.parametrize("ending", FORMATS)
def test_nothing_is_left_of_a_failure(tmp_path, ending):
    schema = pa.schema([(name, pa.string()) for name in TABLE.columns])
    with (
        pytest.raises(RuntimeError),
        table_writer.Appender(tmp_path / f"a.{ending}", schema) as output,
    ):
        output.append(TABLE)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_carriage_return_in_one_piece(tmp_path):
    parts = [pd.DataFrame({"a": ["x"], "n": [1]}), pd.DataFrame({"a": ["bare\rreturn"], "n": [2]})]
    append(tmp_path / "a.csv", *parts)
    assert table_files.read_table(tmp_path / "a.csv")["a"].tolist() == ["x", "bare\rreturn"]


def test_the_types_of_a_parquet_output(tmp_path):
    one, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    one.write_text('{"a": 1, "b": null}\n{"a": 2.5, "c": [1]}\n')
    other.write_text('{"a": 3, "b": "x"}\n')
    found = table_writer.schema([(one, 2), (other, 1)], ["a", "b", "c"], tmp_path / "o.parquet")
    assert found == pa.schema([("a", pa.float64()), ("b", pa.string()), ("c", pa.list_(pa.int64()))])
    other.write_text('{"a": "word"}\n')
    with pytest.raises(DataError, match=r"o\.parquet: cannot be written as parquet: .*2\.jsonl differs"):
        table_writer.schema([(one, 2), (other, 1)], ["a", "b", "c"], tmp_path / "o.parquet")
    one.write_text('{"a": "word"}\n{"a": 1}\n')
    with pytest.raises(DataError, match=r"o\.parquet: cannot be written as parquet"):
        table_writer.schema([(one, 2)], ["a"], tmp_path / "o.parquet")


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
    schema = table_writer.schema(files, table.column_names, tmp_path / "o.parquet")
    with table_reader.Chain(files, table.column_names) as chain:
        append(tmp_path / "o.parquet", *chain.tables(0, 1), *chain.tables(1, 2), schema=schema)
    assert pq.read_table(tmp_path / "o.parquet").equals(table)
