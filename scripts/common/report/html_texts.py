"""The texts of the rows that runs have scored, for the HTML report; too long ones are shortened."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common.core.errors import PeftableError
from common.core.formatting import count
from common.data import hub_dataset
from common.data.load import load_rows
from common.data.rows import Rows, rows_fingerprint
from common.runs.run_config import RunConfig

MAX_BYTES = 14_000_000  # of all texts in the page


def load(configs: Sequence[RunConfig], split: str) -> tuple[dict[str, tuple[str, ...]], str]:
    """Return {id: texts} of a split of the rows that a run has read, or nothing and the reason.

    Args:
        configs: of the run, or of the run of each fold.
        split: its name.

    Rows that have changed since the run are not shown: their texts may not be those that the run has scored.
    """
    found: dict[str, tuple[str, ...]] = {}
    for config in configs:
        rows, problem = _load_rows(config)
        if problem:
            return {}, problem
        found |= {row.id: row.texts for row in rows.get(split, [])}
    return found, ""


def _load_rows(config: RunConfig) -> tuple[Rows, str]:
    source, folder = config.dataset.source, Path(config.data_dir) if config.data_dir else None
    try:
        if folder is None and source.hub is not None and (missing := hub_dataset.find_missing(source)):
            return {}, f"{missing} `make fetch DATASET={config.dataset_name}` downloads it."
        rows: Rows = load_rows(config.dataset, folder)
        fingerprint = rows_fingerprint(rows)
    except (PeftableError, OSError) as error:
        return {}, str(error)
    if fingerprint != config.data_sha256:
        return {}, f"the rows of {config.dataset_name} have changed since these runs read them."
    return rows, ""


def columns(names: Sequence[str], texts: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return one record per text column: its name and the texts of the N rows.

    Args:
        names: of the K columns.
        texts: K texts of each row.

    Returns:
        {"name", "texts": N texts}, or {"name", "texts": different texts, "places": N numbers of these}, where at most
        half of the texts are different, as claims that many rows share.
    """
    found = []
    for place, name in enumerate(names):
        column = [row[place] for row in texts]
        different = {text: number for number, text in enumerate(dict.fromkeys(column))}
        record: dict[str, Any] = {"name": name, "texts": column}
        if 2 * len(different) <= len(column):
            record = {"name": name, "texts": list(different), "places": [different[text] for text in column]}
        found.append(record)
    return found


def shorten(found: Iterable[dict[str, Any]], max_bytes: int = MAX_BYTES) -> str:
    """Cut the texts of all columns, in place, at one number of characters so that together they fit into a page.

    Returns:
        A sentence that says what was cut, "" where nothing was.
    """
    found = list(found)
    texts = [text for column in found for text in column["texts"]]
    if _bytes(texts, None) <= max_bytes:
        return ""
    low, high = 1, max(map(len, texts))  # `low` fits, `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _bytes(texts, middle) <= max_bytes else (low, middle)
    cut = sum(len(text) > low for text in texts)
    for column in found:
        column["texts"] = [text if len(text) <= low else f"{text[:low]}…" for text in column["texts"]]
    return f"{count(cut)} of {count(len(texts))} texts are longer than {count(low)} characters and are cut there."


def _bytes(texts: Sequence[str], limit: int | None) -> int:
    return sum(len(text[:limit].encode("utf-8", "surrogatepass")) for text in texts)
