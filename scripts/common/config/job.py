"""The schema of a job's YAML file, and which settings cannot work together.

Every key of a job has its default in `jobs/_defaults.yaml` and nowhere else: the schema has no defaults.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from common.config.ablation import Ablation
from common.config.label_values import LabelKeys
from common.config.method_rules import find_method_conflict
from common.config.methods import Full, LastLayers, LibraryMethod, Method
from common.config.resources import Resources
from common.core.schema import Strict

BestMetric = Literal[
    "validation_loss",
    "validation_accuracy",
    "validation_f1_macro",
    "validation_f1_micro",
    "validation_f1_weighted",
    "validation_matthews_corrcoef",
    "validation_f1_mean_labels",
]


Sampling = Literal["stratified", "nested", "balanced"]
STRATIFIED, NESTED, BALANCED = get_args(Sampling)


class Training(Strict):
    """The training arguments; names are those of the Trainer of transformers, where it has the same argument."""

    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)  # examples per optimizer step
    token_budget: int = Field(ge=16)  # padded tokens per forward pass; larger steps are divided into micro-batches
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    optim: str
    lr_scheduler_type: str
    lr_scheduler_kwargs: dict[str, Any]
    warmup_steps: float = Field(ge=0)  # below 1: a fraction of all steps
    max_grad_norm: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    class_weights: Annotated[Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]], LabelKeys]
    eval_every: Literal["epoch"] | Annotated[int, Field(ge=1)]  # or a number of steps
    best_metric: BestMetric  # by which the best checkpoint is chosen
    early_stopping_patience: int | None = Field(ge=1)  # evaluations without an improvement of best_metric
    max_train_samples: int | None = Field(ge=2)  # train on a sample of this size
    sampling: Sampling  # how that sample is drawn
    max_eval_samples: int | None = Field(ge=2)  # validation rows used while training

    @property
    def metric_mode(self) -> Literal["min", "max"]:
        """Return whether best_metric is better when it is lower ("min") or higher ("max")."""
        return "min" if self.best_metric == "validation_loss" else "max"


class Runtime(Strict):
    """Settings that do not change results, and may therefore change between two starts of a run."""

    score_token_budget: int = Field(ge=16)
    checkpoint_minutes: float | None = Field(gt=0)  # between two extra checkpoints
    keep_checkpoints: bool
    log_every: int = Field(ge=1)  # steps
    activation_checkpointing: bool
    dataloader_workers: int = Field(ge=0)  # processes that prepare batches
    report_to: list[str]


class Job(Strict):
    """One experiment: a base model, a head, a method and training arguments."""

    schema_: Literal[1] = Field(alias="schema")
    model: str = Field(min_length=1)  # hub id, local folder or GGUF file, or package:<module>/<path>
    revision: str
    dataset: str
    fold: int | None = Field(ge=1)  # of a dataset with splits.folds: the one that is its test split
    ablation: Ablation  # of a dataset with two texts: what the model does not read
    head: Literal["classification", "prompt"]
    pooling: Literal["default", "cls", "mean", "last"]  # of the classification head
    decoding: Literal["score", "generate"]  # of the prompt head
    length_normalization: bool  # of the prompt head's scores
    calibration: Literal["none", "content-free"]  # of the prompt head's scores
    max_length: int = Field(ge=8)  # tokens
    truncation: Literal["tail", "head_and_tail"]  # of the longest text: its end is cut off, or its middle cut out
    precision: Literal["float32", "tf32", "bfloat16", "float16"]  # of computation
    dtype: Literal["float32", "bfloat16", "float16"]  # of the base's weights that do not train and are not quantised
    quantization: Literal["none", "int8", "nf4"]  # of the base's linear layers
    double_quantization: bool
    attention: Literal["sdpa", "eager"]
    model_config_overrides: dict[str, int | float | str | bool]  # keys of the base model's own config, such as dropout
    method: Method
    training: Training
    runtime: Runtime
    resources: Resources

    @model_validator(mode="after")
    def _check_conflicts(self) -> "Job":
        if reason := _find_conflict(self):
            raise ValueError(reason)
        return self


def _find_conflict(job: Job) -> str | None:
    """Return the reason why settings of a job cannot work together, None if they can."""
    method, quantized = job.method, job.quantization != "none"
    if job.head != "prompt" and (job.decoding != "score" or job.length_normalization or job.calibration != "none"):
        return (
            "decoding, length_normalization and calibration belong to the prompt head; set head: prompt, or leave them "
            "out"
        )
    if job.calibration != "none" and job.decoding == "generate":
        return "calibration changes the scores of the answers, and decoding generate does not predict by scores"
    if job.head == "prompt" and job.pooling != "default":
        return "pooling belongs to the classification head; set head: classification, or leave it out"
    if job.double_quantization and job.quantization != "nf4":
        return f"double_quantization goes with quantization nf4, not {job.quantization}"
    if job.dtype not in ("float32", job.precision):
        return f"dtype {job.dtype} goes with precision {job.dtype}: its weights cannot be multiplied in {job.precision}"
    if job.training.sampling != STRATIFIED and job.training.max_train_samples is None:
        return f"training.sampling {job.training.sampling} says how max_train_samples rows are drawn; set both"
    if isinstance(method, Full) and (quantized or job.dtype != "float32"):
        return "method full trains the base's own weights: it needs quantization: none and dtype: float32"
    if isinstance(method, LastLayers) and method.k > 0 and quantized:
        return (
            f"last-layers with k {method.k} trains quantised layers, which cannot learn; set k: 0 or quantization: none"
        )
    return find_method_conflict(job, method) if isinstance(method, LibraryMethod) else None
