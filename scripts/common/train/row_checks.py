"""The checks of rows: `make check` prints them; a training run does the same and keeps them in checks.json."""

from pathlib import Path
from typing import Any

from common.config.dataset import Dataset
from common.config.job import Job
from common.core import files
from common.core.documents import read_object
from common.data import checks, leaks
from common.data.rows import LoadedRows, Rows
from common.hub.locate import locate
from common.model.base_config import offline_config
from common.model.build import limit_ids, row_encoder
from common.model.load import load_tokenizer

FILE = "checks.json"
SCHEMA = 3  # of the file; an older one, of a run that is resumed, is written again


def check_rows(job: Job, dataset: Dataset, rows: Rows, found_leaks: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the counts of rows, labels, duplicates, contradictions and tokens, by split.

    Args:
        job: its tokenizer and limits are used.
        dataset: of the rows.
        rows: of all splits.
        found_leaks: by `leaks.find_leaks` of these rows, where it has run already; it takes long.

    Returns:
        "splits" of `checks.count_rows`, "tokens" {split: `checks.summarize_token_lengths` and
        `checks.summarize_token_ids`}, and those of `leaks.find_leaks`.

    Raises:
        ModelError: the end of a prompt and its answer share a token, or the tokenizer has ids that the model lacks.
    """
    tokenizer = load_tokenizer(locate(job.model, job.revision))
    encoder = row_encoder(job, dataset, tokenizer)
    limit_ids(encoder, offline_config(job, dataset))
    tokens = {}
    for split, members in rows.items():
        # It also raises where the end of a prompt and its answer share a token.
        ids = [row.input_ids for row in encoder.encode(members)]
        spelled = sum(encoder.control.are_spelled(row.texts) for row in members)
        lengths = encoder.lengths(members)
        tokens[split] = {
            **checks.summarize_token_lengths(lengths, sum(length > job.max_length for length in lengths)),
            **checks.summarize_token_ids(members, ids, tokenizer.unk_token_id, spelled),
        }
    found_leaks = found_leaks or leaks.find_leaks(rows, dataset)
    return {"splits": checks.count_rows(rows, dataset), **found_leaks, "tokens": tokens}


def check_rows_of_run(
    folder: Path, job: Job, dataset: Dataset, rows: LoadedRows, found_leaks: dict[str, Any] | None
) -> dict[str, Any]:
    """Check the rows once for a run folder, print the counts, and return them as fields of metrics.json.

    Args: as of `check_rows`, and the run's folder.

    Returns:
        the counts of `leaks.leak_counts` and `checks.reading_counts`; the rest is in the folder's checks.json.
    """
    if read_object(folder / FILE).get("schema") != SCHEMA:  # none yet, damaged, or of an older version
        about = {
            "dropped_rows_count": rows.dropped_rows_count,
            "notes": rows.notes,
            "file_notes": rows.file_notes,
        }
        files.write_json(folder / FILE, {"schema": SCHEMA, **check_rows(job, dataset, rows, found_leaks), **about})
    found = files.read_json(folder / FILE)
    truncated = {split: part["truncated_count"] for split, part in found["tokens"].items()}
    print(leaks.summary(found), flush=True)
    cut = ", ".join(f"{count} of {split}" for split, count in truncated.items() if count)
    print(
        "\n".join([f"rows truncated to {job.max_length} tokens: {cut or 'none'}", *checks.reading_lines(found)]),
        flush=True,
    )
    return leaks.leak_counts(found) | checks.reading_counts(found)
