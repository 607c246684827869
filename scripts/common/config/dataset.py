"""The schema of a dataset's YAML file: where its rows come from, its columns, labels and prompt."""

import codecs
import dataclasses
import string
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, WrapValidator, model_validator

from common.config.label_values import Label, LabelKeys, LabelValue
from common.core.errors import ConfigError, choices, nearest
from common.core.schema import Strict, validate

SPLITS = ("train", "validation", "test")
IN_GROUP = "in_group"  # rows of the train groups that are not trained on, beside a test split of another group
Split = Literal["train", "validation", "test"]
# What files and columns call the splits.
SPLIT_NAMES = {name: name for name in SPLITS} | dict.fromkeys(("valid", "val", "dev"), "validation")
ALL = "all"  # `labels: all`: the labels are those of the train rows
Score = Literal["accuracy", "f1_macro", "f1_micro", "f1_weighted", "matthews_corrcoef", "f1_mean_labels"]


class HubPart(Strict):
    """One configuration of a Hub dataset, and columns with a constant value that are added to it."""

    config: str | None = None
    constants: dict[str, str | int] = {}


class ReadOptions(Strict):
    """How table files are read, where the file itself does not say it."""

    separator: str | None = Field(None, min_length=1, max_length=1)  # csv, tsv, txt: between two cells
    quoting: bool | None = None  # csv, tsv, txt: whether "…" encloses a cell
    encoding: str | None = None  # of text files
    header: Annotated[list[str], Field(min_length=1)] | None = None  # column names of a file without a header line
    skip_rows: int = Field(0, ge=0)  # lines before the header
    sheet: str | None = None  # of a workbook
    join_lists: bool = False  # a cell that is a list of words is read as the words with spaces between them

    @model_validator(mode="after")
    def _check_read_options(self) -> "ReadOptions":
        if self.separator is not None and (self.separator.isalnum() or self.separator in '"\r\n'):
            raise ValueError(f"separator: {self.separator!r} cannot separate cells; allowed are such as ';' or \"\\t\"")
        if self.header is not None and len(set(self.header)) < len(self.header):
            raise ValueError("header names a column twice")
        try:
            is_text = self.encoding is None or codecs.lookup(self.encoding)._is_text_encoding
        except LookupError:
            is_text = False
        if not is_text:
            raise ValueError(f"encoding: '{self.encoding}' is unknown; allowed are such as utf-8, utf-16 or cp1252")
        return self

    def options_in_use(self) -> list[str]:
        """Return the names of the options that differ from their default."""
        return [
            name for name in ReadOptions.model_fields if getattr(self, name) != ReadOptions.model_fields[name].default
        ]


class Source(ReadOptions):
    """Where the rows come from: either files or a dataset of the Hugging Face Hub."""

    files: dict[Split, str] | str | None = None
    hub: str | None = None
    revision: str = "main"
    parts: list[HubPart] = [HubPart()]
    rename: dict[str, str] = {}  # {Hub column: column name in this file}
    size_bytes: int | None = Field(None, gt=0)  # of the files on the Hub, used where the Hub is not asked

    @model_validator(mode="after")
    def _check_source(self) -> "Source":
        if (self.files is None) == (self.hub is None):
            raise ValueError("give either `files` or `hub`")
        if self.files == {}:
            raise ValueError("`files` names no file")
        if self.size_bytes is not None and self.hub is None:
            raise ValueError("`size_bytes` belongs to `hub`")
        if self.hub is not None and (unused := [name for name in self.options_in_use() if name != "join_lists"]):
            raise ValueError(f"`{unused[0]}` belongs to `files`")
        return self


class Splits(Strict):
    """How rows are divided into splits that the source lacks: by a column, and by stratified random fractions."""

    column: str | None = None
    fractions: dict[Literal["validation", "test", "in_group"], Annotated[float, Field(gt=0, lt=1)]] = {}
    by: Literal["group"] | None = None  # of `fractions`: all rows of one group stay in one split
    test: Literal["validation"] | None = None  # the labels of test are hidden: test is a copy of validation
    folds: Annotated[int, Field(ge=2)] | Literal["group"] | None = None  # all rows are divided, one fold is test
    fold: Annotated[int, Field(ge=1)] | None = None  # which of them is test; a run's own, from its job
    shuffled: bool = False  # the first text is permuted within each split; a run's own, from its job
    seed: int = 1

    @model_validator(mode="after")
    def _check_fractions(self) -> "Splits":
        if sum(self.fractions.values()) >= 1:
            raise ValueError("fractions must leave rows for train: their sum must be below 1")
        if self.by is not None and not self.fractions:
            raise ValueError("`by` belongs to `fractions`")
        if self.test is not None and "test" in self.fractions:
            raise ValueError("give either `test: validation` or a fraction for test")
        return self

    @model_validator(mode="after")
    def _check_folds(self) -> "Splits":
        if IN_GROUP in self.fractions and self.folds != "group":
            raise ValueError("the fraction in_group belongs to `folds: group`")
        if self.folds is None:
            if self.fold is not None:
                raise ValueError("`fold` belongs to `folds`")
            return self
        if self.column is not None or self.test is not None or "test" in self.fractions:
            raise ValueError("`folds` make the test split; leave `column`, `test` and the fraction for test out")
        if "validation" not in self.fractions:
            raise ValueError("`folds` need validation rows, cut from train: fractions: {validation: 0.1}")
        return self


@dataclasses.dataclass(frozen=True)
class Folds:
    """How the rows of a dataset are divided into folds.

    Attributes:
        count: number of folds.
        sha256: of all rows, fold by fold.
    """

    count: int
    sha256: str


class Prompt(Strict):
    """The prompt of the prompt head; `{column}` is replaced by a text of the row, `{{` and `}}` mean braces."""

    system: str | None = None
    user: str = Field(min_length=1)

    def columns(self) -> list[str]:
        """Return the columns named in braces, in order."""
        found: list[str] = []
        for part in (self.system or "", self.user):
            try:
                fields = list(string.Formatter().parse(part))
            except ValueError as error:
                raise ValueError(f"prompt: {error} (write a literal brace twice)") from None
            for _, name, format_spec, conversion in fields:
                if name is not None and (not name or format_spec or conversion):
                    raise ValueError(
                        f"prompt: '{{{name}}}' is not a column; write {{column}}, and a literal brace twice"
                    )
                found += [name] if name else []
        return found


def _read_labels(value: Any, read_list: Callable[[Any], list[Label]]) -> list[Label]:
    """Return a list of labels; [] for the word `all`, which names labels that are not known yet."""
    return [] if isinstance(value, str) and value == ALL else read_list(value)


class Dataset(Strict):
    """A dataset: where its rows come from, its columns, its labels in class order, its prompt.

    All labels are in Unicode's form NFC.
    """

    schema_: Literal[1] = Field(alias="schema")
    title: str
    source: Source
    splits: Splits = Splits()
    text: Annotated[list[str], Field(min_length=1)]
    label: str
    labels_: Annotated[list[LabelValue], Field(min_length=2), WrapValidator(_read_labels)] = Field(alias="labels")
    label_map: Annotated[dict[str, LabelValue], LabelKeys] = {}  # {value in the rows: label}
    drop_labels: list[LabelValue | None] = []  # rows with these values, after label_map, are left out; None: no value
    id: str | None = None
    group: str | None = None
    weight: str | None = None
    mean_f1_labels: list[LabelValue] | None = None  # their mean F1 is computed, too (as SemEval does)
    score: Score = "accuracy"  # the metric that tables show first
    prompt: Prompt | None = None  # for the prompt head
    answers: Annotated[dict[str, str], LabelKeys] | None = (
        None  # {label: answer of the prompt head}; default: the label
    )

    @property
    def takes_all_labels(self) -> bool:
        """Return whether the labels are those of the train rows, which have not been read yet (`labels: all`)."""
        return not self.labels_

    @property
    def labels(self) -> list[Label]:
        """The labels in class order.

        Raises:
            ConfigError: they are those of the train rows, which have not been read.
        """
        if self.takes_all_labels:
            raise ConfigError(
                f"the dataset '{self.title}' says `labels: all`: its labels are known when its train rows are read, "
                "and this command reads no rows. Write the labels as a list (`make check` prints them), or use the "
                "command with its rows: without NO_DATA=1, or as make check, train or submit."
            )
        return self.labels_

    def with_labels(self, labels: Sequence[Label]) -> "Dataset":
        """Return the dataset with these labels; a `ConfigError` where they do not fit its other keys."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return validate(Dataset, {**plain, "schema": self.schema_, "labels": list(labels)}, f"'{self.title}'")

    def with_fold(self, fold: int | None) -> "Dataset":
        """Return the dataset whose test split is one of its folds.

        Args:
            fold: its number, from 1; None for a dataset that is not divided into folds.

        Raises:
            ConfigError: the dataset has no folds, or has some and none is given.
        """
        if fold is not None and self.splits.folds is None:
            raise ConfigError(f"fold={fold}: the dataset '{self.title}' is not divided into folds (splits.folds).")
        if fold is None and self.splits.folds is not None:
            raise ConfigError(
                f"the dataset '{self.title}' is divided into folds: FOLDS=all takes each of them, FOLDS=1 the first."
            )
        return self.model_copy(update={"splits": self.splits.model_copy(update={"fold": fold})})

    @model_validator(mode="after")
    def _check_columns(self) -> "Dataset":
        if len(set(self.text)) < len(self.text):
            raise ValueError("`text` names a column twice")
        if self.label in self.text:
            raise ValueError(f"`label` is '{self.label}', which is a text column: the model would read the label")
        if self.score == "f1_mean_labels" and not self.mean_f1_labels:
            raise ValueError("score is f1_mean_labels, but mean_f1_labels names no labels")
        if self.splits.shuffled and len(self.text) < 2:
            raise ValueError("splits.shuffled permutes the first of two texts, and `text` names one column")
        if self.splits.by is not None and self.group is None:
            raise ValueError("splits.by is group, but `group` names no column")
        if self.splits.folds == "group" and self.group is None:
            raise ValueError("splits.folds is group, but `group` names no column")
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> "Dataset":
        dropped = {str(label) for label in self.drop_labels if label is not None}
        renamed = [name for name, label in self.label_map.items() if name in dropped and str(label) not in dropped]
        if renamed:
            raise ValueError(f"'{renamed[0]}' is renamed by label_map and left out by drop_labels; give one of them")
        if self.takes_all_labels:
            return self
        names = [str(label) for label in self.labels]
        if len(set(names)) < len(names):
            raise ValueError("two labels are the same")
        if both := [name for name in names if name in dropped]:
            raise ValueError(f"drop_labels names '{both[0]}', which is among labels")
        for old, new in self.label_map.items():
            if str(new) not in (allowed := {*names, *dropped}):
                raise ValueError(
                    f"label_map turns '{old}' into '{new}', which is not among labels.{nearest(new, allowed)}"
                )
        unknown = [label for label in self.mean_f1_labels or [] if str(label) not in names]
        if unknown:
            raise ValueError(f"mean_f1_labels names {unknown[0]!r}, which is not among labels")
        return self

    @model_validator(mode="after")
    def _check_prompt(self) -> "Dataset":
        if self.prompt is not None:
            columns = self.prompt.columns()
            for name in columns:
                if name not in self.text:
                    raise ValueError(
                        f"prompt names the column '{name}', which is not among `text`.{nearest(name, self.text)} "
                        f"Texts: {choices(self.text)}"
                    )
            if unread := [name for name in self.text if name not in columns]:
                raise ValueError(f"prompt does not use the text column '{unread[0]}': write {{{unread[0]}}} in it")
        if self.answers is not None:
            names = [str(label) for label in self.labels_]
            if names and set(self.answers) != set(names):
                raise ValueError(f"answers must have every label once: {choices(names)}; found {choices(self.answers)}")
            if len(set(self.answers.values())) < len(self.answers) or not all(map(str.strip, self.answers.values())):
                raise ValueError("answers must differ from each other and contain a word")
        return self
