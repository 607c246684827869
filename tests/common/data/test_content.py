"""Files that are something else than their name says, further formats, and cells that are no texts."""

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
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
        ("a.csv", pa.compress(b"text", codec="zstd", asbytes=True), "add .zst"),
        ("a.csv.zst", pa.compress(b"text,label\n" * 999, codec="zstd", asbytes=True)[:-9], "cannot be read as csv"),
        ("a.csv.gz", b"text,label\na,x\n", "not compressed as its name says; take .gz off"),
        ("a.csv.bz2", b"text,label\na,x\n", "take .bz2 off"),
        ("a.parquet", b"PARE\x00\x00", "a parquet file with a password"),
        ("a.csv", b"ARROW1\x00\x00", "an Arrow file"),
        ("a.csv", b"%PDF-1.7\n", "a PDF document"),
        ("a.csv", b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive"),
        (
            "a.csv.gz",
            gzip.compress(b"a.csv" + b"\0" * 252 + b"ustar" + b"\0" * 250, mtime=0),
            "a tar archive; unpack it",
        ),
        ("a.jsonl", b"<html><body>no</body></html>", "HTML page"),
        ("a.json", b'{"train": [{"a": 1}], "test": [{"a": 2}]}', "the splits train, test"),
        ("a.json", b'{"a": [{"a": 1}], "b": [{"a": 2}]}', "several tables"),
        ("a.parquet", b"text,label\na,x\n", "it is a text file"),
        ("a.xlsx", b"", "the file is empty"),
        ("a.json", b"", "the file is empty"),
        ("a.json", b'{"train": [{"a": 1}], "Train": []}', "two tables for the split train"),
        ("a.json", b'{"0": {"1": 1}, "1": {"1": 2}}', "rows or columns"),
        ("a.json", b'{"a": [{"b": [1]}], "c": 1}', "expected a list of objects"),
        ("a.json", b'{"columns": ["a", "b"], "data": [[1]]}', "not rows of 2 cells"),
        ("a.json", b'[{"a": 1, "a": 2}]', "the key 'a' twice"),
        ("a.jsonl", b'{"a": 1, "a": 2}', "line 1: an object has the key 'a' twice"),
        ("a.txt", b"__label__a x\nb y\n", "line 2 does not begin with __label__"),
        ("a.txt", b"__label__a __label__b y\n", "line 1 has several labels"),
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
    (tmp_path / "a.csv.zst").write_bytes(pa.compress(content, codec="zstd", asbytes=True))
    skipped = b"\x5f\x2a\x4d\x18\x04\0\0\0size"  # a frame that readers skip
    (tmp_path / "b.csv.zst").write_bytes(skipped + (tmp_path / "a.csv.zst").read_bytes())
    for name in ("a.csv.zip", "a.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("folder/b.csv", content)
    for name in ("a.csv.bz2", "a.csv.xz", "a.csv.zst", "b.csv.zst", "a.csv.zip", "a.zip"):
        assert read_table(tmp_path / name).to_dict("records") == [{"text": "a", "label": "x"}]
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
        archive.writestr("b.csv", content)
        archive.writestr("c.csv", content)
    assert "2 files (b.csv, c.csv)" in refusal(tmp_path / "two.csv.zip")


def test_a_zip_archive_with_a_password(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", "text\n")
    content = bytearray((tmp_path / "a.csv.zip").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of encryption, in both headers
        content[content.index(mark) + place] |= 1
    (tmp_path / "a.csv.zip").write_bytes(bytes(content))
    assert "the archive has a password" in refusal(tmp_path / "a.csv.zip")


def test_an_ods_workbook_with_a_password(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ods", "w") as archive:
        archive.writestr("content.xml", b"\x00\x01")
        archive.writestr("META-INF/manifest.xml", "<manifest:encryption-data/>")
    assert "a workbook with a password" in refusal(tmp_path / "a.ods")


RECORDS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


@pytest.mark.parametrize(
    "content",
    [
        RECORDS,
        {"text": ["a", "b"], "label": ["x", "y"]},
        {"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}},  # df.to_json(path)
        {"0": {"text": "a", "label": "x"}, "1": {"text": "b", "label": "y"}},  # orient="index"
        {"columns": ["text", "label"], "index": [0, 1], "data": [["a", "x"], ["b", "y"]]},  # orient="split"
        {"data": RECORDS},
    ],
)
def test_tables_of_json(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_table(tmp_path / "a.json")
    assert found.to_dict("records") == RECORDS and found.index.tolist() == [1, 2]


def test_json_with_a_table_for_each_split(tmp_path, capsys):
    content = {"train": RECORDS, "dev": {"text": ["c"], "label": ["x"]}, "test": RECORDS[:1], "version": "1.0"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    keys = {"text": ["text"], "label": "label", "labels": ["x", "y"]}
    rows = load_rows(dataset(source={"files": str(tmp_path / "a.json")}, **keys))
    assert {split: [row.texts[0] for row in members] for split, members in rows.items()} == {
        **{"train": ["a", "b"], "validation": ["c"], "test": ["a"]}
    }
    assert "version is not used" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.txt"])
def test_jsonl_under_another_name(tmp_path, name, capsys):
    (tmp_path / name).write_text("\n".join(map(json.dumps, RECORDS)))
    assert read_table(tmp_path / name).to_dict("records") == RECORDS
    assert f"{name}: it is read as jsonl, which it is" in capsys.readouterr().err


@pytest.mark.parametrize("indent", [None, 2])
def test_json_under_the_name_of_jsonl(tmp_path, indent):
    (tmp_path / "a.jsonl").write_text(json.dumps(RECORDS, indent=indent))
    assert read_table(tmp_path / "a.jsonl").to_dict("records") == RECORDS


def test_labels_of_fasttext(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("__label__pos a, b\n\n__label__neg\t c\r\n")
    found = read_table(tmp_path / "a.txt")
    assert found.to_dict("records") == [{"label": "pos", "text": "a, b"}, {"label": "neg", "text": "c"}]
    assert found.index.tolist() == [1, 3] and "fastText" in capsys.readouterr().err


def test_a_text_that_begins_like_a_binary_file(tmp_path):
    for word in ("PARENT", "ARROW1", "PAR1", "PK"):
        (tmp_path / "a.csv").write_text(f"{word},label\na,x\n")
        assert list(read_table(tmp_path / "a.csv").columns) == [word, "label"]


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


# No half characters, which are refused.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        '"a',
        'b"',
        '"',
        "a\nb",
        "a,b\nc,d",
        "x;y",
        "\\",
        '\\"',
        "\r",
        "\r\n",
        " ",
        "a\tb",
        "#N/A",
        "1",
        "=1",
        "_x000D_",
        "_x005F_",
        "x000D_",
    ]
)


@pytest.mark.parametrize("ending", [*FORMATS, "csv.gz"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_table_of_texts_comes_back(tmp_path, ending, data):
    import pandas as pd

    width = data.draw(st.integers(1, 3))
    names = data.draw(st.lists(TEXT.filter(bool), min_size=width, max_size=width, unique=True))
    rows = data.draw(st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1, max_size=6))
    assume(ending != "xlsx" or any(rows[-1]))  # a workbook does not hold an empty row at the end
    frame = pd.DataFrame(rows, columns=names, dtype=object)
    write_table(tmp_path / f"a.{ending}", frame)
    found = read_table(tmp_path / f"a.{ending}")
    assert list(found.columns) == names
    assert found.to_numpy().tolist() == rows


WRITERS = {
    "csv.bz2": bz2.compress,
    "csv.xz": lzma.compress,
    "csv.zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_any_table_comes_back_from_formats_that_are_only_read(tmp_path, rows):
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["text", "label"], dtype=object)
    write_table(tmp_path / "a.csv", frame)
    for ending, compress in WRITERS.items():
        (tmp_path / f"a.{ending}").write_bytes(compress((tmp_path / "a.csv").read_bytes()))
    (tmp_path / "a.json").write_text(json.dumps(frame.to_dict("records")))
    (tmp_path / "b.json").write_text(json.dumps(frame.to_dict("list")))
    (tmp_path / "c.json").write_text(frame.to_json())
    for name in (*(f"a.{ending}" for ending in WRITERS), "a.json", "b.json", "c.json"):
        assert [tuple(row) for row in read_table(tmp_path / name).to_numpy().tolist()] == rows
