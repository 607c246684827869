"""Check that this folder is complete and labels texts as the trained model did.

    python check.py                          # SHA-256 of every file, then the scores of the sentences in probes.json
    python check.py --rows test.jsonl        # also the test rows: one JSON object with the texts on each line
    python check.py --base <folder>          # where the base model is, if it is not on the Hugging Face Hub

It needs transformers and peft (of an ONNX folder: onnxruntime and tokenizers) and nothing else. Exit code 1: the folder
does not pass, and the last line says why.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # python -I leaves it out
sys.dont_write_bytecode = True  # compiled files would name this machine's folders

from classifier import Classifier  # noqa: E402
from encoding import Refused, read  # noqa: E402

SUMS = "SHA256SUMS"


def main() -> int:
    """Run the checks, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="the folder of the base model")
    parser.add_argument("--rows", type=Path, help="the test rows as JSON lines, with the columns of the texts")
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    arguments = parser.parse_args()
    try:
        print(f"files: {check_files(HERE)} as {SUMS} says")
        classifier = Classifier(HERE, arguments.base)
        probes = read(HERE / "probes.json")
        print("probes: " + compare(classifier, [(probe["texts"], probe["scores"]) for probe in probes]))
        rows = expected_rows(classifier, arguments.rows) if arguments.rows else []
        start = time.perf_counter()
        if rows:
            print("rows: " + compare(classifier, rows))
        found = {"rows_per_s": round(len(rows) / (time.perf_counter() - start), 1) if rows else None}
        found["one_text_s"] = round(one_text_seconds(classifier, probes[0]["texts"]), 4)
        print(f"speed: one text in {found['one_text_s']} s, {found['rows_per_s'] or 'not measured'} rows/s")
        if arguments.json:
            arguments.json.write_text(json.dumps(found), encoding="utf-8")
    except Refused as refused:
        print(f"refused: {refused}")
        return 1
    return 0


def check_files(folder: Path) -> int:
    """Return the number of files, after a check that they are those of SHA256SUMS and unchanged."""
    if not (folder / SUMS).is_file():
        raise Refused(f"{SUMS} is missing")
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    sums = {name: value for value, name in (line.split("  ", 1) for line in lines)}
    for name, value in sums.items():
        if not (folder / name).is_file():
            raise Refused(f"{name} is missing")
        with (folder / name).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != value:
                raise Refused(f"{name} has changed since the export: its SHA-256 is another than {SUMS} says")
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))
        if file.is_file() and not hidden and name != SUMS and name not in sums:
            raise Refused(f"{name} is not in {SUMS}: it has been added since the export")
    return len(sums)


def expected_rows(classifier: Classifier, file: Path) -> list[tuple[list[str], list[float]]]:
    """Return the test rows of a file with the scores that expected.jsonl has for them, found by a hash of the texts."""
    lines = (HERE / "expected.jsonl").read_text(encoding="utf-8").splitlines()
    scores = {entry["texts_sha256"]: entry["scores"] for entry in map(json.loads, lines)}
    found: dict[str, tuple[list[str], list[float]]] = {}
    # No splitlines(): JSON allows U+2028 inside a string.
    for line in file.read_bytes().split(b"\n"):
        if line.strip():
            row = json.loads(line)
            texts = [str(row[name]) for name in classifier.texts]
            if (key := texts_hash(texts)) in scores:
                found[key] = (texts, scores[key])
    if len(found) < len(scores):
        raise Refused(f"{file}: {len(scores) - len(found)} of the {len(scores)} test rows are not in it")
    return list(found.values())


def texts_hash(texts: list[str]) -> str:
    """Return the SHA-256 of a row's texts."""
    return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).hexdigest()


def one_text_seconds(classifier: Classifier, texts: list[str]) -> float:
    """Return the median time of labelling one row."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        classifier.label(*texts)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(classifier: Classifier, expected: list[tuple[list[str], Any]]) -> str:
    """Return how close the scores are to the expected ones; refuse other labels or larger differences."""
    found = classifier.scores([texts for texts, _ in expected])
    tolerance = float(classifier.about["tolerance"])
    largest, other = 0.0, 0
    for scores, (_, wanted) in zip(found.tolist(), expected, strict=True):
        difference = max(abs(one - two) for one, two in zip(scores, wanted, strict=True))
        largest = max(largest, difference if difference == difference else float("inf"))  # of NaN
        label = max(range(len(wanted)), key=lambda index: wanted[index])
        other += max(scores) - scores[label] > 2 * tolerance  # closer ones are equal up to rounding
    text = f"{len(expected)}, {other} with another label, largest difference of a log probability {largest:.1e}"
    if other or largest > tolerance:
        raise Refused(f"{text}; allowed is {tolerance:.0e}")
    return text


if __name__ == "__main__":
    sys.exit(main())
