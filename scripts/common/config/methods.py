"""The schemas of the fine-tuning methods: those written in `common/methods`, and those of the peft library by name.

The peft library is not imported here, because login nodes do not have it; it checks its keys when it attaches a method.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from common.core.schema import Strict


class LibraryMethod(Strict):
    """A method of the peft library; its keys are those of its config class and are checked when it is attached."""

    model_config = ConfigDict(extra="allow")
    OPTIONS: ClassVar[
        tuple[str, ...]
    ] = ()  # further allowed keys; (): all, because they are not known without the library

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> Any:
        allowed = [*cls.model_fields, *cls.OPTIONS]
        for key in value if isinstance(value, dict) else ():
            if key in SET_BY_TRAINING:
                raise ValueError(f"'{key}' follows from the job; leave it out")
            if cls.OPTIONS and key not in allowed:
                raise PydanticCustomError("unknown_option", "{key}", {"key": key, "allowed": allowed})
        return value


# Keys of peft's config classes that follow from the job.
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
    modules_to_save: list[str] | None = None  # modules that are trained in full; the head always is
    layers_to_transform: list[Annotated[int, Field(ge=0)]] | None = None  # None: every layer
    use_rslora: bool = False
    use_dora: bool = False


class OtherLibraryMethod(LibraryMethod):
    """Any other method of the peft library; the name is that of its `PeftType`, in lower case."""

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
    """Low-rank adaptation as implemented in `common/methods/lora.py`."""

    name: Literal["lora-from-scratch"]
    r: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)  # the update is scaled by alpha / r
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    modules_to_save: list[str] = []  # modules that are trained in full, besides the head; peft's name


class Adapters(Strict):
    """Bottleneck adapters as implemented in `common/methods/adapters.py`."""

    name: Literal["adapters"]
    size: int = Field(16, ge=1)  # width of the bottleneck
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    modules_to_save: list[str] = []  # modules that are trained in full, besides the head; peft's name


class LastLayers(Strict):
    """Train the last `k` layers of the encoder or decoder and everything after them; k = 0: the head only."""

    name: Literal["last-layers"]
    k: int = Field(2, ge=0)


class Full(Strict):
    """Train every parameter."""

    name: Literal["full"]


class Untrained(Strict):
    """Train nothing: the base model with a new, seeded head, which is the `untuned` baseline."""

    name: Literal["none"]


Method = Annotated[
    Lora | LoraFromScratch | Adapters | LastLayers | Full | Untrained | OtherLibraryMethod,
    Field(discriminator="name"),
]
