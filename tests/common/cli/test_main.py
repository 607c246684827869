import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANG_S

from common.cli.main import guard
from common.core import errors

SCRIPTS = str(Path(errors.__file__).parents[2])
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PeftableError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_guard_prints_one_message_and_returns_the_code(kind, capsys):
    def main(argv):
        raise kind(f"about {argv}")

    assert guard(main, ["x"]) == kind.exit_code
    assert capsys.readouterr().err == "error: about ['x']\n"


def test_guard_returns_what_main_returns():
    assert guard(lambda argv: None, []) == 0
    assert guard(lambda argv: 3, []) == 3


def test_guard_leaves_bugs_their_traceback():
    def main(argv):
        raise KeyError("bug")

    with pytest.raises(KeyError):
        guard(main, [])


def test_a_gpu_whose_memory_is_full_is_one_message_wherever_it_happens(capsys):
    class OutOfMemoryError(RuntimeError):
        """As torch's, which is not imported here."""

    def main(argv):
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15 GiB")

    assert guard(main, []) == errors.ModelError.exit_code
    err = capsys.readouterr().err
    assert err.startswith("error: out of memory") and err.count("\n") == 1 and "max_length" in err

    def other(argv):
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        guard(other, [])


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, "backend:cudaMallocAsync"),  # its older name
    ],
)
def test_the_segments_of_a_gpu_s_memory_grow_unless_a_user_says_otherwise(monkeypatch, given, chosen):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # whatever guard sets is gone after the test
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert guard(lambda argv: os.environ["PYTORCH_ALLOC_CONF"] != chosen, []) == 0


def test_guard_turns_ctrl_c_into_try_again(capsys):
    def main(argv):
        raise KeyboardInterrupt

    assert guard(main, []) == 75
    assert "interrupted" in capsys.readouterr().err


def guarded(body, **options):
    code = f"import sys; sys.path.insert(0, {SCRIPTS!r})\nfrom common.cli.main import guard\n{body}\n"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_a_closed_pipe_is_told_by_the_exit_code_alone():
    process = guarded("sys.exit(guard(lambda argv: print('x\\n' * 100000), []))")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=HANG_S) == 128 + signal.SIGPIPE


def test_any_character_can_be_printed_under_an_ascii_locale():
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = guarded("sys.exit(guard(lambda argv: print('\\u2013', '\\ud800'), []))", env=environment)
    out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out.decode(), err) == (0, "– ?\n", b"")


# --- signals ---------------------------------------------------------------------------------------------------------

SLEEPS = """
import os, time
def main(argv):
    child = os.fork() if argv else None  # as a worker that inherits our handlers
    print("ready", flush=True)
    for _ in range(100):
        time.sleep(0.05)
        if child == 0 and os.getppid() != parent:
            print("the child lives", flush=True)
            os._exit(0)
parent = os.getpid()
"""


@pytest.mark.parametrize(("name", "said"), [("SIGTERM", "interrupted"), ("SIGUSR2", "the time limit is near")])
def test_a_signal_ends_a_command_at_once(name, said):
    process = guarded(f"{SLEEPS}\nsys.exit(guard(main, []))", text=True)
    process.stdout.readline()
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 75 and err.startswith("error: ") and said in err and "Traceback" not in err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR2"])
def test_a_forked_process_does_not_act_on_it(name):
    process = guarded(f"{SLEEPS}\nsys.exit(guard(main, ['fork']))", text=True, start_new_session=True)
    process.stdout.readline()
    process.stdout.readline()
    os.killpg(process.pid, getattr(signal, name))
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 75 and err.count("error: ") == 1 and "Traceback" not in err
    assert out.endswith("the child lives\n")


def test_handlers_are_left_as_they_were():
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    guard(lambda argv: None, [])
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_full_disk_under_our_output_is_one_message(capsys):
    def main(argv):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert guard(main, []) == errors.RunError.exit_code
    assert capsys.readouterr().err.count("No space left on device; make room") == 1

    def other(argv):
        raise OSError(errno.EIO, "input/output error")

    with pytest.raises(OSError, match="input/output"):
        guard(other, [])


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.ENAMETOOLONG])
def test_a_path_that_cannot_be_used_is_one_message(capsys, number):
    def main(argv):
        raise OSError(number, os.strerror(number), "/a/b.json")

    assert guard(main, []) == errors.RunError.exit_code
    assert capsys.readouterr().err == f"error: /a/b.json: {os.strerror(number)}.\n"
