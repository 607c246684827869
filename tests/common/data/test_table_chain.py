import pytest
from hard_table import FORMATS, TABLE, TEXTS

from common.core.errors import DataError
from common.data.table_chain import ChainedReader
from common.data.table_writer import write_table


@pytest.mark.parametrize("ending", FORMATS)
def test_a_chain_of_files(tmp_path, ending):
    files = []
    for number, rows in enumerate([2, 0, 3, 0, 0, 3, 0]):
        path = tmp_path / f"{number}.{ending}"
        start = sum(count for _, count in files)
        write_table(path, TABLE.iloc[start : start + rows])
        files.append((path, rows))
    with ChainedReader(files, ["text"]) as chain:
        assert chain.frames(0, 0) == []
        parts = [chain.frames(0, 1), chain.frames(1, 4), chain.frames(6, 8)]
    assert [[path.name[0] for path, _ in part] for part in parts] == [["0"], ["0", "2"], ["5"]]
    texts = [text for part in parts for _, frame in part for text in frame["text"]]
    assert texts == [*TEXTS[:4], *TEXTS[6:]]
    first = 1 if ending.startswith(("jsonl", "parquet")) else 2
    assert [frame.index.tolist() for _, frame in parts[1]] == [[first + 1], [first, first + 1]]


def test_a_file_that_has_lost_rows(tmp_path):
    write_table(tmp_path / "a.csv", TABLE)
    with (
        ChainedReader([(tmp_path / "a.csv", 9)], ["text"]) as chain,
        pytest.raises(DataError, match="has 8 rows now; there were 9"),
    ):
        chain.frames(0, 9)
