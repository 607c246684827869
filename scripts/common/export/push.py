"""Upload an exported folder to the Hugging Face Hub; private, unless asked for otherwise."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import httpx

from common.core import hub_errors
from common.core.errors import ConfigError, ModelError
from common.core.formatting import size
from common.runs.exported import check_files, export_format


@dataclasses.dataclass(frozen=True)
class Upload:
    """An exported folder, and the repository that gets it.

    Attributes:
        folder: exported, with unchanged files.
        repo: Hub id.
        public: whether everybody may see a new repository.
    """

    folder: Path
    repo: str
    public: bool

    @property
    def files(self) -> list[Path]:
        """The files that are uploaded; those whose names begin with a dot are not."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [path for path in found if not any(part.startswith(".") for part in path.relative_to(self.folder).parts)]

    def lines(self) -> Iterator[str]:
        """Yield what would be uploaded, as lines."""
        total = sum(file.stat().st_size for file in self.files)
        who = "public" if self.public else "private"
        yield f"to {self.repo} ({who}): {len(self.files)} files, {size(total)}"
        for file in self.files:
            yield f"  {file.relative_to(self.folder).as_posix()}  {size(file.stat().st_size)}"


def planned_upload(folder: Path, repo: str, public: bool) -> Upload:
    """Return what an upload would do, without asking the Hub.

    Raises:
        ConfigError: the folder is no export, or the name is no Hub id.
        ModelError: a file of the folder has changed.
    """
    if not folder.is_dir() or export_format(folder) is None:
        raise ConfigError(f"RUN={folder} is no exported folder; make one: make export RUN=<run folder> TO={folder}")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ConfigError(f"TO={repo} is no Hub id; it is written <owner>/<name>.")
    check_files(folder)
    return Upload(folder, repo, public)


def push(upload: Upload) -> str:
    """Upload a folder as one commit, and return the address of the repository.

    Raises:
        ConfigError: the repository is public, and the upload is not.
        ModelError: the Hub refuses it or cannot be reached.
    """
    api = HfApi()
    try:
        if not upload.public and _is_public(api, upload.repo):
            raise ConfigError(
                f"TO={upload.repo} exists and is public: everybody would see the upload. PUBLIC=1 means that."
            )
        address = api.create_repo(upload.repo, private=not upload.public, exist_ok=True)
        api.upload_folder(
            repo_id=upload.repo,
            folder_path=upload.folder,
            ignore_patterns=[".*", "**/.*"],
            commit_message="Upload an export of peftable",
        )
    except HFValidationError as error:
        raise ConfigError(f"TO={upload.repo} is no Hub id; it is written <owner>/<name>.") from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise ModelError(f"TO={upload.repo}: {_reason(error, upload.repo)}") from error
    return str(address)


def _is_public(api: HfApi, repo: str) -> bool:
    try:
        return not api.model_info(repo).private
    except RepositoryNotFoundError:
        return False


def _reason(error: Exception, repo: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            "the Hub does not let this account write there. Log in with a token that may write: `hf auth login`, or "
            "HF_TOKEN in the environment."
        )
    return hub_errors.explain(error, repo, "main", f"make push TO={repo}")
