"""Files that are something else than their name says, further formats, and cells that are no texts."""

import bz2
import json
import lzma
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from toy_runs import dataset, read_options

from common.cli.main import guard
from common.core.errors import DataError
from common.data.load import load_rows
from common.data.rows import to_rows
from common.data.table_files import FORMATS
from common.data.table_reader import read_table
from common.data.table_writer import write_table


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path)
    return str(caught.value)


def test_an_old_workbook_is_read_as_what_it_is(case):
    assert len(read_table(case("old-xls-named.xlsx"))) == 40


def test_text_named_as_a_workbook_is_read_as_text(case):
    path = case("tsv-named.xls")
    assert "line 2" in refusal(path) and "`encoding:`" in refusal(path)
    frame = read_table(path, read_options(encoding="cp1252"))
    assert frame["content"].tolist() == ["naïve", "fine"]


def test_json_is_read(case):
    assert len(read_table(case("array.json"))) == 40


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (
            "a.xlsx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"),
            "password",
        ),
        ("a.csv", b"\x1f\x8b\x08\x00\x00", "add .gz"),
        ("a.jsonl", b"<html><body>no</body></html>", "HTML page"),
        ("a.json", b'{"train": [{"a": 1}], "test": [{"a": 2}]}', "several tables"),
        ("a.json", b"[1]", "row 1: expected an object"),
        ("a.json", b'{"a": [1], "b": []}', "differ in length"),
    ],
)
def test_what_is_no_table_is_said(tmp_path, name, content, part):
    (tmp_path / name).write_bytes(content)
    assert part in refusal(tmp_path / name)


def test_html_page(case):
    assert "HTML page" in refusal(case("html-page.csv"))


def test_compressed_files(tmp_path):
    content = b"text,label\na,x\n"
    (tmp_path / "a.csv.bz2").write_bytes(bz2.compress(content))
    (tmp_path / "a.csv.xz").write_bytes(lzma.compress(content))
    for name in ("a.csv.zip", "a.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("folder/b.csv", content)
    for name in ("a.csv.bz2", "a.csv.xz", "a.csv.zip", "a.zip"):
        assert read_table(tmp_path / name).to_dict("records") == [{"text": "a", "label": "x"}]
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
        archive.writestr("b.csv", content)
        archive.writestr("c.csv", content)
    assert "2 files (b.csv, c.csv)" in refusal(tmp_path / "two.csv.zip")


def test_columns_of_json(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"text": ["a", "b"], "label": ["x", "y"]}))
    assert read_table(tmp_path / "a.json")["text"].tolist() == ["a", "b"]


@pytest.mark.parametrize("ending", ["xls", "json", "csv.bz2"])
def test_formats_that_are_not_written(case, tmp_path, ending):
    with pytest.raises(DataError, match="not written in this format; allowed endings: xlsx"):
        write_table(tmp_path / f"a.{ending}", read_table(case("array.json")))


@pytest.mark.parametrize(
    ("name", "row", "kind"), [("text-bytes.parquet", 1, "bytes"), ("text-list.jsonl", 4, "a list")]
)
def test_cells_that_are_no_texts(case, name, row, kind):
    with pytest.raises(DataError, match=f"row {row}, column 'text': found {kind}, not a text"):
        to_rows(read_table(case(name)), dataset(text=["text"]), name, "input", labelled=False)


def test_lists_are_joined_where_the_yaml_says_so(case):
    source = {"files": str(case("text-list.jsonl")), "join_lists": True}
    rows = load_rows(dataset(source=source, text=["text"], label="label", labels=["bad", "good"]))
    assert rows["train"][3].texts == ("a b",)


def test_messages_show_control_characters(capsys):
    def fail(argv):
        raise DataError("found '\x1b[31mevil\x07' here" + "x" * 100_000)

    assert guard(fail, []) == 3
    message = capsys.readouterr().err
    assert "\x1b" not in message and "\\x1b[31mevil\\x07" in message and len(message) < 30_000


# No half characters (refused), and for xlsx no control characters, which it cannot hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"a', 'b"', '"', "a\nb", "a,b\nc,d", "x;y", "\\", '\\"', "\r", "\r\n", " ", "a\tb", "#N/A", "1", "=1"]
)
PRINTABLE = TEXT.map(lambda text: "".join(c for c in text if (c >= " " and c not in "\x7f\ufffe\uffff") or c in "\n\t"))


@pytest.mark.parametrize("ending", [*FORMATS, "csv.gz"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_table_of_texts_comes_back(tmp_path, ending, data):
    import pandas as pd

    text = PRINTABLE if ending == "xlsx" else TEXT
    width = data.draw(st.integers(1, 3))
    names = data.draw(st.lists(PRINTABLE.filter(bool), min_size=width, max_size=width, unique=True))
    rows = data.draw(st.lists(st.lists(text, min_size=width, max_size=width), min_size=1, max_size=6))
    assume(ending != "xlsx" or any(rows[-1]))  # a workbook does not hold an empty row at the end
    frame = pd.DataFrame(rows, columns=names, dtype=object)
    write_table(tmp_path / f"a.{ending}", frame)
    found = read_table(tmp_path / f"a.{ending}")
    assert list(found.columns) == names
    assert found.to_numpy().tolist() == rows
