"""Load a config, tokenizer or model by transformers, at one commit; every failure is a `ModelError`."""

from pathlib import Path
from typing import Any

from huggingface_hub.errors import OIDCError, RevisionResolutionError
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig

from common.core import hub_errors
from common.core.errors import ModelError
from common.hub import locate
from common.hub.locate import Base, hub_commit
from common.model import dequantize

_HUB = (httpx.HTTPError, RevisionResolutionError, OIDCError)
_DAMAGED = (AttributeError, KeyError, TypeError)  # what transformers raises for JSON of another form
_FAULTS = (OSError, ValueError, ImportError, SafetensorError, *_HUB)


def from_pretrained(kind: Any, base: Base, **options: Any) -> Any:
    """Load and return a config, tokenizer or model.

    Args:
        kind: the transformers class, such as AutoConfig. A config gets the commit as its `_commit_hash`.
        base: the folder or the Hub's model and revision.
        options: of the class's `from_pretrained`.

    Raises:
        ModelError: the model is missing, not allowed, not reachable, not safetensors, or needs its own Python code.
    """
    faults = (*_FAULTS, *_DAMAGED) if kind in (AutoConfig, AutoTokenizer) else _FAULTS
    try:
        commit = hub_commit(base.name, base.revision) if base.revision else None
        # A commit, not a branch: all files are of one state, and transformers does not replace missing safetensors by
        # those of a stranger's pull request (`auto_conversion`, which it does for the revision "main" alone).
        loaded = kind.from_pretrained(_place(kind, base), revision=commit or "main", trust_remote_code=False, **options)
    except faults as error:
        raise ModelError(f"model {base.name}: cannot be loaded: {_reason(error, kind, base)}") from error
    if isinstance(loaded, PretrainedConfig):
        loaded._commit_hash = commit  # transformers 5 no longer sets it
    return loaded


def _place(kind: Any, base: Base) -> str:
    """Return the Hub id or the folder that `from_pretrained` reads."""
    if not base.is_gguf:
        return base.name
    reads_weights = kind not in (AutoConfig, AutoTokenizer)
    return str((dequantize.model_folder if reads_weights else dequantize.config_folder)(Path(base.name)))


def _reason(error: Exception, kind: Any, base: Base) -> str:
    text = str(error)
    if "custom code" in text or "trust_remote_code" in text:
        return (
            "it needs Python code of its own, which is never executed here (trust_remote_code is off). "
            "Choose a model whose architecture is part of the transformers library."
        )
    if "safetensors" in text and ("no file named" in text or "not appear to have a file named" in text):
        return locate.no_safetensors_message(base, kind.__name__.replace("ForSequenceClassification", ""))
    return hub_errors.first_line(error) if base.revision is None else locate.hub_reason(error, base)
