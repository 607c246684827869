"""A fake Slurm: its commands as small executables on PATH, whose state (jobs, refusals, delays) is a JSON file.

Every call is recorded, with its environment. A submitted job stays PENDING until a test changes its state.
"""

import contextlib
import fcntl
import json
import sys
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun")
START = {
    "cluster": "testbed",  # None: installed, but not configured
    "down": False,  # no controller answers
    "accounting": True,
    "refuse": None,  # what sbatch says instead of taking a job
    "slow": {},  # seconds before a command answers, by its name
    "kill": None,  # "before" or "after" a job is taken, sbatch kills who called it
    "deaf": [],  # ids that scancel does not find
    "next": 101,
    "jobs": [],  # id, name, state, node, elapsed, limit, reason, comment; options of sbatch
    "past": [],  # id, state, code, node, elapsed, name
}
_COMMAND = r"""
import contextlib, fcntl, json, os, shlex, signal, sys, time
from pathlib import Path

place, name, words = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
text = sys.stdin.read() if "--test-only" in words else Path(words[0]).read_text() if name == "sbatch" else ""
with (place / "calls.jsonl").open("a") as stream:
    stream.write(json.dumps({"name": name, "words": words, "text": text, "environment": dict(os.environ)}) + "\n")


@contextlib.contextmanager
def state():
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = json.loads((place / "state.json").read_text())
        yield known
        (place / "state.json").write_text(json.dumps(known))


def fail(said):
    sys.exit(f"{name}: {said}")


with state() as known:
    pass
time.sleep(known["slow"].get(name, 0))
if known["cluster"] is None:
    fail(f"error: fetch_config: DNS SRV lookup failed\n{name}: fatal: Could not establish a configuration source")
if name == "sacct":
    if not known["accounting"]:
        fail("error: Slurm accounting storage is disabled")
    for job in known["past"]:
        print("|".join(job[key] for key in ("id", "state", "code", "node", "elapsed", "name")))
    sys.exit()
if known["down"]:
    fail("error: Unable to contact slurm controller (connect failure)")
if name == "scontrol":
    print(f"Configuration data as of 2026-11-21\nClusterName             = {known['cluster']}\nCompleteWait = 0 sec")
elif name == "squeue":
    for job in known["jobs"]:
        print("|".join(job[key] for key in ("id", "name", "state", "node", "elapsed", "limit", "reason", "comment")))
elif name == "scancel":
    if deaf := [word for word in words if word in known["deaf"]]:
        fail(f"error: Invalid job id {deaf[0]}")
    with state() as known:
        for job in [job for job in known["jobs"] if job["id"].partition("_")[0] in words]:
            known["jobs"].remove(job)
            past = {key: job[key] for key in ("id", "name", "node", "elapsed")}
            known["past"].append({**past, "state": "CANCELLED by 0", "code": "0:15"})
elif name == "sbatch":
    if known["refuse"]:
        fail(f"error: Batch job submission failed: {known['refuse']}")
    if "--test-only" in words:
        said = "Job 99 to start at 2026-11-21T12:00:00 using 1 processors on nodes n1 in partition main"
        sys.stderr.write(f"sbatch: {said}\n")
        sys.exit()
    if known["kill"] == "before":
        os.kill(os.getppid(), signal.SIGKILL)
        sys.exit(1)
    options = {}
    for line in text.splitlines():
        if line.startswith("#SBATCH "):
            key, _, value = shlex.split(line)[1].removeprefix("--").partition("=")
            options[key] = value
    with state() as known:
        number, known["next"] = str(known["next"]), known["next"] + 1
        job = {"id": number, "name": options["job-name"], "state": "PENDING", "node": "", "elapsed": "0:00"}
        job |= {"limit": "8:00:00", "reason": "Priority", "comment": options["comment"], "options": options}
        known["jobs"].append(job)
    if known["kill"] == "after":
        os.kill(os.getppid(), signal.SIGKILL)
    print(f"Submitted batch job {number}")
"""


class FakeSlurm:
    """A fake cluster below a folder; `bin` belongs on PATH, first."""

    def __init__(self, place: Path) -> None:
        self.place, self.bin = place, place / "bin"
        self.bin.mkdir(parents=True)
        (place / "state.json").write_text(json.dumps(START))
        (place / "command.py").write_text(_COMMAND)
        for name in COMMANDS:
            # Absolute paths: PATH may hold nothing else.
            file = self.bin / name
            file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -ISE "{place}/command.py" "{place}" {name} "$@"\n')
            file.chmod(0o755)

    @contextlib.contextmanager
    def state(self):
        """Read and change what the commands know."""
        with (self.place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = json.loads((self.place / "state.json").read_text())
            yield known
            (self.place / "state.json").write_text(json.dumps(known))

    def set(self, **changes: object) -> None:
        """Change what the commands know."""
        with self.state() as known:
            known |= changes

    @property
    def jobs(self) -> list[dict]:
        """What waits or runs."""
        with self.state() as known:
            return known["jobs"]

    def calls(self, *names: str) -> list[dict]:
        """Return the calls of some commands, or of all, in order."""
        file = self.place / "calls.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [call for call in map(json.loads, lines) if not names or call["name"] in names]

    def forget_calls(self) -> None:
        """Begin to record anew."""
        (self.place / "calls.jsonl").unlink(missing_ok=True)

    def run(self, name_part: str, node: str = "n1") -> None:
        """Have the jobs whose name holds a text run."""
        with self.state() as known:
            for job in known["jobs"]:
                if name_part in job["name"]:
                    job.update(state="RUNNING", node=node, elapsed="1:00", reason="None")

    def end(self, name_part: str, state: str = "COMPLETED", code: str = "0:0") -> None:
        """End the jobs whose name holds a text."""
        with self.state() as known:
            for job in [job for job in known["jobs"] if name_part in job["name"]]:
                known["jobs"].remove(job)
                past = {"id": job["id"], "name": job["name"], "node": "n1", "elapsed": "60"}
                known["past"].append({**past, "state": state, "code": code})
