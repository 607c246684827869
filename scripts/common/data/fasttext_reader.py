"""Read text files as fastText trains on them: `__label__pos the text`, one row a line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from common.config.dataset import ReadOptions
from common.data.content import FASTTEXT_MARK
from common.data.text_reader import TextReader, rows_frame

_COLUMNS = ["label", "text"]
_MARK = FASTTEXT_MARK.decode()


class FastTextReader(TextReader):
    """The columns are `label`, without its mark, and `text`. Source: https://fasttext.cc/docs/en/supervised-tutorial.html."""

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        super().__init__(path, columns, options)
        self.columns = self.columns or _COLUMNS
        self._stream = self._open("\n")
        self._records = self._rows(options.skip_rows)

    def _rows(self, skipped: int) -> Iterator[tuple[int, list[str]]]:
        for number, line in enumerate(self._stream, start=1):
            if number <= skipped or not line.strip():
                continue
            label, text = [*line.rstrip("\r\n").split(maxsplit=1), ""][:2]
            if not label.startswith(_MARK):
                raise ValueError(f"line {number} does not begin with {_MARK}, as the lines before it do")
            if text.startswith(_MARK):
                raise ValueError(f"line {number} has several labels; a row has one here")
            yield number, [label.removeprefix(_MARK), text]

    def _read(self, count: int | None) -> pd.DataFrame:
        return rows_frame(self._take(count), _COLUMNS)[self.columns]
