"""What a job and a dataset are: strict schemas, validated before anything is loaded.

Every key of a job has its default in `jobs/_defaults.yaml`; the schema has none of its own for them, so there is
one place to look.
"""

import string
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from common.config.method_rules import impossible_in_library
from common.config.methods import Full, LastLayers, LibraryMethod, Method
from common.config.resources import Resources
from common.core.errors import choices, nearest
from common.core.schema import Strict

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]
Label = str | int


Score = Literal["accuracy", "f1_macro", "f1_micro", "f1_weighted", "matthews_corrcoef", "f1_mean_labels"]
BestMetric = Literal[
    "validation_loss",
    "validation_accuracy",
    "validation_f1_macro",
    "validation_f1_micro",
    "validation_f1_weighted",
    "validation_matthews_corrcoef",
    "validation_f1_mean_labels",
]


# --- jobs ------------------------------------------------------------------------------------------------------------


class Training(Strict):
    """One fine-tuning recipe; names are the Trainer's where it has the same thing."""

    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)  # examples per optimizer step
    token_budget: int = Field(ge=16)  # padded tokens per forward pass; a step is split to fit
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    optim: str
    lr_scheduler_type: str
    lr_scheduler_kwargs: dict[str, Any]
    warmup_steps: float = Field(ge=0)  # below 1: a share of all steps
    max_grad_norm: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]]
    eval_every: Literal["epoch"] | Annotated[int, Field(ge=1)]  # an epoch, or so many steps
    best_metric: BestMetric  # of the checkpoint that is kept
    early_stopping_patience: int | None = Field(ge=1)  # evaluations without a better best_metric
    max_train_samples: int | None = Field(ge=2)  # a stratified sample of so many train rows
    max_eval_samples: int | None = Field(ge=2)  # of validation rows, while training

    @property
    def metric_mode(self) -> Literal["min", "max"]:
        """Return where best_metric goes when a model gets better."""
        return "min" if self.best_metric == "validation_loss" else "max"


class Runtime(Strict):
    """How a run is carried out; nothing here changes its results, so it may change between two starts."""

    score_token_budget: int = Field(ge=16)
    checkpoint_minutes: float | None = Field(gt=0)  # extra checkpoints between evaluations
    keep_checkpoints: bool
    log_every: int = Field(ge=1)  # steps
    activation_checkpointing: bool
    dataloader_workers: int = Field(ge=0)  # processes that prepare batches
    report_to: list[str]


class Job(Strict):
    """One experiment: a base model, a head, a method and a recipe."""

    schema_: Literal[1] = Field(alias="schema")
    model: str = Field(min_length=1)  # hub id, local folder, or package:<module>/<path>
    revision: str
    dataset: str
    head: Literal["classification", "prompt"]
    decoding: Literal["score", "generate"]  # of the prompt head
    length_normalization: bool  # of the prompt head's scores
    max_length: int = Field(ge=8)  # tokens
    precision: Literal["float32", "bfloat16"]  # of computation
    dtype: Literal["float32", "bfloat16"]  # of the frozen weights that are not quantised
    quantization: Literal["none", "int8", "nf4"]  # of the frozen linear layers
    double_quantization: bool
    attention: Literal["sdpa", "eager"]
    model_config_overrides: dict[str, int | float | str | bool]  # keys of the base model's own config, such as dropout
    method: Method
    training: Training
    runtime: Runtime
    resources: Resources

    @model_validator(mode="after")
    def _can_work_together(self) -> "Job":
        if reason := _impossible(self):
            raise ValueError(reason)
        return self


def _impossible(job: Job) -> str | None:
    """Return why settings of a job cannot work together, None where they can."""
    method, quantized = job.method, job.quantization != "none"
    if job.head != "prompt" and (job.decoding != "score" or job.length_normalization):
        return "decoding and length_normalization belong to the prompt head; set head: prompt, or leave them out"
    if job.double_quantization and job.quantization != "nf4":
        return f"double_quantization goes with quantization nf4, not {job.quantization}"
    if job.dtype == "bfloat16" and job.precision == "float32":
        return "dtype bfloat16 goes with precision bfloat16: its weights cannot be multiplied in float32"
    if isinstance(method, Full) and (quantized or job.dtype != "float32"):
        return "method full trains the base's own weights: it needs quantization: none and dtype: float32"
    if isinstance(method, LastLayers) and method.k > 0 and quantized:
        return f"last-layers with k {method.k} trains quantised layers, which cannot learn; k: 0 or quantization: none"
    return impossible_in_library(job, method) if isinstance(method, LibraryMethod) else None


# --- datasets --------------------------------------------------------------------------------------------------------


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
