import json
import subprocess
import sys
import time

import pytest
from waiting import HANG_S

from common.core import locks
from common.core.errors import RunError
from common.core.locks import lock, try_lock

CODE = """
import json, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
from common.core.locks import lock
with lock(pathlib.Path(sys.argv[2])):
    print(json.dumps(time.time()), flush=True)
    time.sleep(float(sys.argv[3]))
"""


def start_other(path, holds_s):
    command = [sys.executable, "-c", CODE, str(locks.__file__).rsplit("/common/", 1)[0], str(path), str(holds_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_lock_excludes_another_process(tmp_path):
    with lock(tmp_path / "lock"):
        other = start_other(tmp_path / "lock", 0)
        time.sleep(0.7)
        released = time.time()
    output, _ = other.communicate(timeout=HANG_S)
    assert other.returncode == 0 and json.loads(output) >= released


def test_a_killed_process_holds_no_lock_and_a_waiting_user_is_told(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(locks, "MESSAGE_AFTER_S", 0.0)
    other = start_other(tmp_path / "lock", 600)
    assert other.stdout.readline()
    with try_lock(tmp_path / "lock") as is_held:
        assert not is_held
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {other.pid}"])
    with lock(tmp_path / "lock"):
        assert f"waiting for another command, which holds {tmp_path / 'lock'}" in capfd.readouterr().err
    other.communicate(timeout=HANG_S)
    with try_lock(tmp_path / "lock") as is_held:
        assert is_held


def test_a_folder_that_the_user_must_not_write_to(tmp_path, monkeypatch):
    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", deny)
    with pytest.raises(RunError, match=str(tmp_path)), lock(tmp_path / "lock"):
        pass
