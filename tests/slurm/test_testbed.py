"""The testbed is a real Slurm: what our jobs count on happens in it, before any code of ours is involved."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "slurm" / "testbed"
SLEEP = "exec sleep 600"


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def alive(pid: str) -> bool:
    """Whether a process runs: one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def starts(place):
    """A batch script that notes each of its starts as `restart pid node` and sleeps: (text, file of its notes)."""
    notes = place / "starts"
    script = place / "starts.sh"
    script.write_text(f'echo "${{SLURM_RESTART_COUNT:-0}} $$ $SLURMD_NODENAME" >>"{notes}"\n{SLEEP}\n')
    return f'exec sh "{script}"', notes


def script(name, environment, *, path=SCRIPTS):
    return subprocess.run([path / name], env=environment, capture_output=True, text=True, timeout=90)


def test_a_job_runs_and_the_accounting_sees_it(cluster, place):
    log = place / "log"
    job = cluster.submit('echo "gpu $CUDA_VISIBLE_DEVICES of $SLURM_JOB_ACCOUNT"', "--gres=gpu:1", f"--output={log}")
    done = lambda: [line["State"] for line in cluster.sacct(job, "-X")] == ["COMPLETED"]  # noqa: E731
    cluster.wait_until(done, "the accounting has the job as COMPLETED")
    assert log.read_text() == "gpu 0 of lab\n"


def test_requeue_keeps_the_id_and_counts(cluster, starts):
    text, notes = starts
    job = cluster.submit(text)
    cluster.wait_until(lambda: len(lines_of(notes)) == 1, "the first start")
    cluster.call("scontrol", "requeue", job)
    cluster.wait_until(lambda: len(lines_of(notes)) == 2, "the second start")
    assert [line.split()[0] for line in lines_of(notes)] == ["0", "1"]
    assert [(entry["id"], entry["state"]) for entry in cluster.squeue()] == [(job, "RUNNING")]


def test_a_job_puts_itself_back(cluster, place):
    notes = place / "notes"
    job = cluster.submit(
        f'cd "{place}"; echo "${{SLURM_RESTART_COUNT:-0}}" >>notes; '
        "[ ${SLURM_RESTART_COUNT:-0} -ge 2 ] && exit 0; scontrol requeue $SLURM_JOB_ID; exit 75"
    )
    cluster.wait_until(lambda: lines_of(notes) == ["0", "1", "2"], "three starts")
    done = lambda: [line["State"] for line in cluster.sacct(job, "-X")] == ["COMPLETED"]  # noqa: E731
    cluster.wait_until(done, "the accounting has the last start alone, COMPLETED")
    states = [line["State"] for line in cluster.sacct(job, "-X", "-D")]
    assert states == ["REQUEUED", "REQUEUED", "COMPLETED"]


def test_high_takes_the_nodes_of_main(cluster, starts):
    text, notes = starts
    job = cluster.submit(text, "--exclusive", "--nodelist=n1")
    cluster.wait_until(lambda: lines_of(notes), "the job of main runs")
    urgent = cluster.submit("sleep 1", "--exclusive", "--nodelist=n1", "--partition=high")
    cluster.wait_until(lambda: cluster.state(urgent) in ("RUNNING", "COMPLETED"), "the job of high has the node")
    cluster.wait_until(lambda: len(lines_of(notes)) == 2, "the job of main runs again")
    assert lines_of(notes)[1].startswith("1 ")
    assert cluster.state(job) == "RUNNING"


def test_what_can_never_run_is_refused(cluster):
    for option, said in [
        ("--account=nobody", "Invalid account"),
        ("--time=61", "Requested time limit is invalid"),
        ("--gres=gpu:2", "Requested node configuration is not available"),
        ("--partition=nowhere", "Invalid partition name"),
    ]:
        for only in ((), ("--test-only",)):
            done = cluster.call("sbatch", *only, option, "--output=/dev/null", "--wrap=true", check=False)
            assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert cluster.squeue() == []


def test_only_asking_queues_nothing(cluster):
    done = cluster.call("sbatch", "--test-only", "--gres=gpu:1", "--output=/dev/null", "--wrap=true")
    assert "to start at" in done.stderr
    assert cluster.squeue() == []


def test_too_much_memory_is_told_as_such(cluster):
    if "proctrack/cgroup" not in Path(cluster.env["SLURM_CONF"]).read_text():
        pytest.skip("no cgroup (v1) is writable here: memory is not limited")
    job = cluster.submit("head --bytes=300M /dev/zero | tail", "--mem=50")
    told = lambda: {line["State"] for line in cluster.sacct(job, "-X")} == {"OUT_OF_MEMORY"}  # noqa: E731
    cluster.wait_until(told, "OUT_OF_MEMORY")


def test_another_user_submits_too(cluster):
    job = cluster.submit(SLEEP, user="peftable")
    cluster.wait_for(job, "RUNNING")
    assert [entry["user"] for entry in cluster.squeue()] == ["peftable"]
    assert cluster.call("scancel", job, user="peftable").returncode == 0


def test_a_lost_node_leaves_its_process_behind(cluster, starts):
    text, notes = starts
    job = cluster.submit(text)
    cluster.wait_until(lambda: lines_of(notes), "the job runs")
    _, old, node = lines_of(notes)[0].split()
    cluster.daemon("kill", f"slurmd-{node}")
    cluster.wait_until(lambda: len(lines_of(notes)) == 2, "the job runs on the other node")
    restart, new, other = lines_of(notes)[1].split()
    assert (restart, {node, other}) == ("1", {"n1", "n2"})
    assert alive(old)
    assert alive(new)
    cluster.daemon("start", f"slurmd-{node}")
    cluster.wait_until(lambda: not alive(old), "the node that is back ends the process it has forgotten")
    assert cluster.state(job) == "RUNNING"
    assert alive(new)


@pytest.mark.parametrize("action", ["stop", "kill"])
def test_jobs_outlive_the_controller(cluster, starts, action):
    text, notes = starts
    job = cluster.submit(text)
    cluster.wait_until(lambda: lines_of(notes), "the job runs")
    # The controller writes its state down every few seconds only; killed before, it would start the job anew.
    mark = f"written-down-{job}"
    cluster.call("scontrol", "update", f"jobid={job}", f"comment={mark}")
    state = Path(cluster.env["SLURM_CONF"]).parents[1] / "state" / "job_state"
    cluster.wait_until(lambda: mark.encode() in state.read_bytes(), "the controller's state is on disk")
    cluster.daemon(action, "slurmctld")
    assert cluster.call("squeue", "--me", check=False).returncode == 1
    cluster.daemon("start", "slurmctld")
    cluster.wait_for(job, "RUNNING")
    assert len(lines_of(notes)) == 1
    assert alive(lines_of(notes)[0].split()[1])


def test_without_the_accounting_jobs_run(cluster):
    cluster.daemon("stop", "slurmdbd")
    assert cluster.call("sacct", check=False).returncode == 1
    job = cluster.submit("true")
    cluster.wait_for(job, "COMPLETED")


def test_daemons_listen_where_the_machines_name_leads_to_and_nowhere_else(cluster):
    """In /proc/net/tcp: `local_address` in hexadecimal, its bytes reversed; state 0A = listening."""
    text = Path(cluster.env["SLURM_CONF"]).read_text()
    first, address = int(re.search(r"SlurmctldPort=(\d+)", text)[1]), re.search(r"NodeAddr=(\S+)", text)[1]
    listening = [line.split()[1].split(":") for line in lines_of(Path("/proc/net/tcp")) if line.split()[3] == "0A"]
    ours = {int(port, 16): where for where, port in listening if first <= int(port, 16) < first + 20}
    assert set(ours) >= {first, first + 1, first + 11, first + 12}
    assert set(ours.values()) == {socket.inet_aton(address)[::-1].hex().upper()}


def test_up_when_up_and_spaces_in_the_path(cluster, tmp_path):
    moved = shutil.copytree(SCRIPTS, tmp_path / "my project" / "slurm" / "testbed")
    done = script("up.sh", cluster.env, path=moved)
    assert (done.returncode, done.stderr) == (0, "")
    assert "up already" in done.stdout


def test_a_second_testbed_without_accounting(cluster, open_folder):
    environment = cluster.env | {"TESTBED": str(open_folder), "ACCT": "none"}
    first = cluster.submit(SLEEP)
    cluster.wait_for(first, "RUNNING")
    try:
        done = script("up.sh", environment)
        assert done.returncode == 0, done.stderr
        other = type(cluster)(environment | {"SLURM_CONF": str(open_folder / "etc" / "slurm.conf")})
        job = other.submit(SLEEP)
        other.wait_for(job, "RUNNING")
        assert [entry["id"] for entry in other.squeue()] == [job]
        other.call(SCRIPTS / "daemon.sh", "kill", "slurmctld")
        again = script("up.sh", environment)
        assert "is up in" in again.stdout, again.stderr
        assert other.squeue() == []
    finally:
        done = script("down.sh", environment)
    assert done.returncode == 0, done.stderr
    assert "no testbed is up" in script("down.sh", environment).stdout
    assert sorted(path.name for path in open_folder.iterdir()) == [".testbed", "log"]
    assert cluster.state(first) == "RUNNING"


def test_errors_are_one_line_each(cluster, open_folder):
    def said(user=None, **variables):
        shutil.copytree(SCRIPTS, open_folder / "scripts", dirs_exist_ok=True)
        environment = cluster.env | {"TESTBED": str(open_folder / "state")} | variables
        done = type(cluster)(environment).call(open_folder / "scripts" / "up.sh", user=user, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        return done.stderr

    assert "as root: sudo" in said(user="peftable")
    assert "allowed: dbd" in said(ACCT="some")
    assert "TESTBED=/tmp/my place" in said(TESTBED="/tmp/my place")
    assert "holds other files" in said(TESTBED=str(open_folder))
    (open_folder / "dpkg-query").write_text("#!/bin/sh\nexit 1\n")
    (open_folder / "dpkg-query").chmod(0o755)
    missing = said(PATH=f"{open_folder}:{cluster.env['PATH']}")
    assert "apt-get install --yes --no-install-recommends slurm-wlm munge slurmdbd" in missing
