"""Print the Makefile's help: targets by group, variables with their values, available jobs and datasets.

    make                                              (or: python scripts/make_help.py Makefile)
    python scripts/make_help.py --python-version      fail when this Python is too old

Standard library only: it runs before anything is installed.
"""

import os
import re
import sys
from pathlib import Path

OLDEST = (3, 11)
VARIABLES = {
    "MODEL": "job, jobs/<MODEL>.yaml",
    "DATASET": "data/<DATASET>.yaml instead of the job's own",
    "SEED": "of initialisation and order, default 1",
    "SET": 'overrides, e.g. SET="training.epochs=1 method.r=8"',
    "DATA_DIR": "folder with {train,validation,test}.<format> to read instead of the dataset's source",
    "SPLIT": "train, validation or test (evaluate)",
    "BASELINE": "untuned, zero-shot, majority or tfidf (baseline)",
    "ADAPTER": "folder that peft's save_pretrained wrote (evaluate, predict)",
    "RUN": "run folder, instead of MODEL (predict)",
    "INPUT": "table to label: xlsx, csv, tsv, jsonl, parquet, also .gz; with SHARDS a folder or pattern, too (predict)",
    "OUTPUT": "where the labelled table goes (predict)",
    "TEXT": "one text to label; a pair is 'first || second' (predict)",
    "SHARDS": "divide the rows of INPUT; what was stopped continues (predict)",
    "PROCESSES": "with SHARDS: side by side, default the number of GPUs, or 1 (predict)",
    "FORCE": "1: start over, the old run is kept beside it",
    "CHECK": "1: compare only (report)",
    "HERE": "1: print the tables of your runs, leave the README alone (report)",
    "JSON": "1: machine-readable (bench, check)",
    "MEMORY_GB": "most to take of a GPU's memory, default 14.5 (bench)",
    "NO_DATA": "1: parameters and memory alone, without rows (check)",
    "DRY_RUN": "1: say what would be downloaded, and do nothing (fetch, smoke)",
    "JOBS": 'jobs by pattern, e.g. JOBS="mistral-* llama-*" (submit-all, submit-check)',
    "SEEDS": "1,2,3: a run for each (submit, submit-all)",
    "CLUSTER": "slurm/<CLUSTER>.yaml, local, or auto, the default (submit …)",
    "RESOURCES": 'over profile and job, e.g. RESOURCES="time=02:00:00 partition=long" (submit …)',
    "WATCH": "1: again every 5 seconds (status)",
    "OUTPUTS": "where run folders lie, default outputs",
    "PYTHON": "interpreter that creates .venv, default python3",
}


def main(arguments: list[str]) -> int:
    """Print the help, or check the interpreter's version."""
    if arguments == ["--python-version"]:
        if sys.version_info < OLDEST:
            found = ".".join(map(str, sys.version_info[:2]))
            print(
                f"error: this is Python {found}; peftable needs 3.11 or newer: make PYTHON=python3.12 …",
                file=sys.stderr,
            )
            return 2
        return 0
    makefile = Path(arguments[0])
    print("peftable: fine-tune, compare and use text classifiers. Usage: make TARGET VARIABLE=value …")
    for line in makefile.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            print(f"\n{line[3:]}")
        elif target := re.match(r"([a-z-]+):[^#]*## (.*)", line):
            print(f"  {target[1]:<12} {target[2]}")
    print("\nVariables")
    for name, meaning in VARIABLES.items():
        value = os.environ.get(name)
        print(f"  {name:<10} {meaning}{f'  [{value}]' if value else ''}")
    for title, folder in (("MODEL", "jobs"), ("DATASET", "data")):
        names = sorted(path.stem for path in (makefile.parent / folder).glob("*.yaml") if not path.name.startswith("_"))
        print(f"\nAvailable {title}s: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
