"""A table whose cells are hard to write and read, and the formats that must hold it."""

import pandas as pd

from common.data import table_files

FORMATS = [f"{name}{gz}" for name in table_files.FORMATS for gz in ("", ".gz")]
TEXTS = [
    "plain",
    'say "no", twice',
    "two\nlines",
    "naïve – 中文 😀",
    "one\u2028two\x85three",
    "007",
    " NA ",
    "tab\there",
]
TABLE = pd.DataFrame({"id": [f"r{n}" for n in range(8)], "text": TEXTS, "empty": [""] * 8}, dtype=object)
