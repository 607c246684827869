"""What a job and a dataset are: strict schemas, validated before anything is loaded.

Every key of a job has its default in `jobs/_defaults.yaml`; the schema has none of its own for them, so there is
one place to look. An unknown key, a wrong type or a value out of range is a `ConfigError` that names file, key path,
what was found, what is allowed and the nearest name.
"""

import string
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from common.errors import ConfigError, choices, nearest

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]
Label = str | int


class Strict(BaseModel):
    """A mapping that knows all its keys and takes no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True, allow_inf_nan=False)


T = TypeVar("T", bound=Strict)

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


class LibraryMethod(Strict):
    """A method of the peft library; keys are those of its config class there, and are checked when it is attached."""

    model_config = ConfigDict(extra="allow")
    OPTIONS: ClassVar[tuple[str, ...]] = ()  # further keys, where they are known without the library

    @model_validator(mode="before")
    @classmethod
    def _keys_are_the_users(cls, value: Any) -> Any:
        allowed = [*cls.model_fields, *cls.OPTIONS]
        for key in value if isinstance(value, dict) else ():
            if key in SET_BY_TRAINING:
                raise ValueError(f"'{key}' is set by the training itself; leave it out")
            if cls.OPTIONS and key not in allowed:
                raise PydanticCustomError("unknown_option", "{key}", {"key": key, "allowed": allowed})
        return value


# Keys of every peft config that follow from the job.
SET_BY_TRAINING = (
    "task_type",
    "peft_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
)


class Lora(LibraryMethod):
    """Low-rank adaptation with the peft library; keys are those of `peft.LoraConfig`."""

    OPTIONS = (
        "init_lora_weights",  # true | false | gaussian | olora | pissa | pissa_niter_<n> | orthogonal | eva | mica
        "eva_config",
        "exclude_modules",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "bias",
        "lora_bias",
        "fan_in_fan_out",
        "trainable_token_indices",
        "target_parameters",
        "ensure_weight_tying",
        "use_bdlora",
        "velora_config",
        "kasa_config",
    )

    name: Literal["lora"]
    r: int = Field(16, ge=1)
    lora_alpha: float = Field(32, gt=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    modules_to_save: list[str] | None = None  # trained whole beside the head, which always is
    layers_to_transform: list[Annotated[int, Field(ge=0)]] | None = None  # None: every layer
    use_rslora: bool = False
    use_dora: bool = False


class OtherLibraryMethod(LibraryMethod):
    """Any other method of the peft library, by its name there in lower case."""

    name: Literal[
        "adalora",
        "adamss",
        "adaption_prompt",
        "beft",
        "boft",
        "c3a",
        "cartridge",
        "cpt",
        "deft",
        "delora",
        "fourierft",
        "frod",
        "glora",
        "gralora",
        "hira",
        "hra",
        "ia3",
        "lily",
        "ln_tuning",
        "loha",
        "lokr",
        "miss",
        "multitask_prompt_tuning",
        "oft",
        "osf",
        "p_tuning",
        "peanut",
        "poly",
        "prefix_tuning",
        "prompt_tuning",
        "psoft",
        "pvera",
        "randlora",
        "road",
        "shadow",
        "shira",
        "supertuning",
        "tinylora",
        "trainable_tokens",
        "unilora",
        "vblora",
        "vera",
        "waveft",
        "xlora",
    ]


class LoraFromScratch(Strict):
    """Low-rank adaptation as written in `common/peft/lora.py`."""

    name: Literal["lora-from-scratch"]
    r: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)  # the update is scaled by alpha / r
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    modules_to_save: list[str] = []  # trained whole beside the head, as peft names it


class Adapters(Strict):
    """Bottleneck adapters as written in `common/peft/adapters.py`."""

    name: Literal["adapters"]
    size: int = Field(16, ge=1)  # width of the bottleneck
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    modules_to_save: list[str] = []  # trained whole beside the head, as peft names it


class LastLayers(Strict):
    """The last `k` layers of the encoder or decoder train, with everything above them; k = 0 is the head alone."""

    name: Literal["last-layers"]
    k: int = Field(2, ge=0)


class Full(Strict):
    """Every parameter trains."""

    name: Literal["full"]


class Untrained(Strict):
    """Nothing trains: the base model with a new, seeded head, as the `untuned` baseline has it."""

    name: Literal["none"]


Method = Annotated[
    Lora | LoraFromScratch | Adapters | LastLayers | Full | Untrained | OtherLibraryMethod,
    Field(discriminator="name"),
]


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


class Runtime(Strict):
    """How a run is carried out; nothing here changes its results, so it may change between two starts."""

    score_token_budget: int = Field(ge=16)
    checkpoint_minutes: float | None = Field(gt=0)  # extra checkpoints between evaluations
    keep_checkpoints: bool
    log_every: int = Field(ge=1)  # steps
    activation_checkpointing: bool
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
    return _impossible_in_library(job, method) if isinstance(method, LibraryMethod) else None


# Methods and options of the peft library that no job can use, and why.
_UNUSABLE = {
    "adamss": "it decomposes the base's weights when attached, so a job cannot be checked before they are loaded",
    "frod": "it decomposes the base's weights when attached, so a job cannot be checked before they are loaded",
    "shira": "it chooses among the base's weights when attached, so a job cannot be checked before they are loaded",
    "cartridge": "its model did not score the same after reloading (peft 0.21); prefix_tuning is its like",
    "cpt": "its prompt is made of one tokenizer's ids of labelled examples, and it classifies nothing itself",
    "multitask_prompt_tuning": "it learns several tasks at once; a job has one. prompt_tuning has none of its own",
    "poly": "it learns several tasks at once; a job has one",
    "xlora": "it mixes adapters that were trained before",
}
_UNUSABLE_INITS = {
    "corda": "it needs covariances of sampled activations, computed before the method is attached",
    "loftq": "it needs the unquantised weights beside the quantised ones",
    "lora_ga": "it needs gradients of the whole base, computed before the method is attached",
}
_OWN_HEAD = ("adaption_prompt", "trainable_tokens")
_VIRTUAL_TOKENS = ("p_tuning", "prefix_tuning", "prompt_tuning")
# What computes with the rounded weights' bytes as if they were numbers; measured with bitsandbytes 0.50, peft 0.21.
_NOT_QUANTIZED = {
    "nf4": ("deft", "delora", "glora", "hra", "loha", "lokr", "osf", "peanut", "psoft", "supertuning", "tinylora"),
    "int8": ("deft", "delora", "glora", "hra", "osf", "peanut", "psoft", "supertuning", "tinylora"),
}
_INITS_NOT_QUANTIZED = ("pissa", "orthogonal", "mica")


def _impossible_in_library(job: Job, method: LibraryMethod) -> str | None:
    """Return why a method of the peft library cannot work in a job, None where it can."""
    name, options = method.name, method.model_extra or {}  # type: ignore[attr-defined]
    init = options.get("init_lora_weights", True)
    if name in _UNUSABLE:
        return f"method {name} cannot be used: {_UNUSABLE[name]}"
    if init in _UNUSABLE_INITS:
        return f"method.init_lora_weights {init} cannot be used: {_UNUSABLE_INITS[init]}"
    if name == "adalora" and not isinstance(init, bool):
        return f"method adalora starts in its own way: leave init_lora_weights {init} out, or use method lora"
    if name == "adalora" and "orth_reg_weight" in options:
        return "method adalora: orth_reg_weight would have no effect, since our loss is the cross-entropy alone"
    if name == "adalora" and not options.get("total_step"):
        return "method adalora plans its ranks over the run: give total_step, epochs times rows over batch_size"
    if name in _OWN_HEAD and job.head == "classification":
        return f"method {name} cannot train a classification head beside it, which would stay random; use another"
    if name in _VIRTUAL_TOKENS and job.head == "prompt":
        return f"method {name} puts virtual tokens before the text, where the prompt head counts positions; use another"
    if name == "prefix_tuning" and job.runtime.activation_checkpointing:
        return f"method {name} feeds the layers' caches, which runtime.activation_checkpointing does away with"
    if name in _NOT_QUANTIZED.get(job.quantization, ()):
        return f"method {name} computes with the base's weights, which quantization {job.quantization} has rounded away"
    if job.quantization != "none" and str(init).startswith(_INITS_NOT_QUANTIZED):
        return f"method.init_lora_weights {init} decomposes the base's weights: it needs quantization: none"
    if getattr(method, "use_dora", False) and job.quantization == "int8":
        return "method.use_dora needs the weights' norms, which peft cannot take of quantization: int8; use nf4 or none"
    if name == "shadow" and job.dtype == "bfloat16":
        return "method shadow trains in the base's dtype: it needs dtype: float32"
    if (name == "p_tuning" or options.get("prefix_projection")) and job.precision == "bfloat16":
        return f"method {name} saves what its encoder computes, rounded differently: it needs precision: float32"
    return None


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

    @model_validator(mode="after")
    def _one_source(self) -> "Source":
        if (self.files is None) == (self.hub is None):
            raise ValueError("give either `files` or `hub`")
        if self.files == {}:
            raise ValueError("`files` names no file")
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


# --- validation ------------------------------------------------------------------------------------------------------


def validate(schema: type[T], value: dict[str, Any], origin: str) -> T:
    """Return `value` as a `schema`, or raise one `ConfigError` that lists every fault.

    Args:
        schema: the model to validate against.
        value: a mapping of plain values.
        origin: the file, for the message.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        faults = list(dict.fromkeys(_describe(schema, value, dict(fault)) for fault in error.errors()))
        raise ConfigError("\n       ".join(f"{origin}: {fault}" for fault in faults)) from None


def _describe(schema: type[Strict], document: dict[str, Any], fault: dict[str, Any]) -> str:
    """Say one pydantic fault in the words of the file."""
    location: list[Any] = []
    here: Any = document
    owner: type[Strict] | None = schema
    for part in fault["loc"]:
        inside = (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int))
        if inside:
            owner = _field_model(owner, part, here[part]) if isinstance(here, dict) else owner
            here = here[part]
            location.append(part)
        elif fault["type"] == "missing" and part == fault["loc"][-1]:
            location.append(part)
        # Other parts are pydantic's names for the branch of a union.
    path = ".".join(str(part) for part in location)
    if fault["type"] in ("extra_forbidden", "unknown_option"):
        if fault["type"] == "unknown_option":
            allowed = fault["ctx"]["allowed"]
            location.append(fault["ctx"]["key"])
            path = ".".join(str(part) for part in location)
        else:
            parent = _owner(schema, document, location[:-1])
            allowed = _keys(parent) if parent else []
        return f"unknown key '{path}'.{nearest(location[-1], allowed)} Allowed here: {choices(allowed, 30)}."
    if fault["type"] == "missing":
        return f"the key '{path}' is missing."
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        branches = get_args(get_args(Method)[0])
        tags = [tag for branch in branches for tag in get_args(branch.model_fields["name"].annotation)]
        found = here.get("name") if isinstance(here, dict) else here
        return f"'{path}.name' is {found!r}.{nearest(found, tags)} Allowed: {choices(tags)}."
    if fault["type"] == "value_error":
        return f"{path + ': ' if path else ''}{fault['msg'].removeprefix('Value error, ')}."
    # true, 2016 and 2026-01-01 are words only in quotes.
    word = here is None or (fault["type"] == "string_type" and not isinstance(here, dict | list))
    hint = " (quote it in YAML to mean the word)" if word else ""
    rule = fault["msg"].removeprefix("Input should be ")
    near = (
        nearest(here, fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
        if fault["type"] == "literal_error"
        else ""
    )
    return f"'{path}' is {here!r}{hint}; allowed is {rule}.{near}"


def _keys(model: type[Strict]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _field_model(owner: type[Strict] | None, key: Any, value: Any) -> type[Strict] | None:
    """Return the schema behind a key of `owner`, choosing a union's branch by the value's `name`."""
    if owner is None:
        return None
    field = next((field for name, field in owner.model_fields.items() if key in (name, field.alias)), None)
    if field is None:
        return None
    pending, models = [field.annotation], []
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, Strict):
            models.append(annotation)
        pending += [argument for argument in get_args(annotation) if argument is not None]
    if len(models) > 1 and isinstance(value, dict):
        models = [model for model in models if value.get("name") in get_args(model.model_fields["name"].annotation)]
    return models[0] if len(models) == 1 else None


def _owner(schema: type[Strict], document: dict[str, Any], location: list[Any]) -> type[Strict] | None:
    """Return the schema of the mapping at `location`."""
    owner: type[Strict] | None = schema
    here: Any = document
    for part in location:
        here = here[part]
        if not isinstance(part, int):
            owner = _field_model(owner, part, here)
    return owner
