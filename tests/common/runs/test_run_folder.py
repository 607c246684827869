import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from toy_runs import run_config

from common.core import files, yaml_io
from common.core.errors import ConfigError, Interrupted, RunError, Superseded
from common.runs import run_folder, run_lock
from common.runs.lifecycle import recorded_failure
from common.runs.run_config import differences

SCRIPTS = str(Path(run_folder.__file__).parents[2])


def test_folder():
    assert run_folder.folder(Path("o"), "toy", "lora", "", "seed-1") == Path("o/toy/lora/seed-1")
    assert run_folder.folder(Path("o"), "toy", "lora", "method.r=4", "seed-1") == Path("o/toy/lora/method.r=4/seed-1")


# --- frozen config ---------------------------------------------------------------------------------------------------


def test_freeze_and_thaw(tmp_path):
    config = run_config(
        overrides={"training.learning_rate": 2e-5, "method.r": 4},
        data_dir="/data/mine",
        labels=["no", "01", 3],
        text=["a"],
        mean_f1_labels=["no"],
        splits={"fractions": {"validation": 0.1}},
    )
    run_folder.create_run(tmp_path, config, "make train")
    assert run_folder.load_run_config(tmp_path) == config
    assert yaml_io.read(tmp_path / run_folder.CONFIG)["schema"] == 1


def test_the_seed_of_a_sample_counts_where_there_is_one():
    sampled = {"training.max_train_samples": 10}
    for overrides, differs in (({}, False), (sampled, True)):
        one, other = (run_config(overrides=overrides, splits={"seed": seed}) for seed in (1, 2))
        assert bool(differences(one, other)) is differs


def test_freezing_the_same_again_changes_nothing(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    before = (tmp_path / run_folder.CONFIG).read_bytes()
    run_folder.create_run(tmp_path, run_config(), "make train")
    assert (tmp_path / run_folder.CONFIG).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"overrides": {"training.epochs": 2}}, "training.epochs: 8.0 → 2.0"),
        ({"overrides": {"method.r": 4}}, "method.r: 16 → 4"),
        ({"overrides": {"method": {"name": "full"}}}, "method.r: 16 → absent"),
        ({"data_sha256": "e" * 64}, f"data.sha256: {'d' * 64} → {'e' * 64}"),
        ({"labels": ["pro", "con"]}, "labels: ['con', 'pro'] → ['pro', 'con']"),
        ({"seed": 2}, "seed: 1 → 2"),
    ],
)
def test_a_changed_config_is_refused_and_shown(tmp_path, changes, line):
    run_folder.create_run(tmp_path, run_config(), "make train MODEL=minilm-lora")
    with pytest.raises(RunError) as raised:
        run_folder.create_run(tmp_path, run_config(**changes), "make train MODEL=minilm-lora")
    assert line in str(raised.value)
    assert "make train MODEL=minilm-lora FORCE=1" in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"overrides": {"runtime.log_every": 3, "runtime.report_to": ["tensorboard"]}},
        {"data_dir": "/elsewhere"},
        {"title": "Another title"},
        {"source": {"files": {"train": "copy.csv"}}},
    ],
)
def test_what_changes_no_result_may_change(tmp_path, changes):
    run_folder.create_run(tmp_path, run_config(), "make train")
    run_folder.create_run(tmp_path, run_config(**changes), "make train")


def test_an_older_config_takes_new_defaults(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    document = yaml_io.read(tmp_path / run_folder.CONFIG)
    del document["job"]["runtime"]["log_every"], document["job"]["training"]["label_smoothing"]
    (tmp_path / run_folder.CONFIG).write_text(yaml_io.dump(document))
    assert run_folder.load_run_config(tmp_path) == run_config()


def test_thaw_says_what_is_wrong(tmp_path):
    with pytest.raises(RunError, match="there is no run here"):
        run_folder.load_run_config(tmp_path)
    (tmp_path / run_folder.CONFIG).write_text("job: {}\n")
    with pytest.raises(RunError, match="'run' is missing"):
        run_folder.load_run_config(tmp_path)


def test_thaw_validates(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    text = (tmp_path / run_folder.CONFIG).read_text().replace("epochs: 8", "epochs: -8")
    (tmp_path / run_folder.CONFIG).write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml: 'training\.epochs' is -8"):
        run_folder.load_run_config(tmp_path)


def test_set_aside_keeps_the_old_run(tmp_path):
    run = tmp_path / "seed-1"
    assert run_folder.archive_run(run) is None
    asides = []
    for number in range(3):  # more than once within a second, too
        run_folder.create_run(run, run_config(seed=number), "make train")
        asides.append(run_folder.archive_run(run))
        assert not run.exists()
    assert [run_folder.load_run_config(aside).seed for aside in asides] == [0, 1, 2]
    assert all(".replaced-" in aside.name for aside in asides)


def test_need_model(tmp_path):
    with pytest.raises(RunError, match=r"there is no such run.*make train MODEL=x"):
        run_folder.check_trained(tmp_path, "make train MODEL=x")
    run_folder.create_run(tmp_path, run_config(), "make train")
    with pytest.raises(RunError, match="the run is not finished"):
        run_folder.check_trained(tmp_path, "make train MODEL=x")
    (tmp_path / run_folder.MODEL).mkdir()
    with pytest.raises(RunError, match="the run is not finished"):
        run_folder.check_trained(tmp_path, "make train MODEL=x")
    (tmp_path / run_folder.TRAINING).write_text("{}")
    run_folder.check_trained(tmp_path, "make train MODEL=x")


def test_a_recipe_is_compared_without_its_data(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    assert run_folder.load_matching_config(tmp_path, run_config(data_sha256="")) == run_config()
    with pytest.raises(RunError, match=r"method\.r: 16 → 4\n.*RUN="):
        run_folder.load_matching_config(tmp_path, run_config(overrides={"method.r": 4}))


def test_a_run_is_finished_when_its_metrics_exist(tmp_path):
    assert not run_folder.is_finished(tmp_path)
    (tmp_path / run_folder.METRICS).write_text("{}")
    assert run_folder.is_finished(tmp_path)


def test_headline():
    document = {"score": "test_f1_macro", "test_n": 4, "test_accuracy": 0.75, "test_f1_macro": 0.7333}
    assert run_folder.headline(document, "test") == "test (n=4): f1_macro 0.7333, accuracy 0.7500"


# --- one writer ------------------------------------------------------------------------------------------------------


def document(path):
    return files.read_json(path / run_lock.FILE)


def test_attempts_count_up(tmp_path):
    for wanted in (1, 2, 3):
        with run_lock.acquire(tmp_path) as attempt:
            assert attempt == wanted
            assert document(tmp_path)["released"] is None
        assert document(tmp_path)["released"]


def test_a_failure_releases_the_folder(tmp_path):
    with pytest.raises(ValueError, match="x"), run_lock.acquire(tmp_path):
        raise ValueError("x")
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 2


HOLD = f"""
import sys; sys.path.insert(0, {SCRIPTS!r})
from pathlib import Path
from common.runs import run_lock
with run_lock.acquire(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that works on the run until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def test_a_running_holder_keeps_the_lock(tmp_path, holder):
    run_folder.create_run(tmp_path, run_config(), "make train")
    with pytest.raises(RunError, match=f"process {holder.pid} on {socket.gethostname()} has been working"):
        run_lock.acquire(tmp_path).__enter__()
    with pytest.raises(RunError, match=f"process {holder.pid}"):
        run_folder.archive_run(tmp_path)
    holder.communicate("\n")
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 2


def test_a_killed_process_is_replaced(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert document(tmp_path)["released"] is None
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 2
        assert document(tmp_path)["pid"] == os.getpid()


def claim(path, **changes):
    """Write an owner.json as if this running process held the lock, with some changes."""
    with run_lock.acquire(path):
        mine = document(path)
    files.write_json(path / run_lock.FILE, mine | changes)


def test_a_reused_pid_is_another_process(tmp_path):
    claim(tmp_path)
    with pytest.raises(RunError):
        run_lock.acquire(tmp_path).__enter__()
    claim_path = tmp_path / "other"
    claim(claim_path, pid_started="1")
    with run_lock.acquire(claim_path) as attempt:
        assert attempt == 2


def test_a_holder_on_another_host_keeps_the_lock(tmp_path):
    claim(tmp_path, host="node17", pid=1)
    with pytest.raises(RunError, match=r"on node17 .*delete .*owner\.json"):
        run_lock.acquire(tmp_path).__enter__()


@pytest.fixture
def start(monkeypatch):
    """`start(2, 1)`: from here on this process is restart 1 of submission 2; `start(None)`: typed by hand."""

    def become(number, restart=0, job="12"):
        for name in ("PEFTABLE_SUBMISSION", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
            monkeypatch.delenv(name, raising=False)
        if number is not None:
            monkeypatch.setenv("PEFTABLE_SUBMISSION", f"/runs/one/slurm/{number}")
            monkeypatch.setenv("SLURM_JOB_ID", job)
            if restart:
                monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))

    return become


def test_the_holder_records_submission_and_restart(tmp_path, start):
    start(3, 2, job="77")
    with run_lock.acquire(tmp_path):
        found = document(tmp_path)
    assert (found["submission"], found["restart"], found["job_id"]) == (3, 2, "77")
    start(None)
    with run_lock.acquire(tmp_path):
        found = document(tmp_path)
    assert (found["submission"], found["restart"], found["job_id"]) == (None, 0, None)


ALIVE, DEAD, ELSEWHERE = {}, {"pid_started": "1"}, {"host": "node17"}
TAKES, BUSY, OLD = "takes over", RunError, Superseded


@pytest.mark.parametrize(
    ("number", "state"), [(0, ALIVE), (1, DEAD), (2, ELSEWHERE)], ids=["alive", "dead", "elsewhere"]
)
@pytest.mark.parametrize(
    ("theirs", "ours", "outcomes"),  # of a holder that runs, has ended, is on another host
    [
        ((1, 0), (1, 1), (TAKES, TAKES, TAKES)),
        ((1, 9), (2, 0), (TAKES, TAKES, TAKES)),
        ((1, 0), (1, 0), (TAKES, TAKES, TAKES)),  # the same job, as a controller starts it that was killed
        ((1, 1), (1, 0), (OLD, OLD, OLD)),
        ((2, 0), (1, 5), (OLD, OLD, OLD)),
        ((None,), (1, 0), (BUSY, TAKES, BUSY)),
        ((None,), (None,), (BUSY, TAKES, BUSY)),
    ],
    ids=["restart", "submission", "forgotten start", "older restart", "older submission", "job after hand", "by hand"],
)
def test_who_takes_over(tmp_path, start, fake_command, theirs, ours, outcomes, number, state):
    asked = fake_command("squeue", "exit 1")
    start(*theirs)
    claim(tmp_path, **state)
    before = (tmp_path / run_lock.FILE).read_bytes()
    start(*ours)
    if outcomes[number] is TAKES:
        with run_lock.acquire(tmp_path) as attempt:
            assert attempt == 2
    else:
        with pytest.raises(outcomes[number]):
            run_lock.acquire(tmp_path).__enter__()
        assert (tmp_path / run_lock.FILE).read_bytes() == before
    assert asked() == []


@pytest.mark.parametrize("state", [ALIVE, ELSEWHERE], ids=["alive", "elsewhere"])
@pytest.mark.parametrize(
    ("squeue", "outcome"),
    [
        ("", TAKES),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", TAKES),
        ("echo 12", BUSY),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", BUSY),
    ],
    ids=["gone", "forgotten", "lives", "silent"],
)
def test_a_person_takes_over_from_a_job_that_slurm_knows_to_be_gone(
    tmp_path, start, fake_command, squeue, outcome, state
):
    asked = fake_command("squeue", squeue)
    start(1)
    claim(tmp_path, **state)
    start(None)
    if outcome is TAKES:
        with run_lock.acquire(tmp_path) as attempt:
            assert attempt == 2
    else:
        with pytest.raises(RunError, match=r"the Slurm job 12 \(process .*scancel 12"):
            run_lock.acquire(tmp_path).__enter__()
    assert asked() == ["-h -j 12 -o %i"]


def test_a_person_takes_over_from_a_dead_job_of_this_host_without_asking(tmp_path, start, fake_command):
    asked = fake_command("squeue", "echo 12")
    start(1)
    claim(tmp_path, **DEAD)
    start(None)
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 2
    assert asked() == []


def test_without_slurm_a_job_keeps_the_lock(tmp_path, start, monkeypatch):
    start(1)
    claim(tmp_path, **ELSEWHERE)
    start(None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RunError, match="job 12"):
        run_lock.acquire(tmp_path).__enter__()


def test_the_older_start_of_a_released_run_is_told_so_too(tmp_path, start):
    start(1, 1)
    with run_lock.acquire(tmp_path):
        pass
    start(1)
    with pytest.raises(
        Superseded, match=r"a newer start has taken this run over \(Slurm job 12, submission 1, restart 1"
    ):
        run_lock.acquire(tmp_path).__enter__()


def test_a_superseded_writer_changes_nothing_more(tmp_path, start):
    """Whatever it calls: the fence is inside of the functions that write."""
    folder = tmp_path / "run"
    start(1)
    with (
        pytest.raises(Superseded, match="restart 1"),
        run_lock.acquire(folder),
        recorded_failure(folder, "again"),
    ):
        files.write_json(folder / "a.json", 1)
        files.append_jsonl(folder / "log.jsonl", {"step": 1})
        with files.atomic_folder(folder / "checkpoints" / "checkpoint-1") as partial:
            (partial / "weights").write_text("1")
        with files.atomic_folder(folder / "model") as unfinished:
            # The newer start takes over, and cleans up behind the older one.
            (folder / run_lock.FILE).write_text(json.dumps(document(folder) | {"attempt": 2, "restart": 1}))
            shutil.rmtree(unfinished)
            before = snapshot(folder)
            for write in (
                lambda: files.write_json(folder / "a.json", 2),
                lambda: files.write_json(folder / "metrics.json", {}),
                lambda: files.append_jsonl(folder / "log.jsonl", {"step": 2}),
                lambda: files.remove(folder / "checkpoints"),
                lambda: files.remove(folder / "a.json"),
                lambda: files.atomic_folder(folder / "model").__enter__(),
            ):
                with pytest.raises(Superseded, match="restart 1"):
                    write()
            (unfinished / "weights").write_text("2")  # its folder is gone, which is no bug of ours
    assert snapshot(folder) == before


def test_leftovers_of_earlier_attempts_are_removed_and_others_left(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    ours = [tmp_path / ".a.attempt-1.host-5.partial.json", tmp_path / "checkpoints" / ".c.attempt-1.host-5.partial"]
    ours[0].write_text("")
    ours[1].mkdir()
    (ours[1] / "weights").write_text("")
    other = tmp_path / ".submit.host-6.partial.json"  # of a process without the lock
    other.write_text("")
    with run_lock.acquire(tmp_path):
        assert other.exists() and not any(path.exists() for path in ours)
        with files.atomic_path(tmp_path / "a.json") as partial:
            assert f".attempt-1.{socket.gethostname()}-{os.getpid()}." in partial.name
            partial.write_text("")


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_removed_owner_file_ends_the_lock(tmp_path):
    with pytest.raises(Superseded, match=r"owner\.json has been removed"), run_lock.acquire(tmp_path):
        (tmp_path / run_lock.FILE).unlink()  # as the message to a second process advises
        files.write_json(tmp_path / "metrics.json", {})
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / run_lock.FILE).exists()


def test_a_damaged_owner_file_is_replaced(tmp_path):
    (tmp_path / run_lock.FILE).write_text("{")
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 1


# --- failure ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "interrupted", "expected"),
    [
        (RuntimeError("CUDA out of memory"), False, False),
        (RunError("no"), False, True),
        (Interrupted("SIGTERM"), True, True),
        (KeyboardInterrupt(), True, False),
    ],
)
def test_a_failure_is_recorded_and_raised(tmp_path, error, interrupted, expected):
    with pytest.raises(type(error)), recorded_failure(tmp_path, "make train MODEL=x"):
        raise error
    document = json.loads((tmp_path / run_folder.FAILURE).read_text())
    assert document["error"] == f"{type(error).__name__}: {error}".removesuffix(": ")  # Ctrl-C
    assert (document["interrupted"], document["expected"]) == (interrupted, expected)
    assert document["continue_with"] == "make train MODEL=x"


def test_success_removes_an_older_failure(tmp_path):
    (tmp_path / run_folder.FAILURE).write_text("{}")
    with recorded_failure(tmp_path, "make train"):
        assert not (tmp_path / run_folder.FAILURE).exists()
    assert not (tmp_path / run_folder.FAILURE).exists()


def test_this_command_can_be_pasted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "--set", "model='a b'"])
    assert run_folder.this_command() == """python scripts/train.py --set 'model='"'"'a b'"'"''"""
