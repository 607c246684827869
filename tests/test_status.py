"""status.py, logs.py and cancel.py as they are typed."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.cluster import local_queue, submit_record
from common.core import files, progress, signals
from common.runs import run_folder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def submitted(outputs, fake_slurm):
    """`submitted("toy/lora/seed-1", log="…")`: a run with a job that the fake Slurm knows."""

    def make(name, log="", executor="slurm", **job):
        folder = outputs / name
        files.write_text(folder / run_folder.CONFIG, "schema: 1\n")
        number = job.get("id", "17")
        document = {"number": 1, "name": submit_record.job_name(folder), "token": "t", "cluster": "testbed"}
        document |= {"executor": executor, "command": []}
        document |= {"state": "submitted", "job_id": number, "error": None, "time": "2026-11-21T03:00:00Z"}
        files.write_json(folder / submit_record.SUBMIT, document)
        if log:
            files.write_text(folder / submit_record.LOGS / "1" / f"{number}.log", log)
        known = {"id": number, "name": document["name"], "state": "RUNNING", "node": "n1", "elapsed": "1:00"}
        known |= {"limit": "8:00:00", "reason": "None", "comment": "t"}
        if executor == "slurm":
            with fake_slurm.state() as state:
                state["jobs"].append(known | job)
        return folder

    return make


def test_no_run_yet(run_script, outputs):
    code, out, _ = run_script("status", "--outputs", str(outputs))
    assert code == 0 and "there is no run yet. make train MODEL=…, or make submit-all" in out


def test_the_table(run_script, submitted, outputs, fake_slurm):
    one = submitted("toy/lora/seed-1")
    files.write_json(
        one / progress.PROGRESS, {"done": 30, "total": 120, "per_s": 1.5, "examples_per_s": 24.0, "loss": 0.4321}
    )
    submitted("toy/lora/seed-2", id="18", state="PENDING", node="", reason="Priority", elapsed="0:00")
    submitted("toy/lora/seed-3", id="19", log="out of memory\n")
    fake_slurm.end("seed-3", "OUT_OF_MEMORY", "0:125")
    submitted("other/full/seed-1", id="20")
    files.write_json(outputs / "other" / "full" / "seed-1" / run_folder.METRICS, {"schema": 1})
    code, out, _ = run_script("status", "--outputs", str(outputs))
    assert code == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines() if "/seed-" in line.partition(" ")[0]}
    running = "toy/lora/seed-1 running 17 n1 1:00/8:00:00 30/120 0.432 24.0 1 min 00 s"
    assert lines["toy/lora/seed-1"] == running.split()
    assert lines["toy/lora/seed-2"] == ["toy/lora/seed-2", "queued", "18", "0:00/8:00:00", "Priority"]
    assert "\ntoy/lora/seed-3: out of memory: out of memory\n  log: " in out
    assert out.endswith("4 runs: 1 finished, 1 out of memory, 1 queued, 1 running\n")
    code, out, _ = run_script("status", "--outputs", str(outputs), "--model", "full", "--dataset", "other")
    assert code == 0 and out.endswith("1 run: 1 finished\n")
    code, _, err = run_script("status", "--outputs", str(outputs), "--model", "ful")
    assert code == 5 and "Did you mean 'full'?" in err


def test_it_is_of_use_when_slurm_is_down(run_script, submitted, outputs, fake_slurm):
    submitted("toy/lora/seed-1")
    fake_slurm.set(down=True)
    code, out, _ = run_script("status", "--outputs", str(outputs))
    assert code == 0 and "queued?" in out
    assert out.splitlines()[-1].startswith(
        "note: Slurm does not answer, so this is what the folders say. squeue: error"
    )


def test_watching(run_script, submitted, outputs, monkeypatch):
    submitted("toy/lora/seed-1")
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt  # Ctrl-C

    monkeypatch.setattr(signals, "sleep", sleep)
    code, out, err = run_script("status", "--outputs", str(outputs), "--watch")
    assert (code, err, naps) == (0, "", [5, 5, 5])
    assert out.count("1 run: 1 running") == 3 and "\033" not in out  # no terminal, nothing to clear


def test_many_runs_without_heavy_libraries(submitted, outputs, fake_slurm):
    for seed in range(200):
        submitted(f"toy/lora/seed-{seed}", id=str(1000 + seed), log="x\n")
    fake_slurm.end("seed-1", "FAILED", "1:0")
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as error:\n    heavy = {'torch', 'transformers', 'pandas', 'sklearn', 'submitit'}\n"
        "    print(error.code, heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "scripts" / "status.py"), "--outputs", str(outputs)],
        env={"PATH": f"{fake_slurm.bin}:/usr/bin:/bin", "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("200 runs: 111 failed, 89 running\n0 set()\n"), done.stderr
    assert [call["name"] for call in fake_slurm.calls()] == ["squeue", "sacct"]


# --- logs ------------------------------------------------------------------------------------------------------------


def test_logs(run_script, submitted, outputs):
    submitted("toy/lora/seed-1", log="".join(f"line {number}\n" for number in range(100)))
    newest = submitted("toy/lora/seed-2", log="old\n")
    files.write_text(newest / submit_record.LOGS / "2" / "18.log", "new\n")
    submitted("toy/full/seed-1")
    code, out, _ = run_script("logs", "--outputs", str(outputs), "--model", "lora", "--lines", "2")
    assert code == 0
    assert [line for line in out.splitlines() if line and "==>" not in line] == ["line 98", "line 99", "new"]
    assert "==> toy/lora/seed-2: " in out
    code, out, _ = run_script("logs", "--outputs", str(outputs), "--model", "lora")
    assert out.count("line ") == 40
    code, _, err = run_script("logs", "--outputs", str(outputs), "--model", "full")
    assert code == 5 and "no job has written a log here" in err


def test_the_report_has_a_log_too(run_script, submitted, outputs):
    submitted("toy/lora/seed-1", log="one\n")
    submitted(".collect", log="3 of 5 runs have not ended well\n", id="99")
    _, out, _ = run_script("logs", "--outputs", str(outputs))
    assert "==> .collect: " in out and "3 of 5 runs" in out
    _, out, _ = run_script("logs", "--outputs", str(outputs), "--model", "lora")
    assert "3 of 5 runs" not in out


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancelling_a_job_s_runs(run_script, submitted, outputs, fake_slurm):
    submitted("toy/lora/seed-1")
    submitted("toy/full/seed-1", id="18")
    submitted(".collect", id="99")
    code, out, _ = run_script("cancel", "--outputs", str(outputs), "--model", "lora")
    assert (code, out) == (0, "cancelled 17  toy/lora/seed-1\n")
    assert [job["id"] for job in fake_slurm.jobs] == ["18", "99"]
    code, out, _ = run_script("cancel", "--outputs", str(outputs))
    assert (code, out) == (0, "cancelled 18  toy/full/seed-1\ncancelled 99  .collect\n")
    code, out, _ = run_script("cancel", "--outputs", str(outputs))
    assert (code, out) == (0, "nothing is queued or runs\n")
    _, out, _ = run_script("status", "--outputs", str(outputs))
    assert out.endswith("3 runs: 3 cancelled\n")  # and the report


def test_only_by_its_name(run_script, submitted, outputs, fake_slurm):
    submitted("toy/lora/seed-1")
    fake_slurm.set(jobs=[fake_slurm.jobs[0] | {"name": "somebody's"}])  # the id is ours, the job is not
    code, out, _ = run_script("cancel", "--outputs", str(outputs))
    assert (code, out) == (0, "nothing is queued or runs\n") and fake_slurm.calls("scancel") == []


def test_cancelling_nothing_when_slurm_is_down(run_script, submitted, outputs, fake_slurm):
    submitted("toy/lora/seed-1")
    fake_slurm.set(down=True)
    code, out, err = run_script("cancel", "--outputs", str(outputs))
    assert (code, out) == (7, "") and "was not cancelled. Slurm does not answer" in err


def test_cancelling_in_the_queue_of_this_machine(run_script, submitted, outputs, fake_slurm):
    folder = submitted("toy/lora/seed-1", executor="local", id="local-1")
    task = {"name": submit_record.job_name(folder), "command": [], "directory": "", "log": "", "environment": {}}
    local_queue.add(outputs / ".queue", **task)
    code, out, _ = run_script("cancel", "--outputs", str(outputs))
    assert (code, out) == (0, "cancelled local-1  toy/lora/seed-1\n")
    assert local_queue.jobs(outputs / ".queue") == [] and fake_slurm.calls() == []
    _, out, _ = run_script("status", "--outputs", str(outputs))
    assert out.endswith("1 run: 1 cancelled\n")


def test_cancelled_on_a_slurm_that_remembers_nothing(run_script, submitted, outputs, fake_slurm):
    fake_slurm.set(accounting=False)
    submitted("toy/lora/seed-1")
    assert run_script("cancel", "--outputs", str(outputs))[0] == 0
    _, out, _ = run_script("status", "--outputs", str(outputs))
    assert "1 run: 1 cancelled\n" in out
