"""Find out which files of the Hub a job needs and which of them the cache lacks, and download those (`make fetch`).

Jobs on compute nodes run with HF_HUB_OFFLINE=1 and read files that were downloaded before, on a machine with internet.
Imports neither torch nor transformers, and the `datasets` library (which does not import torch) only to download rows.
"""

import dataclasses
import fnmatch
import re
import shutil
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HFValidationError, OIDCError, RevisionResolutionError
from huggingface_hub.utils import httpx

from common.config.dataset import Source
from common.core.errors import DataError, ModelError, PeftableError
from common.core.formatting import size
from common.data import hub_dataset
from common.hub import locate, presence
from common.hub.locate import INDEX, WEIGHTS, Base

# The files at the top of a repository that transformers reads, except the weights.
_SMALL = (
    *("config.json", "generation_config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tekken.json", "*.model", "*.jinja"),
)
_TEMPLATES = "additional_chat_templates/*.jinja"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_HUB_EXCEPTIONS = (OSError, ValueError, httpx.HTTPError, RevisionResolutionError, OIDCError)


@dataclasses.dataclass(frozen=True)
class Download:
    """The files of a model or a dataset on the Hub that jobs download.

    Attributes:
        kind: "model" or "dataset".
        name, revision: as in the YAML file.
        commit: the commit that the revision means on the Hub now.
        size_bytes: size of all files that are needed; None if the Hub does not say it.
        remaining_bytes: size of those that the cache lacks, 0 if it has all; None if it is not known.
        files: for a model, the files to download, weights last.
        source: for a dataset, its source in the YAML file.
    """

    kind: str
    name: str
    revision: str
    commit: str
    size_bytes: int | None
    remaining_bytes: int | None
    files: tuple[str, ...] = ()
    source: Source | None = None


# --- files needed -----------------------------------------------------------------------------------------------------


def model_download(base: Base, loader: str = "AutoModel") -> Download:
    """Ask the Hub which files of a model a job needs; download nothing.

    Args:
        base: a model of the Hub.
        loader: the transformers class that a message names for converting the model.

    Raises:
        ModelError: the model does not exist, access is denied, the Hub cannot be reached, or the repository is not a
            model of transformers with safetensors.
    """
    try:
        info = HfApi().model_info(base.name, revision=base.revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        commit = str(info.sha)
        snapshot = locate.snapshot(base.name, commit)
        wanted = needed_files(list(sizes))
        absent = [name for name in wanted if snapshot is None or not _is_present(snapshot / name)]
        if info.gated and absent:
            HfApi().auth_check(base.name)  # everyone may list the files of a gated model, but not read them
    except HFValidationError as error:
        raise locate.not_an_id_error(base.name) from error
    except _HUB_EXCEPTIONS as error:
        raise _download_error(error, base) from error
    if "config.json" not in wanted:
        raise locate.no_config_error(base.name, str(base.revision))
    if not wanted[-1].endswith(".safetensors"):
        raise ModelError(f"model {base.name} (revision {base.revision}): {locate.no_safetensors_message(base, loader)}")
    total, rest = (sum(sizes[name] for name in names) for names in (wanted, absent))
    return Download("model", base.name, str(base.revision), commit, total, rest, tuple(absent))


def _is_present(file: Path) -> bool:
    return locate.is_complete(file) if file.suffix == ".safetensors" else file.is_file()


def needed_files(names: list[str]) -> list[str]:
    """Return the files of a repository that are read when its model is loaded, weights last.

    Weights are included once, as safetensors: not those of PyTorch, TensorFlow, Flax, ONNX or GGUF, and not
    `consolidated` or `original/`.
    """
    small = [
        name
        for name in names
        if fnmatch.fnmatchcase(name, _TEMPLATES)
        or ("/" not in name and any(fnmatch.fnmatchcase(name, pattern) for pattern in _SMALL))
    ]
    # As in transformers: the single file comes before the shards.
    weights = [WEIGHTS] if WEIGHTS in names else [name for name in names if INDEX in names and _SHARD.fullmatch(name)]
    index = [INDEX] if weights not in ([], [WEIGHTS]) else []
    # Weights last: an interrupted download leaves a model without weights, never a model without its tokenizer.
    return [*sorted(small), *index, *sorted(weights)]


def rows_download(source: Source) -> Download:
    """Ask the Hub for the commit and size of a dataset; download nothing.

    Raises:
        DataError: the dataset does not exist, access is denied, or the Hub cannot be reached.
    """
    name = str(source.hub)
    try:
        info = HfApi().dataset_info(name, revision=source.revision)
        is_cached = hub_dataset.find_missing(source, info.sha) is None
        if info.gated and not is_cached:
            HfApi().auth_check(name, repo_type="dataset")
    except _HUB_EXCEPTIONS as error:
        raise hub_dataset.load_error(error, source) from error
    total = _rows_bytes(source, info.card_data.get("dataset_info") if info.card_data else None)
    return Download("dataset", name, source.revision, str(info.sha), total, 0 if is_cached else total, source=source)


def _rows_bytes(source: Source, card: object) -> int | None:
    """Return the bytes on disk of a dataset's parts, downloaded and prepared; None if its card does not say it."""
    entries = card if isinstance(card, list) else [card]
    known = {entry.get("config_name", "default"): entry for entry in entries if isinstance(entry, dict)}
    only = next(iter(known)) if len(known) == 1 else "default"
    total = 0
    for part in source.parts:
        entry = known.get(part.config or only, {})
        try:
            total += int(entry["download_size"]) + int(entry["dataset_size"])
        except (KeyError, TypeError, ValueError):
            return None
    return total


# --- the download -----------------------------------------------------------------------------------------------------


def check_disk_space(downloads: list[Download]) -> None:
    """Check that the downloads fit on the disk of the Hub's cache.

    Raises:
        PeftableError: they do not fit; the message says how much space is needed, and where.
    """
    needed, free = sum(one.remaining_bytes or 0 for one in downloads), free_bytes()
    if needed > free:
        raise PeftableError(
            f"{size(needed)} must be downloaded to {constants.HF_HUB_CACHE}, but only {size(free)} are free. Free some "
            "space (`hf cache ls`, `hf cache rm`), fetch one job at a time (MODEL=…), or set HF_HOME to a folder on a "
            "larger disk, for this command and for the jobs."
        )


def free_bytes() -> int:
    """Return the free bytes on the disk of the Hub's cache, also before its folder exists."""
    folder = Path(constants.HF_HUB_CACHE).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fetch(download: Download) -> None:
    """Download the files that the cache lacks, so that an offline process finds the model or the rows.

    After an interrupted connection, the download continues within the file; after a stopped command, with that file.

    Raises:
        ModelError, DataError: access is denied, the Hub cannot be reached, or the branch has moved since.
    """
    if download.source is not None:
        if hub_dataset.find_missing(download.source, download.commit):
            hub_dataset.read_hub(download.source)
        if problem := hub_dataset.find_missing(download.source):
            raise DataError(f"{problem} It was just downloaded; type the same command again.")
        return
    base = Base(download.name, download.revision)
    try:
        for file in download.files:
            _download_file(download, file)
        folder = locate.snapshot(download.name, download.commit)
        for file in locate.find_missing_files(folder) if folder else []:
            if file.endswith(".safetensors"):  # a shard whose name does not match `_SHARD`
                _download_file(download, file)
        # Last: until the new commit of a branch is complete, offline jobs use the old one.
        HfApi().resolve_revision(download.name, revision=download.revision)
    except _HUB_EXCEPTIONS as error:
        raise _download_error(error, base) from error
    if problem := presence.find_missing_model(base):
        raise ModelError(
            f"{problem} It was just downloaded; if the branch has moved meanwhile, the same command downloads it."
        )


def _download_file(download: Download, file: str) -> None:
    folder = locate.snapshot(download.name, download.commit)
    damaged = folder is not None and (folder / file).is_file() and not _is_present(folder / file)
    if folder and damaged:
        (folder / file).unlink()  # in a copied cache this may be a file, not a link: the library would not replace it
    hf_hub_download(download.name, file, revision=download.commit, force_download=damaged)


def _download_error(error: Exception, base: Base) -> ModelError:
    return ModelError(f"model {base.name}: cannot be downloaded: {locate.hub_reason(error, base)}")


# --- checks ----------------------------------------------------------------------------------------------------------


def check_model(base: Base) -> None:
    """Check that a base model is on this machine or can be downloaded; download nothing.

    Raises:
        ModelError: neither is true; the message says why.
    """
    if (problem := presence.find_missing_model(base)) and base.revision is None:
        raise ModelError(problem)
    if problem:
        model_download(base)


def check_weights(base: Base, loader: str = "AutoModel") -> bool | None:
    """Check that a base model does not have its weights in other formats alone, such as `pytorch_model.bin`.

    Nothing is downloaded: of a model of the Hub that the cache lacks, the list of files is asked for.

    Args:
        base: the model; a folder without any weights is not refused here.
        loader: the transformers class that a message names for converting the model.

    Returns:
        Whether its weights are there; False where it has none of any format. None where the cache lacks them and the
        Hub is not asked (HF_HUB_OFFLINE=1) or does not answer.

    Raises:
        ModelError: there are weights, but none as safetensors.
    """
    problem = ModelError(f"model {base.name}: {locate.no_safetensors_message(base, loader)}")
    if base.is_gguf:
        return True
    if base.revision is None:
        names = [file.name for file in Path(base.name).iterdir()]
    elif presence.find_missing_model(base) is None:
        return True
    elif constants.is_offline_mode():
        return None
    else:
        try:
            info = HfApi().model_info(base.name, revision=base.revision, timeout=10)
        except (HFValidationError, *_HUB_EXCEPTIONS):
            return None
        names = [file.rfilename for file in info.siblings or []]
    found = any(name.endswith(".safetensors") for name in names)
    if not found and any(map(_is_other_weights, names)):
        raise problem
    return found


def _is_other_weights(name: str) -> bool:
    return name.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")) and "training_args" not in name
