"""submit.py as it is typed: what it says, what it leaves alone, and a queue of this machine that trains to the end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANG_S, until

from common.cluster import submit_record
from common.config import catalog
from common.core import files
from common.runs import run_folder, run_lock

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def words(tiny_arguments):
    return tiny_arguments("training.epochs=1")


@pytest.fixture
def folders(tmp_path):
    """The run folders that are there, by their last name."""
    return lambda: {file.parent.name: file.parent for file in (tmp_path / "outputs").rglob("config.yaml")}


def table(out):
    """Return {run's last name: what was done}."""
    lines = [line.split() for line in out.partition("\n\n")[0].splitlines()[2:]]
    return {line[0].rpartition("/")[2]: " ".join(line[1:2]) for line in lines}


def test_two_seeds(run_script, fake_slurm, words, folders):
    code, out, err = run_script("submit", *words, "--seeds", "1,2")
    assert (code, err) == (0, "")
    assert table(out) == {"seed-1": "submitted", "seed-2": "submitted"}
    assert out.endswith("\ntestbed: 2 submitted. make status shows their state.\n")
    assert sorted(folders()) == ["seed-1", "seed-2"]
    assert [call["name"] for call in fake_slurm.calls()] == ["scontrol", "squeue", "sbatch", "sbatch"]
    code, out, _ = run_script("submit", *words, "--seeds", "2 1 2")
    assert code == 0 and table(out) == {"seed-1": "queued", "seed-2": "queued"}


def test_a_changed_run_is_shown_and_fails(run_script, fake_slurm, words, folders):
    run_script("submit", *words)
    fake_slurm.end("")
    (folders()["seed-1"] / "config.yaml").write_text(
        (folders()["seed-1"] / "config.yaml").read_text().replace("epochs: 1.0", "epochs: 3.0")
    )
    code, out, _ = run_script("submit", *words)
    assert code == 5 and table(out) == {"seed-1": "changed"}
    reason = out.split("\n\n")[1]
    assert reason.startswith("FORCE=1 starts over\n  training.epochs: 3.0 → 1.0\n") and "seed-1: changed" in reason


def test_slurm_does_not_answer(run_script, fake_slurm, words, folders, tmp_path):
    fake_slurm.set(down=True)
    for cluster in ("auto", "testbed"):
        code, out, err = run_script("submit", *words, "--cluster", cluster)
        assert (code, out) == (7, "") and "Unable to contact slurm controller" in err
    assert folders() == {} and not list((tmp_path / "outputs").rglob("submit.json"))
    assert fake_slurm.calls("sbatch") == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--resources", "tme=5"), "RESOURCES: unknown key 'tme'. Did you mean 'time'?"),
        (("--resources", "time"), "RESOURCES: found 'time'; allowed is key=value, for example RESOURCES=\"time="),
        (("--resources", "cpus=2 cpus=3"), "RESOURCES: 'cpus' is given twice"),
        (("--cluster", "testbd"), "CLUSTER=testbd: there is no slurm/testbd.yaml. Did you mean 'testbed'?"),
        (("--seeds", "1,x"), "SEEDS is '1,x'; allowed are whole numbers, such as 1,2,3"),
        (("--seeds", ""), "SEEDS is ''"),
        (
            ("--baseline", "zero-shot"),
            "BASELINE=zero-shot: minilm-lora has head classification, whose baselines are unt",
        ),
        (("--all",), "give MODEL=<job>; make submit-all submits every job"),
    ],
)
def test_mistakes(run_script, fake_slurm, words, folders, more, said):
    code, _, err = run_script("submit", *words, *more)
    assert code == 2 and said in err and err.count("error:") == 1
    assert folders() == {} and fake_slurm.calls("sbatch") == []


def test_mistakes_of_all(run_script, fake_slurm):
    code, _, err = run_script("submit")
    assert code == 2 and "give MODEL=<job>" in err
    code, _, err = run_script("submit", "--all", "--baseline", "tfidf")
    assert code == 2 and "BASELINE= goes with MODEL=" in err
    code, _, err = run_script("submit", "--all", "--jobs", "nothing-*")
    assert code == 2 and "JOBS=nothing-*: no job of that name" in err


def test_a_refusal_is_recorded_and_fails(run_script, fake_slurm, words, folders):
    fake_slurm.set(refuse="Invalid qos specification")
    code, out, _ = run_script("submit", *words)
    assert code == 5 and table(out) == {"seed-1": "refused"} and "Invalid qos specification" in out
    code, out, _ = run_script("status", *words[-4:-2])
    assert code == 0


def test_asking_what_slurm_would_say(run_script, fake_slurm, words, folders, tmp_path):
    code, out, _ = run_script("submit", *words, "--seeds", "1,2", "--dry-run")
    assert code == 0 and "2 of 2 runs would be accepted" in out and "to start at 2026-11-21T12:00:00" in out
    fake_slurm.set(refuse="Requested node configuration is not available")
    code, out, _ = run_script("submit", *words, "--dry-run")
    assert code == 7 and "refused" in out and "Requested node configuration" in out
    assert folders() == {} and fake_slurm.jobs == []


def test_a_card_without_bfloat16_is_refused_before_slurm_is_asked(run_script, fake_slurm, tiny_arguments, folders):
    words = tiny_arguments("precision=bfloat16", "training.epochs=1")
    code, out, _ = run_script("submit", *words, "--dry-run", "--resources", "gpu_type=v100")
    assert code == 7 and "gpu_type v100 has no bfloat16" in out and "precision=float16" in out
    assert folders() == {} and fake_slurm.calls("sbatch") == []
    assert run_script("submit", *words, "--dry-run", "--resources", "gpu_type=a100")[0] == 0


def test_a_baseline(run_script, fake_slurm, words, tiny_arguments, folders):
    of_rows = [word for word in tiny_arguments() if word != "--set" and not word.startswith("model=")]
    for baseline, arguments in (("tfidf", of_rows), ("untuned", words)):
        assert run_script("submit", *arguments, "--baseline", baseline)[0] == 0
    assert sorted(folders()) == ["baseline-tfidf", "baseline-untuned"]
    classical, untuned = (call["text"] for call in fake_slurm.calls("sbatch"))
    assert "scripts/baseline.py" in classical and "--gres" not in classical and "#SBATCH --mem=1024M" in classical
    assert "scripts/baseline.py" in untuned and "#SBATCH --gres=gpu:1" in untuned


@pytest.fixture
def few_jobs(tmp_path, monkeypatch, tiny_model):
    """A folder of jobs of its own: two that can start, one without its rows, one that cannot be read."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    (folder / "_defaults.yaml").write_bytes((catalog.JOBS / "_defaults.yaml").read_bytes())
    own = f'schema: 1\nmodel: "{tiny_model}"\nmethod: {{name: full}}\n'
    (folder / "one.yaml").write_text(own)
    (folder / "swept.yaml").write_text(own + "resources: {time: 7}\nsweep: {training.epochs: [1, 2]}\n")
    (folder / "missing.yaml").write_text(own + "dataset: perspectrum\n")
    (folder / "wrong.yaml").write_text(own + "max_lenght: 3\n")
    monkeypatch.setattr(catalog, "JOBS", folder)


def test_every_job(run_script, fake_slurm, few_jobs, tmp_path):
    words = "--all", "--outputs", str(tmp_path / "outputs"), "--seeds", "1,2"
    code, out, _ = run_script("submit", *words)
    assert code == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in out.split("\n\n")[0].splitlines()[2:]}
    assert rows["wrong"][0] == "left" and "unknown key 'max_lenght'" in out
    assert "perspectrum/missing/seed-1" in rows and "left out" in out
    submitted = [name for name, rest in rows.items() if rest[0] == "submitted"]
    assert submitted == [
        *(f"stance-sample/classical/baseline-{name}" for name in ("majority", "tfidf")),
        *("stance-sample/one/baseline-untuned", "stance-sample/swept/baseline-untuned"),
        *("stance-sample/one/seed-1", "stance-sample/one/seed-2"),
        *(f"stance-sample/swept/training.epochs={epochs}/seed-{seed}" for epochs in (1, 2) for seed in (1, 2)),
        "collect",
    ]
    assert len(fake_slurm.calls("squeue")) == 1
    times = [
        next(line for line in call["text"].splitlines() if "--time" in line) for call in fake_slurm.calls("sbatch")
    ]
    assert times.count("#SBATCH --time=7") == 5
    names = files.read_json(tmp_path / "outputs" / ".collect" / "expected.json")["runs"]
    assert names == submitted[:-1]
    code, out, _ = run_script("submit", *words, "--dry-run")
    # Slurm is asked about what has no rows yet, too.
    assert code == 0 and "left out" in out and f"{len(names) + 5} of {len(names) + 5} runs" in out
    code, out, _ = run_script("submit", "--all", "--jobs", "on* swept", "--outputs", str(tmp_path / "other"))
    assert code == 0 and "left out" not in out


def test_a_dry_run_with_strict_names_the_datasets_that_cannot_be_read(run_script, fake_slurm, few_jobs, tmp_path):
    words = ["--all", "--jobs", "one missing", "--outputs", str(tmp_path / "other")]
    assert run_script("submit", *words, "--dry-run")[0] == 0
    code, out, _ = run_script("submit", *words, "--dry-run", "--strict")
    assert code == 7 and "STRICT: data/perspectrum/train.tsv: there is no such file" in out.replace(f"{ROOT}/", "")
    assert "perspectrum/missing/seed-1: refused" in out and "stance-sample/one/seed-1: refused" not in out


def test_no_torch_and_no_secret(fake_slurm, words, folders, tmp_path):
    """As a person types it, in a process of its own."""
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n    print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "scripts" / "submit.py"), *words],
        env=os.environ | {"HF_TOKEN": "hf_secret", "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.endswith("[]\n"), done.stderr
    assert "hf_secret" not in json.dumps(fake_slurm.calls())
    for file in (tmp_path / "outputs").rglob("*"):
        assert not file.is_file() or "hf_secret" not in file.read_text()


@pytest.mark.slow
def test_this_machine_trains_two_seeds_and_reports(no_slurm, words, folders, tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path), "HF_TOKEN": "hf_secret"}

    def typed(script, *arguments):
        command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG_S)

    outputs = tmp_path / "outputs"
    submit = "submit", "--all", "--jobs", *words[1:], "--cluster", "local", "--seeds", "1,2"
    done = typed(*submit)
    assert done.returncode == 0 and done.stdout.endswith("local: 6 submitted. make status shows their state.\n")
    until(lambda: not list((outputs / ".queue").glob("0*.json")), "the end of the queue", pause_s=0.3)
    assert sorted(folders()) == ["baseline-majority", "baseline-tfidf", "baseline-untuned", "seed-1", "seed-2"]
    for folder in folders().values():
        assert run_folder.is_finished(folder) and submit_record.read(folder).executor == "local"
        assert files.read_json(folder / run_lock.FILE)["released"]
        assert "test (n=12)" in submit_record.newest_log(folder).read_text()
    report = submit_record.newest_log(outputs / ".collect").read_text()
    assert "Results on stance-sample" in report and "± " in report
    said = typed("status", "--outputs", str(outputs)).stdout
    assert "5 finished" in said
    done = typed(*submit)
    assert done.returncode == 0 and "local: 5 finished." in done.stdout
    assert "==> .collect:" in typed("logs", "--outputs", str(outputs)).stdout
    for file in (outputs / ".queue").rglob("*"):
        assert "hf_secret" not in file.read_text()


@pytest.mark.slow
def test_this_machine_goes_on_when_its_user_leaves(no_slurm, tiny_arguments, tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    outputs = tmp_path / "outputs"

    def typed(script, *arguments):
        """Type a command in a session of its own, and end that session."""
        command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        out, _ = process.communicate(timeout=HANG_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGHUP)
        return out

    def status():
        return typed("status", "--outputs", str(outputs))

    for job in ("minilm-lora", "minilm-full"):
        words = tiny_arguments("training.epochs=100", "training.eval_every=100", job=job)
        assert "1 submitted" in typed("submit", *words, "--cluster", "local")
    until(lambda: list(outputs.rglob("train_log.jsonl")), "the first step of training", pause_s=0.3)
    assert status().endswith("2 runs: 1 queued, 1 running\n")
    logs = typed("logs", "--outputs", str(outputs))
    assert "parameters train" in logs and "minilm-full" not in logs
    assert typed("cancel", "--outputs", str(outputs), "--model", "minilm-full").startswith("cancelled local-2 ")
    until(lambda: "running" not in status(), "the end of the run")
    assert status().endswith("2 runs: 1 cancelled, 1 finished\n")
    [finished] = outputs.rglob("metrics.json")
    assert "minilm-lora" in finished.parts
