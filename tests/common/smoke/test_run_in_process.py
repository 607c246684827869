"""Scripts run one after another in this process, without output unless one fails."""

import sys

import pytest

from common.core import errors
from common.smoke import run_in_process


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project with scripts that succeed, raise an error, have a bug, or are interrupted."""
    (tmp_path / "scripts").mkdir()
    for name, body in (
        ("fine", "print('fine', argv)"),
        ("refuses", "print('before'); raise errors.DataError('no such column')"),
        ("bug", "{}['key']"),
        ("stopped", "raise KeyboardInterrupt"),
    ):
        text = f"from common.core import errors\n\ndef main(argv):\n    {body}\n"
        (tmp_path / "scripts" / f"{name}.py").write_text(text)
    monkeypatch.setattr(run_in_process, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    return tmp_path


def test_all_well(place, capsys):
    outcome = run_in_process.run("x", lambda: [["fine", "--a"], ["fine"]])
    assert (outcome.done, outcome.failed) == (("fine", "fine"), "")
    assert str(outcome).endswith(" s  fine, fine")
    assert capsys.readouterr() == ("", "")


def test_what_fails_is_shown_with_its_own_output_alone(place, capsys):
    outcome = run_in_process.run("x", lambda: [["fine"], ["refuses", "--set", "a=[1, 2]"], ["fine"]])
    assert outcome.done == ("fine",)
    assert outcome.failed == "python scripts/refuses.py --set 'a=[1, 2]'"
    assert outcome.output == "before\nerror: no such column\n"
    assert str(outcome).endswith("    before\n    error: no such column")
    assert capsys.readouterr() == ("", "")


def test_a_bug_keeps_its_traceback(place):
    outcome = run_in_process.run("x", lambda: [["bug"]])
    assert outcome.failed == "python scripts/bug.py" and outcome.output.endswith("KeyError: 'key'\n")


def test_what_cannot_be_prepared(place):
    def prepare():
        raise errors.ConfigError("a wrong key")

    outcome = run_in_process.run("x", prepare)
    assert outcome.failed == "its tiny model and fake data" and outcome.output == "error: a wrong key\n"


def test_an_interrupt_stops_everything(place):
    with pytest.raises(KeyboardInterrupt):
        run_in_process.run("x", lambda: [["stopped"], ["fine"]])
