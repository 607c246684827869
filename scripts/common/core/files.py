"""Write files and folders atomically, read and write JSON, hash content, and fence folders against old writers.

A reader never sees a half-written file: content is written under a temporary name in the same folder, flushed to disk
and then renamed with rename(2), which POSIX makes atomic. Inside a fenced folder a check runs before every change, so
that a process which another process has superseded changes nothing. A full disk gives a `DiskFull` error, a read-only
one `NotWritable`.
"""

import contextlib
import datetime
import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from common.core import signals
from common.core.errors import DiskFull, NotWritable

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_fences: dict[Path, tuple[Callable[[], None], str]] = {}  # {folder: (check, mark in our temporary names)}


# --- fences ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fenced(folder: Path, check: Callable[[], None], mark: str) -> Iterator[None]:
    """Call `check` before every change below `folder`, while the context lasts.

    Args:
        folder: the folder to fence.
        check: raises when this process must not write there any more; it must be fast (microseconds).
        mark: part of our temporary names there, by which another writer recognises them (`remove_leftovers`).
    """
    key = folder.absolute()
    _fences[key] = (check, mark)
    try:
        yield
    finally:
        del _fences[key]


def check_fences(path: Path) -> None:
    """Run the checks of all fences around `path`; raises what they raise."""
    place = path.absolute()
    for folder, (check, _) in list(_fences.items()):
        if place.is_relative_to(folder):
            check()


def remove_leftovers(folder: Path, marks: str) -> None:
    """Remove temporary files and folders of earlier fenced writers, in a folder and its subfolders (one level).

    Args:
        folder: the folder.
        marks: the beginning of the writers' marks.
    """
    for pattern in (f".*.{marks}*.partial*", f"*/.*.{marks}*.partial*"):
        for path in folder.glob(pattern):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    check_fences(path)
    with write_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it exists."""
    with write_errors(path):
        path.mkdir(parents=True, exist_ok=True)


# --- writing ---------------------------------------------------------------------------------------------------------


def fsync(path: Path) -> None:
    """Flush a file's or a folder's content to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(path: Path, end: str) -> Path:
    """Return a temporary name beside `path` that no other process uses, on this host or another."""
    place = path.absolute()
    marks = [f"{mark}." for folder, (_, mark) in _fences.items() if place.is_relative_to(folder)]
    writer = f"{''.join(marks[:1])}{socket.gethostname()}-{os.getpid()}"
    return path.with_name(f".{path.stem if end else path.name}.{writer}.partial{end}")


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn exceptions that mean "no space is left" or "not allowed" into our errors; let all others pass.

    Raises:
        DiskFull: no space is left, or the quota is used up.
        NotWritable: the file system is read-only, or the user has no permission.
        Superseded: another writer has taken over (and may have removed the file that was being written).
    """
    try:
        yield
    except Exception as error:
        check_fences(path)
        if isinstance(error, NotWritable):  # about a file inside the folder that is being written
            raise
        number = _number(error)
        if number in READ_ONLY:
            raise not_writable(path, number) from error
        if number not in NO_SPACE:
            raise
        reason = "the disk quota is used up" if number == errno.EDQUOT else "no space is left"
        with contextlib.suppress(OSError):
            reason += f"; {shutil.disk_usage(path.parent).free / 1e6:,.1f} MB are free on that file system"
        raise DiskFull(
            f"{path} could not be written: {reason}. Files written before are complete, earlier checkpoints included. "
            "Free some space, then type the same command again: it resumes."
        ) from error


def not_writable(path: Path, number: int) -> NotWritable:
    """Return the error that a path could not be changed, for a number of `READ_ONLY`."""
    reason = "its file system is read-only" if number == errno.EROFS else "you have no permission to write there"
    return NotWritable(
        f"{path} could not be written: {reason}. Choose another folder (OUTPUTS=, OUTPUT=), or change that."
    )


def _number(error: BaseException | None) -> int | None:
    """Return the error number of an exception, None where it has none."""
    if isinstance(error, DiskFull):  # about a file inside the folder that is being written
        return _number(error.__cause__) or errno.ENOSPC
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors, tokenizers
        return int(found[1])
    # PyTorch's zip writer gives no reason. The folder exists, so a failed write means missing space.
    return errno.ENOSPC if isinstance(error, RuntimeError) and "inline_container.cc" in str(error) else None


@contextlib.contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write; on success it becomes `path`, on failure it is removed.

    Args:
        path: the final name.
        durable: flush to disk before renaming; without it, a crash of the machine may leave the file empty.
    """
    # The suffix stays last: some writers choose the format by it.
    partial = _partial(path, path.suffix)
    try:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            if durable:
                fsync(partial)
            check_fences(path)
            partial.replace(path)
            if durable:
                fsync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it becomes `path`, replacing an older one."""
    partial = _partial(path, "")
    try:
        with write_errors(path):
            shutil.rmtree(partial, ignore_errors=True)
            check_fences(path)
            partial.mkdir(parents=True)
            yield partial
            for file in partial.rglob("*"):
                fsync(file)
            fsync(partial)
            check_fences(path)
            if path.exists():
                # rename(2) cannot replace a folder that is not empty, so the old one is renamed first.
                old = partial.with_name(partial.name.replace(".partial", ".old.partial"))
                shutil.rmtree(old, ignore_errors=True)
                with signals.deferred():  # between the two there is no folder of that name
                    path.rename(old)
                    partial.rename(path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                partial.rename(path)
            fsync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write UTF-8 text atomically; `durable` as in `atomic_path`."""
    with atomic_path(path, durable) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write indented JSON atomically; NaN raises `ValueError` (unmeasured is null); `durable` as in `atomic_path`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", durable)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: the content is not JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one compact JSON object per line, atomically."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON-lines file, without lines that are no JSON objects.

    A killed process leaves an incomplete line, a damaged disk any line.
    """
    records = []
    # Bytes: the incomplete line may end inside a character. No splitlines(): JSON allows U+2028 inside a string.
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a JSON-lines file."""
    check_fences(path)
    with write_errors(path), path.open("a+b") as stream:
        # After an incomplete line, begin a new one; otherwise both records would be lost.
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write((json.dumps(record, ensure_ascii=False) + "\n").encode())


def sha256(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; the file is read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def utc_now() -> str:
    """Return the current UTC time, such as "2026-11-21T03:12:00Z"."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
