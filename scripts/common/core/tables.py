"""Tables as text: aligned columns for a terminal, Markdown for the README."""

from collections.abc import Sequence

Row = Sequence[str]


def _widths(header: Row, rows: Sequence[Row]) -> list[int]:
    return [max(len(str(cell)) for cell in column) for column in zip(header, *rows, strict=True)]


def text_table(header: Row, rows: Sequence[Row]) -> str:
    """Return an aligned table for a terminal; columns after the first are right-aligned."""
    widths = _widths(header, rows)

    def line(row: Row) -> str:
        cells = [str(row[0]).ljust(widths[0])]
        cells += [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), "  ".join("─" * width for width in widths), *map(line, rows)])


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """Return a GitHub Markdown table; columns after the first are right-aligned, pipes escaped."""

    def line(row: Row) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"

    rule = "| " + " | ".join(["---"] + ["---:"] * (len(header) - 1)) + " |"
    return "\n".join([line(header), rule, *map(line, rows)])
