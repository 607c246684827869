"""A short run of every job: check, train, evaluate, predict, baseline, and one report at the end.

    make smoke                       (or: python scripts/smoke.py)
    make smoke MODEL=minilm-lora     one job
    make smoke DRY_RUN=1             what the jobs would download, and how much; does nothing

Each job runs with its own YAML, on a tiny random model of its model's family and on a few rows of fake data, so that an
error which would come after hours of waiting for a GPU comes here, in seconds. A sweep runs its first and last variant.
Needs no Hub and no GPU. All files are in outputs/smoke/; they are never published, and the next smoke replaces them.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from common.cli.main import guard
from common.config import catalog
from common.core import errors, yaml_io
from common.core.formatting import duration
from common.smoke import fake_data, run_in_process

OUTPUTS = catalog.ROOT / "outputs" / "smoke"
WORKERS = 2


def commands(name: str) -> list[list[str]]:
    """Make a job's tiny model and fake data, and return the commands to run: script name and arguments."""
    from common.smoke import tiny_models

    job, _ = catalog.load_job(name)
    dataset = catalog.load_dataset(job.dataset)
    made = OUTPUTS / ".made" / name  # a dot: no run lies there
    model = tiny_models.make_tiny_model(job.model, made / "model")
    rows = fake_data.write_rows(dataset, made / "rows")
    settings = [f"model={json.dumps(str(model))}", *fake_data.overrides(job)]
    place = ["--outputs", str(OUTPUTS)]
    rest = [*place, "--data-dir", str(rows)]
    found = [["check", "--model", name, "--set", *settings, *rest]]  # of a sweep, every variant
    for number, variant in enumerate(ends_of_sweep(name)):
        run, output = ["--model", name, "--set", *settings, *variant], made / f"predicted-{number}.csv"
        found.append(["train", *run, *rest])
        found.append(["evaluate", *run, *rest, "--split", "validation"])
        found.append(["predict", *run, *place, "--input", str(rows / "test.jsonl"), "--output", str(output)])
    return [*found, ["baseline", "--model", name, "--set", *settings, *rest]]


def ends_of_sweep(name: str) -> list[list[str]]:
    """Return the settings of a sweep's first and last variant, in the form of --set; [[]] for a job without one."""
    entries = catalog.load_sweep(name) or [{}]
    ends = entries if len(entries) < 3 else [entries[0], entries[-1]]
    return [[yaml_io.override_word(key, value) for key, value in entry.items()] for entry in ends]


def run_job(name: str) -> run_in_process.Outcome:
    """Run all commands of one job in this process, and return the outcome."""
    return run_in_process.run(name, lambda: commands(name))


def outcomes(names: list[str]) -> Iterator[run_in_process.Outcome]:
    """Run the jobs, several at a time, and yield their outcomes in order."""
    if WORKERS == 1 or len(names) == 1:
        yield from map(run_job, names)
        return
    pool = ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(run_job, names)
    except BrokenProcessPool:
        raise errors.RunError("a job ended its process, perhaps for want of memory: make smoke MODEL=<job>") from None
    finally:
        pool.shutdown(cancel_futures=True)


def dry_run(names: list[str]) -> int:
    """Print what the jobs would download, and return the exit code; a job with an error does not stop the others."""
    from common.smoke import download_sizes

    sizes, code = {}, 0
    for name in names:
        print(name)
        try:
            job, _ = catalog.load_job(name)
            rows = download_sizes.describe_rows(catalog.load_dataset(job.dataset))
        except errors.PeftableError as error:
            print(f"  error: {error}")
            code = error.exit_code
            continue
        model = download_sizes.model_download(job)
        sizes[model.about] = model.size_bytes
        print(f"  model  {model.about}\n  rows   {job.dataset}: {rows}")
    print(f"\n{sum(sizes.values()) / 1e9:.1f} GB of weights in all, each model once, without those in the Hub's cache")
    print("make fetch downloads them, and with DRY_RUN=1 asks the Hub for the exact size")
    return code


def main(argv: list[str] | None = None) -> int:
    """Run the jobs; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", metavar="NAME", help="one job, jobs/<NAME>.yaml, instead of all")
    parser.add_argument("--dry-run", action="store_true", help="say what would be downloaded, and do nothing")
    arguments = parser.parse_args(argv)
    names = [arguments.model] if arguments.model else catalog.names(catalog.JOBS)
    if arguments.model:
        catalog.load_job(arguments.model)  # a wrong name stops here
    if arguments.dry_run:
        return dry_run(names)
    # Before torch and the hub's library are imported: one thread a process, and no network.
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    shutil.rmtree(OUTPUTS, ignore_errors=True)
    start, failed, width = time.monotonic(), 0, max(map(len, names))
    for outcome in outcomes(names):
        failed += bool(outcome.failed)
        print(f"{outcome.name:<{width}}  {outcome}", flush=True)
    if failed < len(names):
        report = run_in_process.run("report", lambda: [["collect", "--here", "--outputs", str(OUTPUTS)]])
        print(f"{report.name:<{width}}  {report}")
        failed += bool(report.failed)
    verdict = f"{failed} failed" if failed else "all is well"
    print(f"{len(names)} {'job' if len(names) == 1 else 'jobs'} in {duration(time.monotonic() - start)}: {verdict}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(guard(main))
