"""Write tables as LaTeX for the package booktabs."""

import re
import unicodedata
from collections.abc import Sequence

from common.core.formatting import printable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",  # \textquotedbl needs another font encoding
    **{character: f"\\{character}" for character in "{}$&#%_"},
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "≈": r"$\approx$",
    "×": r"$\times$",
    "…": r"\ldots{}",
    "\n": " ",
    "\t": " ",
}
# A wide table is scaled to the line where the document loads graphicx.
_FIT = (
    r"\providecommand{\fittable}[1]{\ifdefined\resizebox"
    r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{#1}\else#1\fi}"
)
_PATTERN = re.compile("|".join(map(re.escape, _SPECIAL)))
# What pdflatex prints without further packages: ASCII, letters with these accents, and some others.
_ACCENTS = {chr(code) for code in (0x300, 0x301, 0x302, 0x303, 0x304, 0x306, 0x307, 0x308, 0x30A, 0x30B, 0x30C, 0x327)}
_LETTERS = set("ßæœøłıÆŒØŁ¡¿§©‘’“”")


def table(name: str, caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    r"""Return a table environment that compiles in a document with `\usepackage{booktabs}`.

    Args:
        name: of its label, `tab:<name>`.
        caption: as text.
        header: its cells.
        rows: their cells.
        left: number of columns that are aligned to the left; the others are aligned to the right.
    """
    columns = "l" * left + "r" * (len(header) - left)
    return "\n".join(
        [
            _FIT,
            r"\begin{table}",
            r"\centering\footnotesize",
            rf"\caption{{{escaped(caption)}}}",
            rf"\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', name)}}}",
            rf"\fittable{{\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _line(header),
            r"\midrule",
            *map(_line, rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it; control characters are shown as escapes."""
    return _PATTERN.sub(lambda found: _SPECIAL[found[0]], printable(str(text)))


def unknown_characters(text: str) -> str:
    """Return the characters of a LaTeX text that pdflatex cannot print, each once; lualatex and xelatex can."""
    return "".join(dict.fromkeys(character for character in text if not _is_known(character)))


def _line(cells: Sequence[str]) -> str:
    # After `\\` of the line before, "[" and "*" would be its argument.
    return f"{{}}{' & '.join(map(escaped, cells))} \\\\"


def _is_known(character: str) -> bool:
    if character.isascii() or character in _LETTERS:
        return True
    letter, *accents = list(unicodedata.normalize("NFD", character))
    return letter.isascii() and letter.isalpha() and len(accents) == 1 and accents[0] in _ACCENTS
