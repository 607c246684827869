"""What a job needs of the Hub, how much of it is in the cache, and the download of the rest.

Jobs on compute nodes run with HF_HUB_OFFLINE=1: what they read was fetched before, on a machine with internet. Imports
neither torch nor transformers; the `datasets` library (no torch in it, either) only to download rows.
"""

import dataclasses
import fnmatch
import re
import shutil
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HFValidationError, OIDCError, RevisionResolutionError
from huggingface_hub.utils import httpx

from common.config.catalog import ROOT
from common.config.dataset import Dataset, Source
from common.config.job import Job
from common.core.errors import DataError, ModelError, PeftableError, choices
from common.core.formatting import size
from common.data import hub_dataset
from common.data.table_files import find_split_files
from common.hub import locate
from common.hub.locate import INDEX, WEIGHTS, Base

# What transformers reads beside the weights, at the top of a repository.
_SMALL = (
    *("config.json", "generation_config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tekken.json", "*.model", "*.jinja"),
)
_TEMPLATES = "additional_chat_templates/*.jinja"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_FAULTS = (OSError, ValueError, httpx.HTTPError, RevisionResolutionError, OIDCError)


@dataclasses.dataclass(frozen=True)
class Download:
    """A model or a data set of the Hub, as far as jobs need it.

    Attributes:
        kind: "model" or "data set".
        name, revision: as the YAML says.
        commit: what the revision is at the Hub now.
        size_bytes: of all that is needed; None where the Hub does not tell.
        remaining_bytes: of it, what is not in the cache: 0, where all is there; None where it is not known.
        files: of a model, those to download, the weights last.
        source: of a data set.
    """

    kind: str
    name: str
    revision: str
    commit: str
    size_bytes: int | None
    remaining_bytes: int | None
    files: tuple[str, ...] = ()
    source: Source | None = None


# --- what is needed ---------------------------------------------------------------------------------------------------


def model_download(base: Base, loader: str = "AutoModel") -> Download:
    """Ask the Hub what of a model's repository a job needs; downloads nothing.

    Args:
        base: with a revision, so of the Hub.
        loader: the class of transformers that a message names for converting the model.

    Raises:
        ModelError: not there, not allowed, not reachable, no model of transformers, or without safetensors.
    """
    try:
        info = HfApi().model_info(base.name, revision=base.revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        commit = str(info.sha)
        snapshot = locate.snapshot(base.name, commit)
        wanted = needed_files(list(sizes))
        absent = [name for name in wanted if snapshot is None or not _is_there(snapshot / name)]
        if info.gated and absent:
            HfApi().auth_check(base.name)  # of a gated model all may see the list, and few the files
    except HFValidationError as error:
        raise locate.no_id(base.name) from error
    except _FAULTS as error:
        raise _model_fault(error, base) from error
    if "config.json" not in wanted:
        raise locate.no_config(base.name, str(base.revision))
    if not wanted[-1].endswith(".safetensors"):
        raise ModelError(f"model {base.name} (revision {base.revision}): {locate.no_safetensors(base, loader)}")
    total, rest = (sum(sizes[name] for name in names) for names in (wanted, absent))
    return Download("model", base.name, str(base.revision), commit, total, rest, tuple(absent))


def _is_there(file: Path) -> bool:
    return locate.is_whole(file) if file.suffix == ".safetensors" else file.is_file()


def needed_files(names: list[str]) -> list[str]:
    """Return the files of a repository that loading its model reads, the weights last.

    One copy of the weights, as safetensors: not PyTorch's, TensorFlow's, Flax's, ONNX or GGUF, nor `consolidated` or
    `original/`.
    """
    small = [
        name
        for name in names
        if fnmatch.fnmatchcase(name, _TEMPLATES)
        or ("/" not in name and any(fnmatch.fnmatchcase(name, pattern) for pattern in _SMALL))
    ]
    # transformers, too, looks for the single file first.
    weights = [WEIGHTS] if WEIGHTS in names else [name for name in names if INDEX in names and _SHARD.fullmatch(name)]
    index = [INDEX] if weights not in ([], [WEIGHTS]) else []
    # A download that ends early leaves a model without weights, never one without its tokenizer.
    return [*sorted(small), *index, *sorted(weights)]


def rows_download(source: Source) -> Download:
    """Ask the Hub for a data set's commit and size; downloads nothing.

    Raises:
        DataError: not there, not allowed, not reachable.
    """
    name = str(source.hub)
    try:
        info = HfApi().dataset_info(name, revision=source.revision)
        here = hub_dataset.not_cached(source, info.sha) is None
        if info.gated and not here:
            HfApi().auth_check(name, repo_type="dataset")
    except _FAULTS as error:
        raise hub_dataset.fault(error, source) from error
    total = _rows_bytes(source, info.card_data.get("dataset_info") if info.card_data else None)
    return Download("data set", name, source.revision, str(info.sha), total, 0 if here else total, source=source)


def _rows_bytes(source: Source, card: object) -> int | None:
    """Return the bytes on disk of a data set's parts, downloaded and prepared, where its card tells."""
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


def check_room(needs: list[Download]) -> None:
    """Stop where what remains to be downloaded does not fit on the cache's disk.

    Raises:
        PeftableError: it does not; the message says how much is needed where.
    """
    wanted, free = sum(need.remaining_bytes or 0 for need in needs), free_bytes()
    if wanted > free:
        raise PeftableError(
            f"{size(wanted)} are to be downloaded to {constants.HF_HUB_CACHE}, where {size(free)} are free. Make room "
            "(`hf cache ls`, `hf cache rm`), fetch one job at a time (MODEL=…), or set HF_HOME to a folder on a larger "
            "disk, for this command and for the jobs."
        )


def free_bytes() -> int:
    """Return the free bytes on the disk of the Hub's cache, also before there is one."""
    folder = Path(constants.HF_HUB_CACHE).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fetch(need: Download) -> None:
    """Download what is not in the cache, so that an offline process finds the model or the rows at this revision.

    A connection that breaks is taken up again where it broke; a command that was stopped, at the file where it stopped.

    Raises:
        ModelError, DataError: not allowed, not reachable, or the branch moved meanwhile.
    """
    if need.source is not None:
        if hub_dataset.not_cached(need.source, need.commit):
            hub_dataset.read_hub(need.source)
        if fault := hub_dataset.not_cached(need.source):
            raise DataError(f"{fault} It was just downloaded; type the same command again.")
        return
    base = Base(need.name, need.revision)
    try:
        for file in need.files:
            _download(need, file)
        folder = locate.snapshot(need.name, need.commit)
        for file in locate.lacking(folder) if folder else []:
            if file.endswith(".safetensors"):  # a shard that the index names in its own way
                _download(need, file)
        # Last, so that a branch that moved leaves offline jobs what they had until the new commit is complete.
        HfApi().resolve_revision(need.name, revision=need.revision)
    except _FAULTS as error:
        raise _model_fault(error, base) from error
    if fault := missing_model(base):
        raise ModelError(
            f"{fault} It was just downloaded; if the branch has moved meanwhile, the same command mends it."
        )


def _download(need: Download, file: str) -> None:
    folder = locate.snapshot(need.name, need.commit)
    damaged = folder is not None and (folder / file).is_file() and not _is_there(folder / file)
    if folder and damaged:
        (folder / file).unlink()  # a copied cache may hold the file itself where the library keeps a link to it
    hf_hub_download(need.name, file, revision=need.commit, force_download=damaged)


def _model_fault(error: Exception, base: Base) -> ModelError:
    return ModelError(f"model {base.name}: cannot be fetched: {locate.hub_reason(error, base)}")


# --- without the Hub --------------------------------------------------------------------------------------------------


def missing(job: Job, dataset: Dataset, data_dir: Path | None = None, command: str = "make fetch") -> str | None:
    """Return why a job could not start with HF_HUB_OFFLINE=1, None where it could; asks no hub and reads no rows.

    Args:
        job: its model and revision count.
        dataset: its source counts.
        data_dir: a folder to read the rows from instead, as DATA_DIR gives it.
        command: what mends it where there is internet, such as "make fetch MODEL=llama-3-8b".
    """
    try:
        base = locate.locate(job.model, job.revision)
    except ModelError as error:
        return str(error)
    rows, rows_on_hub = missing_rows(dataset, data_dir), data_dir is None and dataset.source.hub is not None
    faults = [(missing_model(base), base.revision is not None), (rows, rows_on_hub)]
    found = "; ".join(fault.rstrip(".") for fault, _ in faults if fault)
    if any(fault and on_hub for fault, on_hub in faults):
        return f"{found}. Where there is internet: {command}."
    return f"{found}." if found else None


def check_model(base: Base) -> None:
    """Stop where a base model can be had neither from this machine nor from the Hub; downloads nothing.

    Raises:
        ModelError: it cannot; the message says why.
    """
    if (fault := missing_model(base)) and base.revision is None:
        raise ModelError(fault)
    if fault:
        model_download(base)


def missing_model(base: Base) -> str | None:
    """Return what of a base model is not on this machine, None where all is there."""
    if base.revision is None:
        lacking = locate.lacking(Path(base.name))
        return f"model {base.name}: the folder lacks {choices(lacking, 4)}." if lacking else None
    folder = locate.snapshot(base.name, base.revision)
    if folder is None:
        return f"model {base.name} (revision {base.revision}): it is not in this machine's cache."
    lacking = locate.lacking(folder)
    if not lacking:
        return None
    return f"model {base.name} (revision {base.revision}): this machine's cache lacks {choices(lacking, 4)}."


def missing_rows(dataset: Dataset, data_dir: Path | None = None) -> str | None:
    """Return what of a data set's rows is not on this machine, None where all is there."""
    if data_dir is not None:
        try:
            find_split_files(data_dir)
        except DataError as error:
            return str(error)
        return None
    source = dataset.source
    if source.hub is not None:
        return hub_dataset.not_cached(source)
    files = [source.files] if isinstance(source.files, str) else list((source.files or {}).values())
    absent = [name for name in files if not (ROOT / name).is_file()]
    return f"missing: {', '.join(absent)}; put them there, or give DATA_DIR=<folder>" if absent else None
