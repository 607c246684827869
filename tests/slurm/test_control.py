"""Around the jobs: daemons that do not answer or forget, submissions that are killed or meet, five hundred runs."""

import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from lab import ROOT, Lab, assert_same, last_step, lasting, read

HERE = ("--cluster", "testbed")
SHORT = ("training.epochs=2",)
LONG = lasting(20)
TESTBED = ROOT / "slurm" / "testbed"


def wrap(lab: Lab, name: str, text: str) -> str:
    """Put a shell script before a command of Slurm's, which is `$REAL` in it; the PATH that has it first."""
    folder = lab.repository.parent / "wrapped"
    folder.mkdir(exist_ok=True)
    real = shutil.which(name, path=lab.env["PATH"])
    (folder / name).write_text(f'#!/usr/bin/env bash\nREAL="{real}"\n{text}\n', encoding="utf-8")
    (folder / name).chmod(0o755)
    return f"{folder}:{lab.env['PATH']}"


def line_of(table: str, run: str) -> str:
    """The line of a run in a table of `make status` or `make submit`."""
    [found] = [line for line in table.splitlines() if line.split(" ")[0].endswith(run)]
    return found


def seed(lab: Lab, number: int) -> Path:
    """The folder of minilm-lora with a seed."""
    [found] = [folder for folder in lab.folders() if folder.name == f"seed-{number}"]
    return found


def records(lab: Lab) -> dict[str, dict]:
    """Every submit.json below the outputs, by folder."""
    return {str(file.parent.relative_to(lab.outputs)): read(file) for file in lab.outputs.rglob("submit.json")}


def kill(lab: Lab, cluster, folder: Path) -> None:
    """Kill a run as soon as it has begun, with SIGKILL."""
    cluster.wait_until(lambda: (folder / "owner.json").exists(), f"{folder} has begun\n{lab.log(folder)}")
    os.kill(read(folder / "owner.json")["pid"], signal.SIGKILL)


def one_job_a_run(lab: Lab, cluster) -> int:
    """How many jobs are queued, each of another run that has written down its id."""
    jobs = {job["name"]: job["id"] for job in cluster.squeue()}
    assert len(jobs) == len(cluster.squeue())
    assert jobs == {record["name"]: record["job_id"] for record in records(lab).values()}
    assert {record["state"] for record in records(lab).values()} == {"submitted"}
    return len(jobs)


def files_below(folder: Path) -> dict[Path, bytes]:
    """Every file that a running job does not write by itself."""
    kept = ("submit.json", "config.yaml", "expected.json", "metrics.json")
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name in kept}


# --- the controller --------------------------------------------------------------------------------------------------


def test_the_controller_is_down(lab, cluster, partition):
    whole = ("--all", "--jobs", "minilm-lora", "--seeds", "1,2")
    lab.submit(*HERE, settings=LONG)
    lab.wait_checkpoint(lab.folder())
    pid = read(seed(lab, 1) / "owner.json")["pid"]
    os.kill(pid, signal.SIGSTOP)  # so that it is not over before we have looked
    try:
        partition("down")
        lab.submit(*HERE, "--seeds", "2", settings=LONG)
        before = files_below(lab.outputs)
        cluster.daemon("stop", "slurmctld")
        said = lab.status()  # fails unless it exits with 0
        step = last_step(seed(lab, 1))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "note: Slurm does not answer" in said
    assert "running?" in line_of(said, "seed-1") and "queued?" in line_of(said, "seed-2")

    for name in ("testbed", "auto"):
        done = lab.run("submit", *whole, "--cluster", name, *lab.words(*LONG), check=False)
        assert (done.returncode, done.stdout) == (7, "")
        assert done.stderr.count("\n") == 1 and "Unable to contact slurm controller" in done.stderr
    assert {file: text for file, text in files_below(lab.outputs).items() if file in before} == before
    assert len(records(lab)) == 2 and not list(lab.outputs.rglob("*.partial*"))
    cluster.wait_until(lambda: last_step(seed(lab, 1)) > step, "the running job goes on")

    cluster.daemon("start", "slurmctld")  # which starts with the partition up
    said = lab.submit(*whole, *HERE, settings=LONG)
    assert line_of(said, "seed-1").split()[1] in ("running", "finished")
    assert line_of(said, "seed-2").split()[1] in ("queued", "running")
    assert "4 submitted" in said  # the baselines and the report
    partition("up")
    lab.wait_finished(seed(lab, 1))
    lab.wait_step(seed(lab, 2), 1)
    assert {record["number"] for record in records(lab).values()} == {1}


def test_an_edit_between_submission_and_start_does_not_reach_the_job(lab, cluster, partition):
    expected = lab.undisturbed(SHORT)
    partition("down")
    lab.submit(*HERE, settings=SHORT)
    (kept,) = (lab.outputs / ".code").iterdir()
    for file in (lab.repository / "scripts").rglob("*.py"):
        file.write_text("raise SystemExit('edited after the submission')\n", encoding="utf-8")
    partition("up")
    lab.wait_finished(lab.folder())
    assert_same(expected, lab.folder())
    hashes = {attempt["code_sha256"] for attempt in read(lab.folder() / "metrics.json")["attempts"]}
    assert [one.startswith(kept.name) for one in hashes] == [True]


def test_the_controller_stops_during_a_submission(lab, cluster, partition):
    partition("down")
    path = wrap(lab, "sbatch", f'"$REAL" "$@"; code=$?\n"{TESTBED}/daemon.sh" stop slurmctld\nexit $code')
    words = ("--model", "minilm-lora", "--seeds", "1,2,3", *HERE)
    done = lab.run("submit", *words, *lab.words(*SHORT), check=False, PATH=path)
    assert (done.returncode, done.stdout) == (7, ""), done.stderr
    assert "the rest was not tried" in done.stderr
    states = {name[-1]: record["state"] for name, record in records(lab).items()}
    assert states == {"1": "submitted", "2": "intent"}
    cluster.daemon("start", "slurmctld")  # which starts with the partition up
    partition("down")
    said = lab.submit(*words, settings=SHORT)
    assert "2 submitted" in said and line_of(said, "seed-1").split()[1] in ("queued", "running")
    assert one_job_a_run(lab, cluster) == 3


@pytest.mark.parametrize("moment", ["queued", "begun"])
def test_the_controller_forgets_a_job_and_gives_its_id_to_another(lab, cluster, partition, moment):
    """It writes its jobs down every 5 seconds at most: killed before, it knows nothing of the newest one."""
    known = cluster.submit("true", "--hold")
    state, before = cluster.state_folder() / "state", lab.repository.parent / "state before"
    # It wakes up with what it had written before the job came; where this is to have begun, its log says that it has.
    begun = """
folder=$(dirname "${@: -1}")
for ((i = 0; i < 300; i++)); do ls "$folder"/*.log >/dev/null 2>&1 && break; sleep 0.1; done"""
    path = wrap(
        lab,
        "sbatch",
        f"""mark=written-$$
scontrol update jobid={known} comment=$mark
until grep --quiet --text $mark "{state}/job_state"; do sleep 0.02; done
cp --archive "{state}" "{before}"
said=$("$REAL" "$@"); code=$?{begun if moment == "begun" else ""}
"{TESTBED}/daemon.sh" kill slurmctld
rm --recursive "{state}" && mv "{before}" "{state}"
echo "$said"
exit $code""",
    )
    if moment == "queued":
        partition("down")
    lab.run("submit", "--model", "minilm-lora", *HERE, *lab.words(*SHORT), PATH=path)
    lost = read(lab.folder() / "submit.json")
    assert len(list(lab.folder().glob("slurm/1/*.log"))) == (moment == "begun")
    cluster.daemon("start", "slurmctld")
    cluster.call("scancel", known)
    partition("down")
    assert lost["state"] == "submitted" and lost["name"] not in {job["name"] for job in cluster.squeue()}

    lab.submit(*HERE, "--seeds", "2", settings=SHORT)
    assert lab.job_id(seed(lab, 2)) == lost["job_id"]
    said = lab.status()
    assert "queued" in line_of(said, "seed-2") and "queued" not in line_of(said, "seed-1")
    if moment == "queued":  # the accounting, too, knows the id as the other's
        cluster.call("scancel", lost["job_id"])
        cluster.wait_until(lambda: "cancelled" in line_of(lab.status(), "seed-2"), "status: seed-2 is cancelled")
        assert "cancelled" not in line_of(lab.status(), "seed-1")
    lab.submit(*HERE, "--seeds", "1,2", settings=SHORT)
    names = Counter(job["name"] for job in cluster.squeue())
    assert set(names.values()) == {1} and names[read(seed(lab, 2) / "submit.json")["name"]] == 1
    partition("up")
    lab.wait_finished(seed(lab, 1), seed(lab, 2))
    lab.wait_queue_empty()
    assert "2 finished" in lab.status() and "2 finished" in lab.submit(*HERE, "--seeds", "1,2", settings=SHORT)
    for number in (1, 2):
        assert_same(lab.undisturbed(SHORT, seed=number), seed(lab, number))


# --- the accounting --------------------------------------------------------------------------------------------------


def test_the_accounting_is_down(lab, cluster):
    cluster.daemon("stop", "slurmdbd")
    lab.submit(*HERE, "--seeds", "1,2", settings=SHORT)
    kill(lab, cluster, seed(lab, 2))
    lab.wait_queue_empty()
    said = lab.status()
    assert "note: accounting does not answer" in said
    assert "finished" in line_of(said, "seed-1") and "ended" in line_of(said, "seed-2")
    assert f"log: {seed(lab, 2)}" in said

    cluster.daemon("start", "slurmdbd")
    cluster.wait_until(lambda: "killed by signal 9" in lab.status(), f"the accounting has caught up\n{lab.status()}")
    said = lab.status()
    assert "note" not in said and "1 failed, 1 finished" in said
    assert "1 finished, 1 resumed" in lab.submit(*HERE, "--seeds", "1,2", settings=SHORT)
    lab.wait_finished(seed(lab, 2))


def test_a_cluster_without_accounting(cluster, place, open_folder, tiny_model, rows_dir):
    environment = cluster.env | {"TESTBED": str(open_folder), "ACCT": "none"}
    try:
        type(cluster)(environment).call(TESTBED / "up.sh")
        other = type(cluster)(environment | {"SLURM_CONF": str(open_folder / "etc" / "slurm.conf")})
        lab = Lab(other, place, tiny_model, rows_dir)
        several = ("--all", "--jobs", "minilm-lora", "--seeds", "1,2", *HERE)
        assert "6 submitted" in lab.submit(*several, settings=SHORT)
        kill(lab, other, seed(lab, 2))
        lab.wait_queue_empty()
        said = lab.status()
        assert "note: accounting does not answer" in said and "4 finished" in said
        assert "ended" in line_of(said, "seed-2") and f"log: {seed(lab, 2)}" in said
        report = lab.log(lab.outputs / ".collect")
        assert "Results on stance-sample" in report and "seed-2" in report
        assert cluster.squeue() == []
    finally:
        type(cluster)(environment).call(TESTBED / "down.sh")


# --- submissions -----------------------------------------------------------------------------------------------------


def test_two_submissions_at_the_same_moment(lab, cluster, partition):
    partition("down")
    words = ("--all", "--jobs", "minilm-lora", "--seeds", "1,2", *HERE, *lab.words(*SHORT))
    both = [lab.start("submit", *words) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(table.splitlines()[-1].split(".")[0] for table, _ in said) == [
        "testbed: 6 queued",
        "testbed: 6 submitted",
    ], said
    assert one_job_a_run(lab, cluster) == 6


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_submission_is_killed_around_sbatch(lab, cluster, partition, moment):
    partition("down")
    real = '"$REAL" "$@" >/dev/null' if moment == "after" else ""
    path = wrap(lab, "sbatch", f"{real}\nkill -KILL $PPID\nexit 1")
    words = ("--all", "--jobs", "minilm-lora", *HERE)
    done = lab.run("submit", *words, *lab.words(*SHORT), check=False, PATH=path)
    assert done.returncode == -signal.SIGKILL
    [(name, record)] = records(lab).items()
    assert (record["state"], record["job_id"], record["number"]) == ("intent", None, 1)
    lives = cluster.squeue()
    assert len(lives) == (1 if moment == "after" else 0)
    assert "1 queued" in lab.status() if lives else "1 ended" in lab.status()

    said = lab.submit(*words, settings=SHORT)
    assert ("1 queued, 4 submitted" if lives else "5 submitted") in said
    assert one_job_a_run(lab, cluster) == 5
    found = records(lab)[name]
    if lives:
        assert found == record | {"state": "submitted", "job_id": lives[0]["id"]}
    else:
        assert found["number"] == 2
    others = [job["id"] for job in cluster.squeue() if job["id"] != found["job_id"]]
    cluster.call("scancel", *others)
    partition("up")
    lab.wait_finished(lab.outputs / name)


def test_five_hundred_runs(lab, cluster, partition):
    own = (lab.repository / "jobs" / "minilm-lora.yaml").read_text(encoding="utf-8")
    jobs, seeds = [f"many-{number}" for number in range(10)], range(1, 51)
    for job in jobs:
        (lab.repository / "jobs" / f"{job}.yaml").write_text(own, encoding="utf-8")
    one = lab.undisturbed(SHORT, job="many-0")
    text = (one / "config.yaml").read_text(encoding="utf-8")
    head, seed_line, tail = text.partition("\n  seed: 1\n")
    assert "job: many-0\n" in head and seed_line
    for job in jobs:
        for number in seeds:
            folder = lab.outputs / "stance-sample" / job / one.parent.name / f"seed-{number}"
            folder.mkdir(parents=True)
            for name in ("metrics.json", "training.json", "owner.json", "progress.json"):
                shutil.copy(one / name, folder)
            frozen = f"{head.replace('job: many-0', f'job: {job}')}\n  seed: {number}\n{tail}"
            (folder / "config.yaml").write_text(frozen, encoding="utf-8")
    log = lab.repository.parent / "asked"
    for name in ("squeue", "sacct", "sbatch", "scontrol", "scancel"):
        path = wrap(lab, name, f'echo {name} >>"{log}"\nexec "$REAL" "$@"')

    def asked() -> Counter[str]:
        """How often Slurm was asked what since the last time."""
        found = Counter(log.read_text(encoding="utf-8").split())
        log.unlink()
        return found

    partition("down")
    words = ("--all", "--jobs", "many-*", "--seeds", ",".join(map(str, seeds)), *HERE, *lab.words(*SHORT))
    said = lab.run("submit", *words, PATH=path).stdout
    assert "500 finished, 13 submitted" in said  # two classical baselines, one a job, and the report
    assert asked() == {"squeue": 1, "sbatch": 13}
    said = lab.run("submit", *words, PATH=path).stdout
    assert "500 finished, 13 queued" in said
    assert asked() == {"squeue": 1}

    said = lab.run("status", "--outputs", lab.outputs, PATH=path).stdout
    assert "513 runs: 500 finished, 13 queued" in said
    assert asked() == {"squeue": 1}
    [gone] = [record for name, record in records(lab).items() if "many-3" in name]
    cluster.call("scancel", gone["job_id"])
    said = lab.run("status", "--outputs", lab.outputs, PATH=path).stdout
    assert "513 runs: 1 cancelled, 500 finished, 12 queued" in said
    assert asked() == {"squeue": 1, "sacct": 1}


# --- clusters and users ----------------------------------------------------------------------------------------------


def test_submit_check_queues_nothing_and_names_what_is_wrong(lab, cluster):
    own = (lab.repository / "jobs" / "minilm-lora.yaml").read_text(encoding="utf-8")
    (lab.repository / "jobs" / "greedy.yaml").write_text(own + "\nresources: {time: 3-00:00:00}\n", encoding="utf-8")
    words = ("--dry-run", "--all", *HERE, *lab.words(*SHORT))
    done = lab.run("submit", *words, "--jobs", "minilm-lora", "--seeds", "1,2")
    assert "5 of 5 runs would be accepted" in done.stdout and "to start at" in done.stdout
    done = lab.run("submit", *words, "--jobs", "minilm-lora greedy", check=False)
    assert done.returncode == 7 and "4 of 6 runs would be accepted" in done.stdout
    assert done.stdout.count("time limit is invalid") == 1
    refused = [line for line in done.stdout.splitlines() if line.endswith(": refused")]
    assert len(refused) == 2 and all("/greedy/" in line for line in refused)
    assert cluster.squeue() == [] and not list(lab.outputs.rglob("*.json"))


def test_the_profile_is_that_of_the_cluster_that_answers(lab, cluster, partition):
    partition("down")
    assert "testbed: 1 submitted" in lab.submit(settings=SHORT)
    (lab.repository / "slurm" / "testbed.yaml").unlink()
    done = lab.run("submit", "--model", "minilm-lora", "--seeds", "2", *lab.words(*SHORT), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    for words in ("Slurm cluster 'testbed'", "no slurm/testbed.yaml", "copy an example", "CLUSTER=local"):
        assert words in done.stderr
    assert len(cluster.squeue()) == 1 and len(records(lab)) == 1


def test_another_user(cluster, open_folder, open_python, tiny_model, rows_dir):
    home = open_folder / "home of ours"
    lab = Lab(cluster, home, shutil.copytree(tiny_model, home / "model"), shutil.copytree(rows_dir, home / "rows"))
    lab.prefix = ("setpriv", "--reuid=peftable", "--regid=peftable", "--init-groups")
    lab.python, lab.env["HOME"] = str(open_python), str(home)
    lab.env["LD_LIBRARY_PATH"] = str(open_python.parents[2] / "base" / "lib")  # where the interpreter's own may lie
    for path in (home, *home.rglob("*")):
        shutil.chown(path, "peftable", "peftable")
    lab.submit(*HERE, settings=SHORT)
    assert {job["user"] for job in cluster.squeue()} == {"peftable"}
    lab.wait_finished(lab.folder())
    lab.wait_queue_empty()
    assert "1 finished" in lab.status()
    assert {file.owner() for file in lab.folder().rglob("*")} == {"peftable"}
