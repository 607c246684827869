import signal
from pathlib import Path

import pytest

from common.core import files, signals


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_atomic_path_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "new" / "table.csv"
    for text in ("old", "new"):
        with files.atomic_path(path) as partial:
            assert partial.suffix == ".csv"  # writers choose the format by it
            partial.write_text(text)
    assert path.read_text() == "new"
    assert hidden(path.parent) == []


def test_atomic_path_keeps_the_old_content_on_failure(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    assert hidden(tmp_path) == []


def test_atomic_folder_replaces_the_whole_folder(tmp_path):
    path = tmp_path / "model"
    for name in ("first", "second"):
        with files.atomic_folder(path) as partial:
            (partial / "deep").mkdir()
            (partial / "deep" / name).write_text(name)
    assert [file.name for file in (path / "deep").iterdir()] == ["second"]
    assert hidden(tmp_path) == []


def test_atomic_folder_keeps_the_old_folder_on_failure(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    with pytest.raises(RuntimeError), files.atomic_folder(path) as partial:
        (partial / "weights").write_text("half")
        raise RuntimeError
    assert (path / "weights").read_text() == "old"
    assert hidden(tmp_path) == []


def test_a_signal_between_the_two_renames_of_a_folder_waits(tmp_path, monkeypatch):
    """Between them there is no folder of that name: an exception there would leave none."""
    path, rename = tmp_path / "model", Path.rename
    path.mkdir()

    def rename_and_signal(one, target):
        result = rename(one, target)
        signal.raise_signal(signal.SIGALRM)
        return result

    with signals.kept():
        with files.atomic_folder(path) as partial:
            (partial / "weights").write_text("new")
            signal.raise_signal(signal.SIGTERM)
            monkeypatch.setattr(Path, "rename", rename_and_signal)
        assert (path / "weights").read_text() == "new" and hidden(tmp_path) == []
        with pytest.raises(KeyboardInterrupt):
            signals.check()


def test_atomic_folder_starts_empty_after_a_kill(tmp_path):
    left = tmp_path / ".model.partial"
    left.mkdir()
    (left / "half").write_text("")
    with files.atomic_folder(tmp_path / "model") as partial:
        assert list(partial.iterdir()) == []
        (partial / "whole").write_text("")
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["whole"]


def test_json_round_trip_keeps_unicode_readable(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"ä": [1, None, "–"]})
    assert files.read_json(path) == {"ä": [1, None, "–"]}
    assert "ä" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_write_json_refuses_what_json_has_not(tmp_path, value):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": value})
    assert not path.exists()


def test_read_json_names_the_file(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.json is not valid JSON"):
        files.read_json(tmp_path / "bad.json")


def test_jsonl_survives_separators_inside_texts(tmp_path):
    records = [{"text": "one\u2028two\x85three\x0bfour"}, {"text": "new\nline"}]
    files.write_jsonl(tmp_path / "a.jsonl", records)
    assert files.read_jsonl(tmp_path / "a.jsonl") == records


@pytest.mark.parametrize("cut", [1, 3, 9])
def test_read_jsonl_leaves_out_a_cut_last_line(tmp_path, cut):
    path = tmp_path / "log.jsonl"
    files.write_jsonl(path, [{"step": 1}, {"note": "über"}])
    path.write_bytes(path.read_bytes()[:-1][:-cut])  # 3 and 9 cut behind and inside of what follows "ü"
    assert files.read_jsonl(path) == [{"step": 1}]


def test_read_jsonl_survives_a_cut_inside_a_character(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes('{"step": 1}\n{"note": "ü'.encode()[:-1])
    assert files.read_jsonl(path) == [{"step": 1}]


def test_append_after_a_cut_line_loses_nothing_more(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": ')
    files.append_jsonl(path, {"step": 3})
    files.append_jsonl(path, {"step": 4})
    assert files.read_jsonl(path) == [{"step": 1}, {"step": 3}, {"step": 4}]


def test_append_creates_the_file(tmp_path):
    files.append_jsonl(tmp_path / "log.jsonl", {"text": "é"})
    assert (tmp_path / "log.jsonl").read_text(encoding="utf-8") == '{"text": "é"}\n'


def test_hashes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert files.sha256(b"abc") == files.sha256_file(tmp_path / "abc") == known
