"""A table of the exports of one run that lie beside each other: size, agreement and speed, as each proof found them."""

from pathlib import Path
from typing import Any

from common.core.files import read_json
from common.core.formatting import size, text_table
from common.export.export import PROOF
from common.hub.locate import SAVED
from common.runs.exported import export_format


def table(folder: Path) -> str:
    """Return the table of an exported folder and of the exports of the same run beside it, for a terminal."""
    own = read_json(folder / SAVED)
    rows = []
    for other in sorted(folder.resolve().parent.iterdir()):
        if (other / PROOF).is_file() and export_format(other):
            about, proof = read_json(other / SAVED), read_json(other / PROOF)
            if (about["run"], about["data_sha256"]) == (own["run"], own["data_sha256"]):
                rows.append(_row(other.name, about, proof))
    return text_table(("export", "format", "weights", "size", "changed labels", "one text", "rows/s"), rows)


def _row(name: str, about: dict[str, Any], proof: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        about["format"],
        about["weights_dtype"],
        size(proof["weights_bytes"]),
        f"{proof['changed_labels_count']} of {proof['test_rows_count']}",
        f"{1000 * proof['one_text_s']:.1f} ms",
        f"{proof['rows_per_s']:.1f}",
    )
