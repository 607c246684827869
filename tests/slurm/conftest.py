"""Fixtures for tests on a real Slurm: skipped, with the reason, where no testbed answers.

`make test-slurm` brings one up, runs these tests and takes it down; by hand: `. slurm/testbed/env.sh`, then pytest.
The tests cancel every job and kill daemons, so nothing but a testbed of ours will do.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Lab
from waiting import HANG_S

TESTBED = Path(__file__).resolve().parents[2] / "slurm" / "testbed"
DAEMONS = ("slurmdbd", "slurmctld", "slurmd-n1", "slurmd-n2")
LIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED")
SQUEUE_FIELDS = ("id", "state", "name", "user", "partition", "node", "reason")


class Cluster:
    """The testbed: its commands, its daemons, and waiting for what it does."""

    env: dict[str, str]

    def __init__(self, env: dict[str, str]) -> None:
        """Keep the environment that Slurm's commands need."""
        self.env = env

    def call(self, *command: object, user: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command with the testbed's environment, as another Unix user if asked; fail with what it said."""
        words = [str(word) for word in command]
        if user:
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *words]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 or not check, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def submit(self, text: str, *options: object, user: str | None = None) -> str:
        """Submit `text` as the body of a one-minute batch job without output; returns its id."""
        words = ["sbatch", "--parsable", "--time=1", "--mem=100", "--output=/dev/null", "--chdir=/", *options]
        return self.call(*words, f"--wrap={text}", user=user).stdout.strip()

    def squeue(self, *options: object) -> list[dict[str, str]]:
        """Every job (or task of an array) in the queue as a dict of id, state, name, user, partition, node, reason."""
        lines = self.call("squeue", "-h", "-r", "-o", "%i|%T|%j|%u|%P|%N|%r", *options).stdout.splitlines()
        return [dict(zip(SQUEUE_FIELDS, line.split("|"), strict=True)) for line in lines]

    def state(self, job: str) -> str | None:
        """The job's state as squeue has it, None once squeue has forgotten it."""
        done = self.call("squeue", "-h", "-t", "all", "-j", job, "-o", "%T", check=False)
        return done.stdout.strip() or None

    def sacct(self, job: str, *options: object, fields: str = "JobID,State,ExitCode,NodeList") -> list[dict[str, str]]:
        """The accounting's lines of a job, a dict each; "-D" adds its earlier starts, "-X" leaves the steps out."""
        lines = self.call("sacct", "-n", "-P", "-j", job, "-o", fields, *options).stdout.splitlines()
        return [dict(zip(fields.split(","), line.split("|"), strict=True)) for line in lines]

    def starts(self, job: str) -> list[str]:
        """In what state each start of a job, or of a task of an array, has ended; the accounting lags by seconds."""
        return [start["State"].split()[0] for start in self.sacct(job, "-X", "-D")]  # CANCELLED by 0

    def daemon(self, action: str, name: str) -> None:
        """`start`, `stop` or `kill` one of slurmctld, slurmdbd, slurmd-n1, slurmd-n2."""
        self.call(TESTBED / "daemon.sh", action, name)

    def cgroup_conf(self) -> str:
        """What Slurm was told of cgroups."""
        file = Path(self.env["SLURM_CONF"]).with_name("cgroup.conf")
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def state_folder(self) -> Path:
        """Where Slurm's daemons keep what they must not forget: jobs, scripts, environments; and their logs."""
        return Path(self.env["SLURM_CONF"]).parents[1]

    def wait_until(self, condition: Callable[[], object], what: str, seconds: float = HANG_S) -> object:
        """Poll `condition` until it holds something true and return that; after `seconds` fail with `what`."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{self.call('squeue', check=False).stdout}"
            time.sleep(0.1)
        return found

    def wait_for(self, job: str, state: str) -> None:
        """Wait until squeue shows the job in `state`."""
        self.wait_until(lambda: self.state(job) == state, f"job {job} {state}, it is {self.state(job)}")

    def wait_idle_nodes(self) -> None:
        """Wait until both nodes answer and have nothing to do."""
        words = ("sinfo", "-h", "-N", "-p", "main", "-o", "%T")
        idle = ["idle", "idle"]
        self.wait_until(lambda: self.call(*words, check=False).stdout.split() == idle, "both nodes idle")

    def reset(self) -> None:
        """Start every daemon that is down, cancel every job, wait for idle nodes."""
        accounting = "accounting_storage/slurmdbd" in Path(self.env["SLURM_CONF"]).read_text(encoding="utf-8")
        for name in DAEMONS if accounting else DAEMONS[1:]:
            self.daemon("start", name)
        if jobs := {job["id"] for job in self.squeue()}:
            self.call("scancel", *jobs, check=False)
        self.wait_until(lambda: not self.squeue(), "no job left")
        self.wait_idle_nodes()


def _why_not() -> str | None:
    """Say what keeps these tests from running here; None when nothing does."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return "tests on Slurm share one cluster and run in one process: make test-slurm"
    configuration = Path(os.environ.get("SLURM_CONF", "/nowhere"))
    if not (configuration.is_file() and (configuration.parents[1] / ".testbed").exists()):
        return "no testbed is up (SLURM_CONF names none): make test-slurm"
    if os.geteuid() != 0:
        return "only root can stop and start the testbed's daemons"
    if subprocess.run(["scontrol", "ping"], capture_output=True, timeout=60).returncode:
        return f"the testbed of {configuration} does not answer: slurm/testbed/up.sh"
    return None


@pytest.fixture(scope="session")
def slurm_env() -> dict[str, str]:
    """The environment that Slurm's commands and ours need to speak to the testbed."""
    if why := _why_not():
        pytest.skip(why)
    # What a job around us set would be taken as options of the jobs made here.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SQUEUE_"))}
    return kept | {"SLURM_CONF": os.environ["SLURM_CONF"], "HF_HUB_OFFLINE": "1"}


@pytest.fixture(autouse=True)
def cluster(slurm_env) -> Iterator[Cluster]:
    """The testbed with all daemons up, idle and empty, before and after every test."""
    found = Cluster(slurm_env)
    found.reset()
    yield found
    found.reset()


@pytest.fixture
def place(tmp_path) -> Path:
    """A scratch folder for runs whose path needs quoting everywhere: it holds a space and a quote."""
    folder = tmp_path / "the lab's runs"
    folder.mkdir()
    return folder


@pytest.fixture
def lab(cluster, place, tiny_model, rows_dir) -> Lab:
    """A copy of the project to work with, as a user would; see `lab.Lab`."""
    return Lab(cluster, place, tiny_model, rows_dir)


@pytest.fixture
def partition(cluster) -> Iterator[Callable[[str], None]]:
    """`partition("down")`: jobs are queued and none starts; up again in the end."""

    def switch(state: str) -> None:
        cluster.call("scontrol", "update", "partitionname=main", f"state={state}")

    yield switch
    cluster.daemon("start", "slurmctld")
    switch("up")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def open_python() -> Iterator[Path]:
    """Our interpreter with our packages where every user may execute it: root's own often lies in a closed folder.

    Such a folder is mounted a second time, so that nothing of it is copied and no permission changes.
    """
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    mounted = []

    def mount(source: str, target: Path) -> None:
        target.mkdir(parents=True)
        command = ["mount", "--bind", source, str(target)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip(f"this machine does not let root mount {source} where other users may read it")
        mounted.append(target)

    try:
        base, environment = folder / "base", folder / "environment"
        mount(sys.base_prefix, base)
        packages = sysconfig.get_path("purelib")
        mount(packages, environment / Path(packages).relative_to(sys.prefix))
        home = base / Path(sys.executable).resolve().parent.relative_to(Path(sys.base_prefix).resolve())
        (environment / "bin").mkdir()
        python = environment / "bin" / "python"
        python.symlink_to(home / Path(sys.executable).resolve().name)
        (environment / "pyvenv.cfg").write_text(f"home = {home}\n", encoding="utf-8")
        yield python
    finally:
        for target in mounted:
            subprocess.run(["umount", "--lazy", str(target)], check=True)
            target.rmdir()  # fails where it is a mount still, whose content must stay
        shutil.rmtree(folder)
