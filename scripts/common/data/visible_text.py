"""Show a text in a message so that two different texts look different: odd characters appear by their code point."""

import codecs
import difflib
import unicodedata
from collections.abc import Iterable

_MOST = 60  # characters of a value that a message shows
# Letters of other scripts, and signs, that look like Latin ones, by the Latin letter; in lower case after `casefold`.
_LOOK_ALIKES = {
    **{"a": "аα", "b": "ь", "c": "сϲ", "d": "ԁ", "e": "е", "h": "һ", "i": "іι", "j": "ј", "k": "кκ", "l": "ӏ"},
    **{"m": "м", "n": "п", "o": "оοо", "p": "рρ", "q": "ԛ", "r": "г", "s": "ѕ", "t": "тτ", "u": "υ", "v": "ѵν"},
    **{"w": "ԝ", "x": "хχ", "y": "уүγ"},
}
_LOOK_ALIKES["-"] = "\u2010\u2011\u2012\u2013\u2014\u2212"  # hyphens, dashes, the minus sign
_LATIN = str.maketrans({other: letter for letter, others in _LOOK_ALIKES.items() for other in others})


def visible(text: object) -> str:
    """Return a text in which every invisible character is a code point: "con<U+200B>".

    Invisible are control and format characters, spaces that are not U+0020, and what has no character. A long text is
    cut.
    """
    shown = "".join(f"<U+{ord(char):04X}>" if _is_invisible(char) else char for char in str(text)[:_MOST])
    return shown + ("…" if len(str(text)) > _MOST else "")


def is_blank(text: str) -> bool:
    """Return whether a text has nothing that a reader sees: spaces, control and format characters alone."""
    return all(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Zs") for char in text)


def _keep_controls(error: UnicodeError) -> tuple[bytes, int]:
    """Encode U+0080 to U+009F as one byte: programs read the bytes that cp1252 lacks as latin-1 does."""
    if not isinstance(error, UnicodeEncodeError) or not "\x80" <= error.object[error.start] <= "\x9f":
        raise error
    return error.object[error.start].encode("latin-1"), error.start + 1


_CONTROLS = "keep-controls"
codecs.register_error(_CONTROLS, _keep_controls)


def is_damaged(text: str) -> bool:
    """Return whether a text was written or read in a wrong encoding: it has U+FFFD, or is "Ã¼" as a whole for "ü"."""
    if text.isascii():
        return False
    if "\ufffd" in text:
        return True
    try:
        text.encode("cp1252", _CONTROLS).decode("utf-8")
    except UnicodeError:
        return False
    return True


def _is_invisible(char: str) -> bool:
    return char != " " and unicodedata.category(char) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs")


def skeleton(text: str) -> str:
    """Return what a reader sees: no case, no invisible characters, no outer spaces, Latin letters for look-alikes."""
    seen = "".join(" " if unicodedata.category(char) == "Zs" else char for char in text)
    seen = "".join(char for char in seen if not _is_invisible(char))
    return unicodedata.normalize("NFKC", seen).casefold().translate(_LATIN).strip()


def suggestion(value: str, allowed: Iterable[object]) -> str:
    """Return " Did you mean 'x'?" for the allowed name that looks most like a value, "" where none is similar.

    Where both look alike, the characters that differ are named by their code points.
    """
    names = [str(name) for name in allowed]
    wanted = skeleton(value)
    found = [name for name in names if skeleton(name) == wanted]
    if not found:
        close = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
        return f" Did you mean '{visible(close[0])}'?" if close else ""
    odd = [
        f"{_described(char)} in the cell" for char in dict.fromkeys(value) if char not in found[0] and ord(char) > 126
    ]
    odd += [f"{_described(char)} in the label" for char in dict.fromkeys(found[0]) if char not in value and odd]
    return f" Did you mean '{visible(found[0])}'?" + (f" They differ: {', '.join(odd)}." if odd else "")


def _described(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, 'without a name')}"
