"""What a dataset is: where its rows come from, which columns count, its labels, its prompt."""

import string
from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.core.errors import choices, nearest
from common.core.schema import Strict

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]
Label = str | int
Score = Literal["accuracy", "f1_macro", "f1_micro", "f1_weighted", "matthews_corrcoef", "f1_mean_labels"]


class HubPart(Strict):
    """One configuration of a Hub dataset, with constant columns to add."""

    config: str | None = None
    constants: dict[str, str | int] = {}


class Source(Strict):
    """Where the rows come from: files, or a dataset of the Hugging Face Hub."""

    files: dict[Split, str] | str | None = None
    hub: str | None = None
    revision: str = "main"
    parts: list[HubPart] = [HubPart()]
    rename: dict[str, str] = {}  # Hub column -> column of this YAML
    size_bytes: int | None = Field(None, gt=0)  # of the files on the Hub, for who is not online to ask it

    @model_validator(mode="after")
    def _one_source(self) -> "Source":
        if (self.files is None) == (self.hub is None):
            raise ValueError("give either `files` or `hub`")
        if self.files == {}:
            raise ValueError("`files` names no file")
        if self.size_bytes is not None and self.hub is None:
            raise ValueError("`size_bytes` belongs to `hub`")
        return self


class Splits(Strict):
    """How rows are divided when the files do not say it: by a column, or by seeded stratified fractions."""

    column: str | None = None
    fractions: dict[Literal["validation", "test"], Annotated[float, Field(gt=0, lt=1)]] = {}
    seed: int = 1

    @model_validator(mode="after")
    def _sane(self) -> "Splits":
        if sum(self.fractions.values()) >= 1:
            raise ValueError("fractions must leave rows for train: their sum must be below 1")
        if self.column is not None and self.fractions:
            raise ValueError("give either `column` or `fractions`")
        return self


class Prompt(Strict):
    """What the prompt head asks; `{column}` stands for a text of the row, `{{` and `}}` for braces."""

    system: str | None = None
    user: str = Field(min_length=1)

    def columns(self) -> list[str]:
        """Return the columns named in braces, in order."""
        found: list[str] = []
        for part in (self.system or "", self.user):
            try:
                pieces = list(string.Formatter().parse(part))
            except ValueError as error:
                raise ValueError(f"prompt: {error} (a brace that is meant is written twice)") from None
            for _, name, format_spec, conversion in pieces:
                if name is not None and (not name or format_spec or conversion):
                    raise ValueError(
                        f"prompt: '{{{name}}}' is no column; write {{column}}, and a brace that is meant twice"
                    )
                found += [name] if name else []
        return found


class Dataset(Strict):
    """Labelled texts: where rows come from, which columns count, labels in class order."""

    schema_: Literal[1] = Field(alias="schema")
    title: str
    source: Source
    splits: Splits = Splits()
    text: Annotated[list[str], Field(min_length=1)]
    label: str
    labels: Annotated[list[Label], Field(min_length=2)]
    id: str | None = None
    group: str | None = None
    weight: str | None = None
    mean_f1_labels: list[Label] | None = None  # the mean F1 of these labels is scored too (SemEval's way)
    score: Score = "accuracy"  # the metric the tables lead with
    prompt: Prompt | None = None  # for the prompt head
    answers: dict[str, str] | None = None  # {label: what the prompt head answers}, where it is not the label itself

    @model_validator(mode="after")
    def _labels_agree(self) -> "Dataset":
        if len(set(self.text)) < len(self.text):
            raise ValueError("`text` names a column twice")
        if self.label in self.text:
            raise ValueError(f"`label` is '{self.label}', which is a text column: the model would read the answer")
        names = [str(label) for label in self.labels]
        if len(set(names)) < len(names):
            raise ValueError("two labels are the same")
        unknown = [label for label in self.mean_f1_labels or [] if label not in self.labels]
        if unknown:
            raise ValueError(f"mean_f1_labels names {unknown[0]!r}, which is not among labels")
        if self.score == "f1_mean_labels" and not self.mean_f1_labels:
            raise ValueError("score is f1_mean_labels, but mean_f1_labels names no labels")
        return self

    @model_validator(mode="after")
    def _prompt_agrees(self) -> "Dataset":
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
            names = [str(label) for label in self.labels]
            if set(self.answers) != set(names):
                raise ValueError(f"answers must hold every label once: {choices(names)}; found {choices(self.answers)}")
            if len(set(self.answers.values())) < len(names) or not all(map(str.strip, self.answers.values())):
                raise ValueError("answers must differ from each other and hold a word")
        return self
