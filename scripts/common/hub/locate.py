"""Find a base model (a folder, an installed package or the Hub at one commit) and check which of its files are here.

Imports neither torch nor transformers, so that login nodes can use it; `model.pretrained` loads the model.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import shlex
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.file_download import repo_folder_name

from common.config import catalog
from common.config.catalog import ROOT
from common.config.job import Job
from common.core import hub_errors
from common.core.errors import ConfigError, ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
GGUF = ".gguf"
SAVED = "peftable.json"  # in the folder of a fine-tuned model: its base, head and labels


@dataclasses.dataclass(frozen=True)
class Base:
    """Where a base model is: the arguments of `from_pretrained`.

    Attributes:
        name: a Hub id, or the path of a local folder or GGUF file.
        revision: branch, tag or commit on the Hub; None for a local folder or file.
    """

    name: str
    revision: str | None

    @property
    def is_gguf(self) -> bool:
        """Whether the model is a GGUF file, which `model.dequantize` makes a folder of."""
        return self.revision is None and self.name.endswith(GGUF)


def locate(model: str, revision: str) -> Base:
    """Return where a job's base model is.

    Args:
        model: the job's `model:`, a Hub id, a local folder or GGUF file, or `package:<module>/<path>` of one.
        revision: the job's `revision:`, used for a Hub id only.

    Raises:
        ModelError: the package is not installed, the folder has no config.json, or the file is no GGUF file.
    """
    if model.startswith("package:"):
        module, _, inner = model.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
        # The package is located, not imported: none of its code runs.
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(
                f"model {model}: the Python package '{module}' is not installed. `make setup` installs the packages "
                "of all jobs."
            )
        return Base(str(_check_local(Path(next(iter(spec.submodule_search_locations))) / inner, model)), None)
    if model.startswith((".", "/", "~")) or model.endswith(GGUF) or (ROOT / model).exists():
        # A relative path starts at the repository, in whatever folder the command is typed; as for data files.
        return Base(str(_check_local(ROOT / Path(model).expanduser(), model)), None)
    return Base(model, revision)


def _check_local(path: Path, model: str) -> Path:
    """Return the path of a model's folder or GGUF file."""
    if path.suffix == GGUF:
        try:
            with path.open("rb") as stream:
                is_gguf = stream.read(4) == b"GGUF"
        except OSError as error:
            raise ModelError(f"model {model}: {path} cannot be read: {error.strerror}.") from error
        if not is_gguf:
            raise ModelError(f"model {model}: {path} does not begin with the letters GGUF, so it is no GGUF file.")
    elif not (path / "config.json").is_file():
        raise ModelError(f"model {model}: {path} contains no config.json, so it is not a model folder.")
    return path


@functools.cache
def hub_commit(name: str, revision: str) -> str:
    """Return the commit of a Hub model's branch or tag; one answer per process, so that all files have one commit.

    It downloads config.json, too, so that a missing permission is an error here and not in a later, less clear message.

    Raises:
        ModelError: the name is not a Hub id, or the repository has no config.json.
    """
    try:
        commit = HfApi().resolve_revision(name, revision=revision).resolved
        hf_hub_download(name, "config.json", revision=commit)
    except HFValidationError as error:
        raise not_an_id_error(name) from error
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        raise no_config_error(name, revision) from error
    return commit


# --- files on this machine --------------------------------------------------------------------------------------------


def snapshot(name: str, revision: str) -> Path | None:
    """Return the folder of the Hub's cache from which an offline process reads a model, None if there is none."""
    try:
        commit = HfApi().resolve_revision(name, revision=revision, local_files_only=True).resolved
    except (HFValidationError, RevisionResolutionError, OSError):
        return None
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "snapshots" / commit
    return folder if folder.is_dir() else None


def find_missing_files(folder: Path) -> list[str]:
    """Return the files that a model's folder lacks for loading the model, [] if it is complete.

    Of weight files only the headers are read.
    """
    names = [] if (folder / "config.json").is_file() else ["config.json"]
    if not _has_vocabulary(folder):
        # Some tokenizers would load without it, with an empty vocabulary.
        names.append("the tokenizer's vocabulary (tokenizer.json or the like)")
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        try:
            shards = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            return [*names, INDEX]
        return names + [name for name in shards if not is_complete(folder / name)]
    return names if is_complete(folder / WEIGHTS) else [*names, WEIGHTS]


def _has_vocabulary(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("tokenizer.json", "tekken.json", "vocab.txt")):
        return True
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return True
    return any(file.is_file() for file in folder.glob("*.model"))


def is_complete(file: Path) -> bool:
    """Return whether a safetensors file exists and is as long as its header says: a copy may be incomplete.

    Source: https://github.com/huggingface/safetensors, section "Format".
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                return False
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return file.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return False


# --- messages ---------------------------------------------------------------------------------------------------------


def not_an_id_error(name: str) -> ModelError:
    """Return the error for a model name that is neither a folder nor a Hub id."""
    return ModelError(
        f"model {name}: is neither a folder nor a Hub id. A folder begins with './', '/' or '~', and a GGUF file ends "
        "with '.gguf'; an id is written <owner>/<name>."
    )


def no_config_error(name: str, revision: str) -> ModelError:
    """Return the error for a Hub repository without config.json."""
    return ModelError(
        f"model {name} (revision {revision}): the repository contains no config.json, so it is not a model of the "
        "transformers library (perhaps an adapter or GGUF repository). Name the base model that it was made from."
    )


def no_safetensors_message(base: Base, loader: str) -> str:
    """Return a message for a model without weights as safetensors, which says how to get them.

    Args:
        base: the model.
        loader: the transformers class that loads it for a conversion, such as "AutoModel".
    """
    hub = base.revision is not None
    # An offline process cannot know which files the Hub has.
    offline = hub and constants.is_offline_mode()
    perhaps = f"Perhaps only the cache lacks them: where there is internet, `{fetch_command(base)}`. "
    pull = (
        f"Look for a pull request with safetensors at https://huggingface.co/{base.name}/discussions and set "
        "revision: refs/pr/<number>, or convert"
        if hub
        else "Convert"
    )
    return (
        "it has no weights as safetensors (model.safetensors), and other formats, which can run code when they are "
        f"loaded, are not allowed. {perhaps if offline else ''}{pull} a model you trust: python -c "
        f"\"from transformers import {loader}, AutoTokenizer; m = '{base.name}'; f = 'models/converted'; "
        f'{loader}.from_pretrained(m).save_pretrained(f); AutoTokenizer.from_pretrained(m).save_pretrained(f)"; '
        "then model: ./models/converted"
    )


def hub_reason(error: BaseException, base: Base) -> str:
    """Return why a Hub model could not be loaded or downloaded, see `hub_errors.explain`."""
    known = {job.model for _, job in _jobs()}
    return hub_errors.explain(error, base.name, str(base.revision), fetch_command(base), known=known)


def fetch_command(base: Base) -> str:
    """Return the command that downloads a Hub model: `make fetch` if a job uses this model and revision."""
    for name, job in _jobs():
        if (job.model, job.revision) == (base.name, base.revision):
            return f"make fetch MODEL={shlex.quote(name)}"
    return f"hf download {shlex.quote(base.name)} --revision {shlex.quote(base.revision or 'main')}"


def _jobs() -> list[tuple[str, Job]]:
    """Return (name, job) for all jobs whose files are valid."""
    found = []
    for name in catalog.names(catalog.JOBS):
        with contextlib.suppress(ConfigError):
            found.append((name, catalog.load_job(name)[0]))
    return found
