"""Read and write YAML 1.2 with plain values, and parse `key=value` overrides; errors name file and line.

YAML 1.2 (read here with ruamel.yaml) reads `2e-4` as a number and `no` as a string; YAML 1.1 readers do neither.
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

_MAX_CHARACTERS, _MAX_DEPTH, _MAX_VALUES = 10_000_000, 50, 1_000_000
_TOO_DEEP = f"its lists or mappings are nested too deeply; at most {_MAX_DEPTH} levels."


def parse(text: str, origin: str) -> Any:
    """Return the value of one YAML 1.2 document; tags that create objects are errors.

    Args:
        text: the document.
        origin: the file or variable that the error message names.

    Raises:
        ConfigError: the text is not YAML, or a key occurs twice.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"{origin}: it has {len(text):,} characters; at most {_MAX_CHARACTERS:,} are read.")
    try:
        value = _load(text)
        _check_size(value, origin)
        return copy.deepcopy(value)
    except RecursionError as error:
        raise ConfigError(f"{origin}: {_TOO_DEEP}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = str(error.problem or error.context).splitlines()[0]
        raise ConfigError(f"{origin}{where}: not valid YAML: {problem}.") from error
    except YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {str(error).splitlines()[0]}.") from error
    except (ValueError, IndexError) as error:  # from the parsers of dates and tagged numbers, such as 2026-13-45
        raise ConfigError(f"{origin}: not valid YAML: {error}.") from error


def _check_size(value: Any, origin: str) -> None:
    """Raise a `ConfigError` for a document that is nested deeply, or that its aliases unfold to very many values."""
    count, level = 0, [value]
    for _ in range(_MAX_DEPTH):
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            return
        count += sum(len(one) for one in inner)
        if count > _MAX_VALUES:
            raise ConfigError(f"{origin}: with its aliases (*name) it has more than {_MAX_VALUES:,} values.")
        level = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]
    raise ConfigError(f"{origin}: {_TOO_DEEP}")


@functools.lru_cache(maxsize=64)
def _load(text: str) -> Any:
    """Parse a document, once per text: a command over many runs reads the same jobs and defaults again and again."""
    return YAML(typ="safe", pure=True).load(text)


def read(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file contains.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or contains something else than a mapping.
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
    """Return a mapping as YAML 1.2 in block style, with the keys in the given order."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.allow_unicode = True
    writer.width = 120
    stream = io.StringIO()
    writer.dump(value, stream)
    return stream.getvalue()


def split_overrides(words: list[str], variable: str = "SET", example: str = "training.epochs=1") -> dict[str, Any]:
    """Parse overrides: return {"training.epochs": 1, "method.r": 8} for ["training.epochs=1 method.r=8"].

    Values are YAML 1.2. A value in brackets may contain spaces (`method.target_modules=[query, key]`); any other value
    with spaces needs quotes, as in a shell.

    Args:
        words: texts as the user typed them, each with one or more overrides.
        variable: the make variable that the user typed them in; the message names it.
        example: an override that the message shows.

    Returns:
        Dotted key to parsed value, in the order given.

    Raises:
        ConfigError: an override without `=`, a key given twice, an unclosed quote or bracket, a value that is not YAML.
    """
    overrides: dict[str, Any] = {}
    for word in (word for text in words for word in _split_words(text, variable)):
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
    """Return the text "key=value" that `split_overrides` parses as {key: value}.

    Raises:
        ConfigError: no such text exists, for example for a string with both a quote and a bracket.
    """
    wanted, text = json.dumps({key: value}, default=str), json.dumps(value, default=str, ensure_ascii=False)
    for written in (value if isinstance(value, str) else text, text, shlex.quote(text)):
        with contextlib.suppress(ConfigError):
            if json.dumps(split_overrides([f"{key}={written}"]), default=str) == wanted:
                return f"{key}={written}"
    raise ConfigError(f"'{key}': {value!r} cannot be written as SET={key}=…; choose a simpler value.")


def _split_words(text: str, variable: str) -> list[str]:
    """Split a text at the spaces outside brackets and quotes; remove quotes outside brackets, as a shell does."""
    words, current, depth, quote = [], "", 0, ""
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
            words.append(current)
            current = ""
            continue
        current += char
    if quote or depth:
        raise ConfigError(f"{variable}: an unclosed quote or bracket in '{text}'.")
    words.append(current)
    # Inside brackets, quotes belong to YAML; elsewhere they are shell quotes.
    try:
        return [word if set(word) & set("[{") else " ".join(shlex.split(word)) for word in words if word]
    except ValueError as error:  # a backslash at the end
        raise ConfigError(f"{variable}: cannot read '{text}': {error}.") from error
