"""The encoding of text files: found where there is one way to read them, else refused with the line."""

import pytest
from toy_runs import read_options

from common.core.errors import DataError
from common.data.table_reader import read_table


def write(path, content):
    path.write_bytes(content)
    return path


def refusal(path, **values):
    with pytest.raises(DataError) as caught:
        read_table(path, read_options(**values))
    return str(caught.value)


def test_latin_1_is_found(case):
    assert read_table(case("latin1.csv"))["message"].tolist() == ["Win it, £1.50 a text", "ok"]
    frame = read_table(case("latin1-20-rows.csv"))
    assert len(frame) == 40 and frame["text"][2].endswith("café")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
def test_unicode_is_found(tmp_path, encoding):
    text = "text,label\nnaïve – 中文,x\n"
    assert read_table(write(tmp_path / "a.csv", text.encode(encoding)))["text"].tolist() == ["naïve – 中文"]


def test_it_is_said_once(tmp_path, capsys):
    path = write(tmp_path / "a.csv", "text,label\ncafé fermé,x\n".encode("cp1252"))
    read_table(path)
    read_table(path)
    assert capsys.readouterr().err.count("cp1252") == 1


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("cp1250", "Příklad žlutý kůň"), ("cp1251", "Пример текста"), ("cp1252", "là naïve"), ("cp932", "日本語の文")],
)
def test_no_wrong_encoding_is_taken(tmp_path, encoding, text):
    """It is either the right one, or the file is refused with the line and the option; the option reads it."""
    path = write(tmp_path / "a.csv", f"text,label\nplain,y\n{text},x\n".encode(encoding))
    try:
        assert read_table(path)["text"].tolist() == ["plain", text]
    except DataError as error:
        assert "line 3" in str(error) and "`encoding:`" in str(error)
    assert read_table(path, read_options(encoding=encoding))["text"].tolist() == ["plain", text]


def test_mixed_encodings_are_refused_with_both_lines(tmp_path):
    content = b"text,label\nplain,y\n" + "café,x\n".encode() + "café,x\n".encode("cp1252")
    message = refusal(write(tmp_path / "a.csv", content))
    assert "line 3 is utf-8, line 4 is not" in message and "`encoding:`" in message


def test_a_late_line_is_named(tmp_path):
    content = b"text,label\n" + b"some words of a text,x\n" * 60_000 + b"caf\xe9,x\n"
    message = refusal(write(tmp_path / "a.csv", content))
    assert "line 60002 is not utf-8" in message and "`encoding:`" in message


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b"text,label\nx,y\n\x81,x\n"), ("a.jsonl", b'{"a": 1}\n\n{"a": "\xe9"}\n')]
)
def test_a_wrong_encoding_of_the_yaml_names_the_line(tmp_path, name, content):
    message = refusal(write(tmp_path / name, content), encoding="utf-8")
    assert "line 3 is not utf-8" in message and "`encoding:`" in message


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("iso8859-2", "to je škola"), ("cp850", "un café is good"), ("iso8859-15", "costs 5 €"), ("cp852", "špatný den")],
)
def test_a_text_of_two_possible_encodings_is_refused(tmp_path, encoding, text):
    (tmp_path / "a.csv").write_bytes(f"text,label\n{text},a\n".encode(encoding))
    with pytest.raises(DataError, match="may be read as") as caught:
        read_table(tmp_path / "a.csv")
    assert "`encoding:`" in str(caught.value)
    assert read_table(tmp_path / "a.csv", read_options(encoding=encoding))["text"].tolist() == [text]


@pytest.mark.parametrize("harm", [b"\xff", "é".encode()[:1]])
def test_a_broken_byte_in_utf_8_is_no_other_encoding(tmp_path, harm):
    message = refusal(write(tmp_path / "a.csv", b"text,label\nplain,y\n" + "Café ".encode() + harm + b",x\n"))
    assert "line 3 is not utf-8" in message and "`encoding:`" in message


def test_many_lines_with_odd_words_are_read_where_the_library_agrees(tmp_path, monkeypatch):
    """One plausible encoding is not enough, nor is a word such as Café24 in it too much."""
    rows = [f"Das Gerät Nummer {number} ist schön groß, aber für mich zu spät, über Café24" for number in range(30)]
    rows += ["Straße §5 – „Überfluss“ für 5€"]
    path = write(tmp_path / "a.csv", ("text\n" + "".join(f'"{row}"\n' for row in rows)).encode("cp1252"))
    assert read_table(path)["text"].tolist() == rows
    monkeypatch.setattr("common.data.text_encoding._library_finds", lambda encoding, content: False)
    message = refusal(path)
    assert "line 2 may be read as cp1252" in message and "not certain" in message and "`encoding:`" in message


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("GüneşŞemsiye", "cp1258"), ("Türkçe ığşİ güzel", "cp1256")],
)
def test_marks_that_stand_on_nothing_are_no_reading(tmp_path, text, wrong):
    """Only in cp1258 and cp1256 these have no capital within a word, but combining and direction marks."""
    content = f"text,label\nplain,y\n{text},x\n".encode("cp1254")
    content.decode(wrong)
    message = refusal(write(tmp_path / "a.csv", content))
    assert "line 3 may be read as" in message and "`encoding:`" in message
    assert read_table(tmp_path / "a.csv", read_options(encoding="cp1254"))["text"].tolist() == ["plain", text]


@pytest.mark.parametrize("text", ["日本語の文", "コメント", "ASCII と"])
def test_iso_2022_is_not_utf_8(tmp_path, text):
    path = write(tmp_path / "a.csv", f"text,label\nplain,y\n{text},x\n".encode("iso2022_jp"))
    message = refusal(path)
    assert "line 3 has the signs by which iso-2022-jp" in message and "`encoding:`" in message
    assert read_table(path, read_options(encoding="iso2022_jp"))["text"].tolist() == ["plain", text]


def test_the_colours_of_a_terminal_are_utf_8(tmp_path):
    path = write(tmp_path / "a.csv", b"text,label\nplain,y\n\x1b[31mred\x1b[0m,x\n")
    assert read_table(path)["text"].tolist() == ["plain", "\x1b[31mred\x1b[0m"]
