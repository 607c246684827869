"""No signal is lost, whatever Python is doing when it comes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from waiting import HANG_S

from common.core import errors, signals
from common.core.progress import Progress

SCRIPTS = Path(errors.__file__).parents[2]
NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2]


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0)  # the handler runs


@pytest.fixture
def kept():
    with signals.kept():
        yield


KINDS = {"SIGTERM": KeyboardInterrupt, "SIGINT": KeyboardInterrupt, "SIGUSR2": errors.TimeLimit}


@pytest.mark.parametrize("name", KINDS)
def test_a_signal_is_raised_at_the_next_look_and_once(kept, name):
    assert signals.name() is None
    signals.check()
    send(name)
    assert signals.name() == name
    with pytest.raises(KINDS[name], match=name):
        signals.check()
    signals.check()
    assert signals.name() == name


@pytest.mark.parametrize("look", [lambda: Progress("score", 2, "row").update(1), lambda: signals.sleep(5)])
def test_progress_and_waiting_look(kept, look):
    send("SIGTERM")
    with pytest.raises(KeyboardInterrupt):
        look()


def test_a_cancelled_job_does_not_go_back(kept):
    for name in ("SIGUSR2", "SIGTERM", "SIGUSR2", "SIGINT"):
        send(name)
    assert signals.name() == "SIGTERM"


class Sleeps:
    """Its destructor sleeps while the signal comes: Python drops what a handler raises there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __del__(self) -> None:
        send(self.name)
        time.sleep(0.01)


@pytest.mark.parametrize("name", KINDS)
def test_a_signal_in_a_destructor(kept, name):
    thing = Sleeps(name)
    del thing
    with pytest.raises(KINDS[name]):
        signals.check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_alarm_that_a_destructor_drops_comes_again(kept, monkeypatch):
    """Nobody looks: the first alarm appears in a destructor, the second one is heard."""
    monkeypatch.setattr(signals, "ALARM_AFTER_S", 0.05)
    monkeypatch.setattr(signals, "_ALARM_AGAIN_S", 0.2)

    class Waits(Sleeps):
        def __del__(self) -> None:
            send(self.name)
            time.sleep(0.1)
            dropped.append("not reached")

    dropped = []
    thing = Waits("SIGUSR2")
    with pytest.raises(errors.TimeLimit):
        del thing
        end = time.monotonic() + HANG_S
        while time.monotonic() < end:
            pass
    assert not dropped


def test_nothing_raises_while_the_caller_looks_itself(kept, monkeypatch):
    monkeypatch.setattr(signals, "ALARM_AFTER_S", 0.01)
    with pytest.raises(KeyboardInterrupt):  # when the context ends without a word
        with signals.deferred():
            send("SIGTERM")
            time.sleep(0.05)
            signals.check()
            assert signals.name() == "SIGTERM"
        signals.sleep(5)
    with signals.deferred():
        signals.set_raised()
    signals.check()


def test_another_thread_leaves_it_to_the_main_one(kept):
    send("SIGTERM")
    thread = threading.Thread(target=signals.check)
    thread.start()
    thread.join()
    with pytest.raises(KeyboardInterrupt):
        signals.check()


def test_contexts_may_be_nested_and_leave_the_handlers_as_they_were():
    before = [signal.getsignal(number) for number in NUMBERS]
    with signals.kept():
        with signals.kept():
            send("SIGTERM")
        assert signals.name() == "SIGTERM"
    assert [signal.getsignal(number) for number in NUMBERS] == before and signals.name() is None


# --- processes -------------------------------------------------------------------------------------------------------

SLOW_START = """
import sys, time
sys.path.insert(0, {scripts!r})
sys.argv[0] = {scripts!r} + "/train.py"
import common
print("imports", flush=True)
time.sleep(1)  # what the script imports
from common.cli.main import guard
sys.exit(guard(lambda argv: print("main")))
"""


@pytest.mark.parametrize("name", KINDS)
def test_a_signal_before_the_guard(name):
    code = SLOW_START.format(scripts=str(SCRIPTS))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "imports\n"
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out) == (75, "") and err.count("error: ") == 1 and "Traceback" not in err, err


@pytest.mark.parametrize("name", KINDS)
def test_a_signal_before_python_runs_a_line_of_ours(name, capfd):
    """It waits until the script keeps signals."""
    process = signals.start([sys.executable, str(SCRIPTS / "logs.py"), "--outputs", "/nowhere"])
    process.send_signal(getattr(signal, name))
    assert signals.wait(process) == 75
    err = capfd.readouterr().err
    assert err.count("error: ") == 1 and "Traceback" not in err, err


def test_a_signal_that_the_batch_script_has_seen(kept, monkeypatch):
    monkeypatch.setenv(signals.SIGNALLED, "SIGUSR2")
    signals.keep()
    assert signals.SIGNALLED not in os.environ
    with pytest.raises(errors.TimeLimit):
        signals.check()
