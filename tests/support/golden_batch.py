"""The tasks behind tests/golden/*.sbatch: one a profile of slurm/, by its name, and a few for what no profile shows.

PYTHONPATH=scripts .venv/bin/python tests/support/golden_batch.py     writes the files anew; read the difference
"""

from pathlib import Path

from common.cluster import profiles
from common.cluster.batch_script import batch_text
from common.cluster.task import Task
from common.config.catalog import names
from common.config.resources import Resources

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RUN = Path("/home/peftable/outputs/stance-sample/minilm-lora/seed-1")
CODE = "/home/peftable/outputs/.code/0123456789abcdef/scripts"
HOSTILE = '/home/o\'brien/a "b" $HOME `id`/50% done/naïve 😀 #1'


def task(run: Path = RUN, directory: str = "/home/peftable", **more: object) -> Task:
    """The first submission of a training run."""
    words = ("/home/peftable/.venv/bin/python", "-u", f"{CODE}/train.py", "--run", str(run))
    more = {"command": words, "folder": run / "slurm" / "1", "directory": Path(directory)} | more
    return Task(name="minilm-lora-seed-1-0123abcd", token="peftable-0123456789abcdef", **more)


def slurm_profiles() -> list[str]:
    """The profiles of slurm/ whose jobs have a batch text."""
    return [name for name in names(profiles.PROFILES) if profiles.load(name).executor == "slurm"]


def texts() -> dict[str, str]:
    """Every golden file's content by its name."""
    found = {
        name: batch_text(task(), profiles.for_job(profiles.load(name), None, {}, gpu=True)) for name in slurm_profiles()
    }
    gres = profiles.load("example-gres")
    own = Resources(time=90, gpu_type="h100", mem_gb=1.5, sbatch={"mail-type": False, "exclusive": True, "nice": 10})
    share = ("--shard", "0-63", "--worker", "$SLURM_ARRAY_TASK_ID", "9")
    shards = ("python", "-u", f"{CODE}/predict.py", "--plan", "/home/all.csv.shards", *share)
    return found | {
        "_array": batch_text(task(command=shards, array=(0, 1, 2, 5, 7, 8)), gres),
        "_cpu": batch_text(task(after=("101", "102")), profiles.for_job(gres, None, {}, gpu=False)),
        "_hostile": batch_text(task(Path(HOSTILE), directory=HOSTILE), gres),
        "_resources": batch_text(task(), profiles.for_job(gres, own, {"account": None}, gpu=True)),
    }


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.sbatch"):
        old.unlink()
    for name, text in texts().items():
        (GOLDEN / f"{name}.sbatch").write_text(text, encoding="utf-8")
