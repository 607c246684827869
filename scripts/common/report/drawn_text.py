"""Texts that plots can show: cut, on one line, and in a font that has their characters."""

import functools
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from common.core.formatting import printable

_FIRST = "DejaVu Sans"  # matplotlib's own
LABEL, GROUP, TITLE = 30, 45, 90  # most characters
_RIGHT_TO_LEFT = ("R", "AL")  # matplotlib neither joins nor turns these letters


def cut(text: object, most: int) -> str:
    """Return a text on one line, with "…" after so many characters."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def choose_fonts(texts: Iterable[object]) -> None:
    """Let matplotlib draw texts in its own font and, for characters that this lacks, in fonts of this machine."""
    missing = {ord(char) for text in texts for char in str(text)} - _characters(_default())
    families = [_FIRST]
    if missing:
        for path, family in _others():
            if found := missing & _characters(path):
                families.append(family)
                missing -= found
            if not missing:
                break
    matplotlib.rcParams["font.family"] = families


def is_drawable(text: str) -> bool:
    """Return whether the chosen fonts have all characters of a text, and its letters run from left to right."""
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        return False
    paths = [_default(), *(path for path, family in _others() if family in matplotlib.rcParams["font.family"])]
    return all(any(ord(char) in _characters(path) for path in paths) for char in text)


def title(text: object) -> str:
    """Return a title as it is drawn: a character that no font has is "?"."""
    return "".join(char if is_drawable(char) else "?" for char in cut(text, TITLE))


def labels(texts: Sequence[object]) -> list[str]:
    """Return labels as they are drawn; one that cannot be drawn is its number among them, "label 3"."""
    return _drawable(texts, LABEL, "label")


def groups(texts: Sequence[object]) -> list[str]:
    """Return groups as they are drawn; one that cannot be drawn is its number among them, "group 3"."""
    return _drawable(texts, GROUP, "group")


def _drawable(texts: Sequence[object], most: int, kind: str) -> list[str]:
    shown = [cut(text, most) for text in texts]
    return [text if is_drawable(text) else f"{kind} {number}" for number, text in enumerate(shown, start=1)]


def explanation(texts: Sequence[object]) -> str:
    """Return a sentence about the numbers in `labels`, "" where there are none."""
    if all(is_drawable(cut(text, LABEL)) for text in texts):
        return ""
    return "label n: the n-th label of the dataset's YAML file; no font here can draw it"


def explanation_of_groups(texts: Sequence[object]) -> str:
    """Return a sentence about the numbers in `groups`, "" where there are none."""
    if all(is_drawable(cut(text, GROUP)) for text in texts):
        return ""
    return "group n: the n-th group of the table; no font here can draw it"


def _default() -> str:
    return font_manager.findfont(_FIRST)


@functools.cache
def _others() -> tuple[tuple[str, str], ...]:
    """Return the path and the family of every other font of this machine, the first of each family."""
    fonts = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist) if Path(font.fname).is_file()}
    return tuple(sorted((path, family) for family, path in fonts.items() if family != _FIRST and "Emoji" not in family))


@functools.cache
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())
