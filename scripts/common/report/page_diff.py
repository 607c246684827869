"""Replace the generated part of a page, and name the first cell in which a page differs from the metrics.

The generated part of README.md is between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
"""

import re
from pathlib import Path

from common.core.errors import ReportError


def marked(text: str, name: str, page: Path) -> str:
    """Return the text between the two markers of a block.

    Raises:
        ReportError: a marker is missing, repeated or out of order.
    """
    start, stop = _span(text, name, page)
    return text[start:stop]


def insert(text: str, name: str, content: str, page: Path) -> str:
    """Return a page's text with the block between the markers replaced.

    Raises:
        ReportError: a marker is missing, repeated or out of order.
    """
    start, stop = _span(text, name, page)
    return f"{text[:start]}\n{content}\n{text[stop:]}"


def compare(found: str, wanted: str, page: Path) -> None:
    """Compare the generated text of a page with what the published metrics give.

    Args:
        found: the text in the page.
        wanted: the text that the metrics give.
        page: the file, for the message.

    Raises:
        ReportError: they differ; the message names section, row and column of the first difference.
    """
    old_lines, new_lines = found.strip().splitlines(), wanted.strip().splitlines()
    headings, header, before = ["", ""], [""], ""
    for number, (old, new) in enumerate(zip(old_lines, new_lines, strict=False), start=1):
        if new.startswith("## "):
            headings = [new[3:], ""]
        elif new.startswith("### "):
            headings[1] = new[4:]
        if new.startswith("|") and not before.startswith("|"):
            header = _cells(new)
        before = new
        if old != new:
            place = ": ".join(part for part in headings if part)
            where = f"{page}, section '{place}'" if place else f"{page}"
            problem = _cell_difference(header, old, new) or f"line {number}: found '{old}', should be '{new}'"
            raise ReportError(f"{where}, {problem}. Run: make report")
    if len(old_lines) != len(new_lines):
        raise ReportError(f"{page}: {len(old_lines)} generated lines, should be {len(new_lines)}. Run: make report")


def _cell_difference(header: list[str], old: str, new: str) -> str:
    """Name the first cell in which two rows of a table differ; "" where they are no rows."""
    if not (old.startswith("|") and new.startswith("|")) or new.startswith("| ---"):
        return ""
    for column, (was, should) in enumerate(zip(_cells(old), _cells(new), strict=False)):
        if was != should:
            title = header[column] if column < len(header) else str(column + 1)
            # The columns before the number of seeds name a row; without that column the first one does.
            row = ", ".join(_cells(new)[: header.index("seeds") if "seeds" in header else 1])
            return f"row '{row}', column '{title}': found '{was}', the published metrics give '{should}'"
    return ""


def _span(text: str, name: str, page: Path) -> tuple[int, int]:
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    for marker in (begin, end):
        if text.count(marker) != 1:
            raise ReportError(f"{page}: the marker {marker} occurs {text.count(marker)} times; it must occur once.")
    start, stop = text.index(begin) + len(begin), text.index(end)
    if start > stop:
        raise ReportError(f"{page}: {end} comes before {begin}.")
    return start, stop


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
