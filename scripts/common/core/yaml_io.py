"""YAML 1.2 in and out, and `key=value` overrides: plain values only, errors with file and line.

YAML 1.1 readers take `2e-4` for a string and `no` for False; YAML 1.2, read here with ruamel.yaml, does not.
"""

import contextlib
import copy
import functools
import io
import json
import shlex
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from common.core.errors import ConfigError


def parse(text: str, origin: str) -> Any:
    """Parse one YAML 1.2 document of plain values (no tags that build objects).

    Args:
        text: the document.
        origin: what the error message calls it, a file or a variable.

    Raises:
        ConfigError: not YAML, or a key given twice.
    """
    try:
        return copy.deepcopy(_load(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = str(error.problem or error.context).splitlines()[0]
        raise ConfigError(f"{origin}{where}: not valid YAML: {problem}.") from error
    except YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {str(error).splitlines()[0]}.") from error
    except (ValueError, IndexError) as error:  # the constructors of dates and tagged numbers, as in 2026-13-45
        raise ConfigError(f"{origin}: not valid YAML: {error}.") from error


@functools.lru_cache(maxsize=64)
def _load(text: str) -> Any:
    """Parse once what is read again and again: the same jobs and defaults for each of many runs."""
    return YAML(typ="safe", pure=True).load(text)


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: no such file, no YAML, or something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    value = parse(text, str(path))
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(value).__name__}.")
    return value


def dump(value: dict[str, Any]) -> str:
    """Return a mapping as block-style YAML 1.2, keys in the given order."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.allow_unicode = True
    writer.width = 120
    stream = io.StringIO()
    writer.dump(value, stream)
    return stream.getvalue()


def split_overrides(words: list[str], variable: str = "SET", example: str = "training.epochs=1") -> dict[str, Any]:
    """Turn "training.epochs=1 method.r=8" words into {"training.epochs": 1, "method.r": 8}.

    Values are YAML 1.2. A flow value may hold spaces (`method.target_modules=[query, key]`); elsewhere quotes keep
    spaces together, as in a shell.

    Args:
        words: as typed.
        variable: where they were typed, for the message.
        example: of a word, for the message.

    Raises:
        ConfigError: a word without `=`, a key given twice, an unclosed quote.
    """
    overrides: dict[str, Any] = {}
    for word in (piece for text in words for piece in _pieces(text, variable)):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"{variable}: found '{word}'; allowed is key=value, for example {variable}=\"{example}\"."
            )
        if key in overrides:
            raise ConfigError(f"{variable}: '{key}' is given twice.")
        overrides[key] = parse(value, f"{variable} {key}")
    return overrides


def override_word(key: str, value: Any) -> str:
    """Return the "key=value" word that `split_overrides` reads as {key: value}.

    Raises:
        ConfigError: there is none, as for a text with both a quote and a bracket.
    """
    meant, text = json.dumps({key: value}, default=str), json.dumps(value, default=str, ensure_ascii=False)
    for written in (value if isinstance(value, str) else text, text, shlex.quote(text)):
        with contextlib.suppress(ConfigError):
            if json.dumps(split_overrides([f"{key}={written}"]), default=str) == meant:
                return f"{key}={written}"
    raise ConfigError(f"'{key}': {value!r} cannot be written as SET={key}=…; choose a simpler value.")


def _pieces(text: str, variable: str) -> list[str]:
    """Split at the spaces that are outside brackets and quotes; quotes around a whole value are shell quotes."""
    pieces, current, depth, quote = [], "", 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char.isspace() and depth == 0:
            pieces.append(current)
            current = ""
            continue
        current += char
    if quote or depth:
        raise ConfigError(f"{variable}: an unclosed quote or bracket in '{text}'.")
    pieces.append(current)
    # Inside brackets the quotes belong to YAML; elsewhere they are the shell's.
    try:
        return [piece if set(piece) & set("[{") else " ".join(shlex.split(piece)) for piece in pieces if piece]
    except ValueError as error:  # a backslash at the end
        raise ConfigError(f"{variable}: cannot read '{text}': {error}.") from error
