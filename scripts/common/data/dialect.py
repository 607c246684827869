"""Find how the cells of a csv, tsv or txt file are written: separator, quotes, escapes.

The ending says the separator, and quotes enclose cells; another dialect is used only where the beginning of the file
cannot be read so, and can be read with exactly one other separator.

The library clevercsv (0.8.5) is not used, because it proposes one dialect without a sign of doubt: of 400 files that
two separators read, it chose one for 324; of 100 files with ";" and 3 or 5 commas in each text, it chose the comma for
36; and for an address of 20,000 characters in a text, 49 CPU seconds were not enough. Of 1,500 files of known rows it
would have read none that this module refuses.
"""

import csv
import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common.config.dataset import ReadOptions
from common.core.errors import choices
from common.data.notes import say_once

_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {"\t": "a tab", " ": "a space"}
_BREAK = re.compile(r"\r\n|\r|\n")
_LINES = "\x1f"  # between cells, where each line is one cell
ONE_COLUMN = '; where each line is one text, a separator that occurs in no text, such as "\\t"'
HINT = "set `separator:`, `quoting:` or `skip_rows:` below `source:` in the dataset YAML"


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How cells are written.

    Attributes:
        separator: between two cells.
        quoting: whether "…" encloses a cell, which may then contain separators and line breaks.
        backslash: whether a quote within such a cell is written \\" instead of "".
        proof: what shows that quotes enclose cells: "stated" by the YAML or by a header in quotes, "seen" in a row
            that is a row only with them, or "".
    """

    separator: str
    quoting: bool = True
    backslash: bool = False
    proof: str = ""

    def records(self, lines: Iterable[str]) -> Any:
        """Return the records of a file's lines; a record that breaks the rules raises a `csv.Error`."""
        if not self.quoting:
            return csv.reader(lines, delimiter=self.separator, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(_unescaped(lines) if self.backslash else lines, delimiter=self.separator, strict=True)


def find_dialect(path: Path, sample: str, is_whole: bool, default: str | None, options: ReadOptions) -> Dialect:
    """Return the dialect of a file; one that its ending does not say is printed as a note.

    Args:
        path: the file, for the note.
        sample: its beginning, without the lines before the header; ends at the end of a line.
        is_whole: whether the sample is the whole file.
        default: the separator that the ending says.
        options: what the dataset YAML says.

    Raises:
        ValueError: several dialects fit, or none, and the ending says no separator.
    """
    given = options.separator or default
    quoting = True if options.quoting is None else options.quoting
    names = options.header
    usual = Dialect(given, quoting) if given else None
    columns = 0
    if usual:
        columns = _columns(sample, is_whole, usual, names)
        in_quotes = quoting and not names and _has_quoted_header(sample, usual)
        if columns > 1 or (columns == 1 and (options.separator or in_quotes)):
            return _with_proof(usual, sample, is_whole, options, in_quotes)
    separators = (options.separator,) if options.separator else _SEPARATORS
    ways = _ways(sample, quoting, options.quoting is None)
    tried = [dataclasses.replace(way, separator=separator) for way in ways for separator in separators]
    fitting = [dialect for dialect in tried if _is_proven(sample, is_whole, dialect, options)]
    found = dict.fromkeys(dialect.separator for dialect in fitting)
    if len(found) > 1:
        shown = choices(map(_shown, found))
        raise ValueError(f"its cells may be separated by {shown}; set `separator:` below `source:` in the dataset YAML")
    if fitting:
        first = fitting[0]
        return _said(path, first if first.backslash else _with_proof(first, sample, is_whole, options, False))
    if not columns and not options.separator and _is_one_column(sample, names):
        return _said(path, Dialect(_LINES, quoting=False))
    if usual is None:
        raise ValueError(f"it is not clear what separates its cells; {HINT}{ONE_COLUMN}")
    return _with_proof(usual, sample, is_whole, options, False)  # whose reader names the row that is wrong


def _ways(sample: str, quoting: bool, may_change: bool) -> list[Dialect]:
    """Return the ways in which quotes may be meant, the usual one first, still without a separator."""
    ways = [Dialect("", quoting)]
    if quoting and '\\"' in sample:
        ways.append(Dialect("", backslash=True, proof="seen"))
    if may_change and '"' in sample:
        ways.append(Dialect("", quoting=False))
    return ways


def _is_proven(sample: str, is_whole: bool, dialect: Dialect, options: ReadOptions) -> bool:
    """Return whether every record has the same number of cells, more than one, and no quote has another meaning."""
    if _columns(sample, is_whole, dialect, options.header) < 2:
        return False
    if dialect.quoting or options.quoting is not None or '"' not in sample:
        return True
    # A quote that is never closed may also mean that the end of the file is missing.
    _, is_open = _fit(sample, is_whole, dataclasses.replace(dialect, quoting=True), options.header)
    return not is_open and not _has_quoted_cell(sample, dialect)


def holds_rows(record: Sequence[str], dialect: Dialect) -> bool:
    """Return whether a record of several lines looks like several rows that a stray quote has joined.

    Every line then has as many cells as the record. Text may have them by chance, but seldom with no space after a
    separator and no cell empty that the record fills; so that alone counts where quotes are known to enclose cells.
    """
    separator, width = dialect.separator, len(record)
    text = separator.join(record).replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if dialect.proof != "seen":
        return all(line.count(separator) == width - 1 for line in lines)
    if width == 1 or (len(lines) < 4 and lines[0].count(separator) != width - 1):
        return False  # as for most records: the rest takes longer

    def is_row(line: str) -> bool:
        cells = line.split(separator) if line.count(separator) == width - 1 else []
        return len(cells) == width and (
            separator == "\t"
            or not any(cell[:1].isspace() or (not cell and filled) for cell, filled in zip(cells, record, strict=True))
        )

    if len(lines) < 4:
        return all(is_row(line) for line in lines)

    def are_most(rows: list[bool]) -> bool:
        inner = rows[1:-1]
        return sum(inner) > len(inner) / 2 or sum(rows) > len(rows) / 2

    # Counting separators is enough for most records.
    return are_most([line.count(separator) == width - 1 for line in lines]) and are_most([*map(is_row, lines)])


def _fit(sample: str, is_whole: bool, dialect: Dialect, names: Sequence[str] | None) -> tuple[int, bool]:
    """Return the number of columns of a sample, and whether a quote is never closed.

    The number is 0 where a record has another number of cells, or breaks the rules.
    """
    width = len(names or ())
    try:
        for record in dialect.records(_lines(sample)):
            width = width or len(record)
            if record and len(record) != width:
                return 0, False
    except csv.Error as error:
        is_open = "unexpected end" in str(error)
        return (0 if is_whole or not is_open else width), is_open and is_whole
    return width, False


def _columns(sample: str, is_whole: bool, dialect: Dialect, names: Sequence[str] | None) -> int:
    return _fit(sample, is_whole, dialect, names)[0]


def _lines(sample: str) -> Iterator[str]:
    """Iterate over the lines of a text as a file opened with `newline=""` does."""
    start = 0
    for found in _BREAK.finditer(sample):
        yield sample[start : found.end()]
        start = found.end()
    if start < len(sample):
        yield sample[start:]


def _with_proof(dialect: Dialect, sample: str, is_whole: bool, options: ReadOptions, in_quotes: bool) -> Dialect:
    if not dialect.quoting or options.quoting or in_quotes:
        return dataclasses.replace(dialect, proof="stated")
    unquoted = dataclasses.replace(dialect, quoting=False)
    seen = '"' in sample and not _columns(sample, is_whole, unquoted, options.header)
    return dataclasses.replace(dialect, proof="seen" if seen else "")


def _is_one_column(sample: str, names: Sequence[str] | None) -> bool:
    """Return whether each line is one cell: the header holds no separator, and the lines do not agree in any number."""
    lines = [line for line in _BREAK.split(sample) if line.strip()]
    header = list(names) if names else lines[:1]
    texts = lines if names else lines[1:]
    if len(header) != 1 or any(sign in header[0] for sign in (*_SEPARATORS, '"')) or _LINES in sample:
        return False
    if not texts or any(text.startswith('"') or text.count('"') % 2 for text in texts):
        return False  # quotes may enclose cells
    counts = ({text.count(separator) for text in texts} for separator in _SEPARATORS)
    return all(len(found) > 1 or found == {0} for found in counts)


def _has_quoted_header(sample: str, dialect: Dialect) -> bool:
    try:
        names: list[str] = next(dialect.records(_lines(sample)), [])
    except csv.Error:
        return False
    quoted = ('"' + name.replace('"', '""') + '"' for name in names)
    return bool(names) and sample.startswith(dialect.separator.join(quoted))


def _has_quoted_cell(sample: str, dialect: Dialect) -> bool:
    mark, separator = '"', re.escape(dialect.separator)
    return re.search(f"(?:^|{separator}){mark}[^{separator}\r\n]*{mark}(?={separator}|\r|$)", sample, re.M) is not None


def _unescaped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield re.sub(r'\\(["\\])', lambda found: '""' if found[1] == '"' else "\\", line) if "\\" in line else line


def _said(path: Path, dialect: Dialect) -> Dialect:
    if dialect.separator == _LINES:
        say_once(f"{path}: each line is one cell, of its only column (`source.separator` changes this)")
        return dialect
    parts = [f"cells are separated by {_shown(dialect.separator)}"]
    parts += [] if dialect.quoting else ['" is read as a part of the text (`source.quoting` changes this)']
    parts += ['a quote within quotes is written \\"'] if dialect.backslash else []
    say_once(f"{path}: {', and '.join(parts)}")
    return dialect


def _shown(separator: str) -> str:
    return _NAMES.get(separator, f"'{separator}'")
