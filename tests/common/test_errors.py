import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common import errors

SCRIPTS = str(Path(errors.__file__).parents[1])
CLASSES = [
    errors.ConfigError,
    errors.DataError,
    errors.ModelError,
    errors.RunError,
    errors.ReportError,
    errors.Interrupted,
]


@pytest.mark.parametrize("kind", CLASSES)
def test_guard_prints_one_message_and_returns_the_code(kind, capsys):
    def main(argv):
        raise kind(f"about {argv}")

    assert errors.guard(main, ["x"]) == kind.exit_code
    assert capsys.readouterr().err == "error: about ['x']\n"


def test_exit_codes_differ():
    assert len({kind.exit_code for kind in CLASSES}) == len(CLASSES)
    assert all(kind.exit_code > 0 for kind in CLASSES)


def test_guard_returns_what_main_returns():
    assert errors.guard(lambda argv: None, []) == 0
    assert errors.guard(lambda argv: 3, []) == 3


def test_guard_leaves_bugs_their_traceback():
    def main(argv):
        raise KeyError("bug")

    with pytest.raises(KeyError):
        errors.guard(main, [])


def test_guard_turns_ctrl_c_into_try_again(capsys):
    def main(argv):
        raise KeyboardInterrupt

    assert errors.guard(main, []) == 75
    assert "interrupted" in capsys.readouterr().err


def guarded(body, **options):
    code = f"import sys; sys.path.insert(0, {SCRIPTS!r})\nfrom common import errors\n{body}\n"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_a_closed_pipe_is_told_by_the_exit_code_alone():
    process = guarded("sys.exit(errors.guard(lambda argv: print('x\\n' * 100000), []))")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=20) == 128 + signal.SIGPIPE


def test_any_character_can_be_printed_under_an_ascii_locale():
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = guarded("sys.exit(errors.guard(lambda argv: print('\\u2013', '\\ud800'), []))", env=environment)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out.decode(), err) == (0, "– ?\n", b"")


def test_nearest():
    assert errors.nearest("epoch", ["epochs", "batch_size"]) == " Did you mean 'epochs'?"
    assert errors.nearest("zzz", ["epochs"]) == ""
    assert errors.nearest(1, [10, "x"]) == " Did you mean '10'?"


def test_choices_shortens_long_lists():
    assert errors.choices(["a", 1]) == "a, 1"
    assert errors.choices(range(14), limit=2) == "0, 1, … (14 in all)"
