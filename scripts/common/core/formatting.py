"""Format numbers, durations, sizes and tables for people, and compute mean and standard deviation."""

import re
import statistics
from collections.abc import Iterable, Sequence


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (divisor n - 1); the deviation of one value is None."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def percent(values: Sequence[float]) -> str:
    """Return fractions as percent: "66.9" for one value, "66.9 ± 0.8" for several, "–" for none."""
    if not values:
        return "–"
    mean, deviation = mean_sd(values)
    return f"{100 * mean:.1f}" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def percent_range(low: float, high: float) -> str:
    """Return the two ends of an interval as percent: "[63.1, 75.1]"."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]".replace("-0.0", "0.0")


def p_value(p: float) -> str:
    """Return a p value: "0.143", "0.0010", "< 0.0001"."""
    return "< 0.0001" if p < 0.00005 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def decimal(values: Sequence[float]) -> str:
    """Return numbers with three decimal places: "0.412" for one value, "0.412 ± 0.008" for several, "–" for none."""
    if not values:
        return "–"
    mean, deviation = mean_sd(values)
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


def count(value: float | None) -> str:
    """Return a count with thousands separators, "–" when unmeasured."""
    return "–" if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Return seconds as "42 s", "3 min 05 s" or "2 h 07 min", "–" when unmeasured."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count_bytes: float | None) -> str:
    """Return bytes as "1.3 GB" or "640 MB" (powers of ten), "–" when unmeasured."""
    if count_bytes is None:
        return "–"
    return f"{count_bytes / 1e9:.1f} GB" if count_bytes >= 1e9 else f"{count_bytes / 1e6:.0f} MB"


def ranges(numbers: Sequence[int]) -> list[str]:
    """Return ascending numbers as ranges: 0, 1, 2, 5 as ["0-2", "5"]."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]


TableRow = Sequence[str]
_CELL = 300  # most characters of a cell on a terminal; the path of a run has fewer
_MARKDOWN = 300  # and of a text on a page
_SENTENCE = 3_000  # and of a sentence there, which may name many models


def _widths(header: TableRow, rows: Sequence[TableRow]) -> list[int]:
    return [max(len(str(cell)) for cell in column) for column in zip(header, *rows, strict=True)]


def _cell(text: object) -> str:
    """Return a cell of a table on a terminal: one line, without characters that a terminal obeys, and not too long."""
    line = one_line(str(text))
    return line if len(line) <= _CELL else line[: _CELL - 1] + "…"


def text_table(header: TableRow, rows: Sequence[TableRow]) -> str:
    """Return an aligned table for a terminal; columns after the first are right-aligned.

    Control characters and line breaks of cells are shown as escapes, and long cells are cut.
    """
    header, *rows = [[_cell(cell) for cell in row] for row in (header, *rows)]
    widths = _widths(header, rows)

    def line(row: TableRow) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), "  ".join("─" * width for width in widths), *map(line, rows)])


def markdown_text(text: object, most: int = _MARKDOWN) -> str:
    """Return a text with its Markdown and HTML characters as entities, so that GitHub shows it as typed.

    "a_b" stays, and "$5 | *" becomes "&#36;5 &#124; &#42;". `html.unescape` gives the text back, if it has at
    most `most` characters.
    """
    shown = str(text) if len(str(text)) <= most else str(text)[: most - 1] + "…"
    return re.sub(
        r"[\\`*\[\]<>|$~&\x00-\x1f\x7f]|(?<![^\W_])_|_(?![^\W_])|^ | (?= )| $", lambda m: f"&#{ord(m[0])};", shown
    )


def markdown_list(sentences: Iterable[str]) -> str:
    """Return a Markdown list, escaped."""
    return "\n".join(f"- {markdown_text(sentence, _SENTENCE)}" for sentence in sentences)


def markdown_table(header: TableRow, rows: Sequence[TableRow], left: int = 1) -> str:
    """Return a GitHub Markdown table with escaped pipes; the columns after the first `left` are right-aligned."""

    def line(row: TableRow) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"

    rule = "| " + " | ".join(["---"] * left + ["---:"] * (len(header) - left)) + " |"
    return "\n".join([line(header), rule, *map(line, rows)])


# Control characters but line break and tab, and those that turn the direction of writing: a terminal obeys them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text with its control characters shown as escapes: "\\x1b"; line breaks and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return a text as `printable` does, with its line breaks and tabs as escapes, too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def printable_json(text: str) -> str:
    """Return a JSON text with the control characters inside its strings as JSON's escapes; its own line breaks stay."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shortened(text: str, limit: int) -> str:
    """Return a text, or its beginning and its length where it has more characters than `limit`."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
