"""Download what jobs need of the Hugging Face Hub, where there is internet: a cluster's login node, say.

    python scripts/fetch.py                               models and datasets of all jobs
    python scripts/fetch.py --model llama-3-8b            of one job
    python scripts/fetch.py --dataset imdb                one dataset
    python scripts/fetch.py --dry-run                     what would be downloaded, and how much
    make fetch [MODEL=…] [DATASET=…] [SET=…] [DRY_RUN=1]

Everything goes into the shared cache (HF_HOME, default ~/.cache/huggingface), where jobs find it with HF_HUB_OFFLINE=1.
Of a model's repository only what is read is downloaded: config, tokenizer, safetensors. What is there is not downloaded
again. One that fails stops no other. Rows in files are not brought, only named where they are missing. Needs no torch.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants

from common.cli import options, sweeps
from common.cli.main import guard
from common.cli.target import resolve_target
from common.config import catalog
from common.config.dataset import Dataset
from common.config.job import Job
from common.config.run_request import RunRequest
from common.core import errors
from common.core.formatting import size, text_table
from common.hub import download, locate, presence
from common.hub.download import Download


@dataclasses.dataclass
class Items:
    """What the jobs need, each once: of the Hub, in place already or to be put there, and what the Hub refuses."""

    needs: list[Download] = dataclasses.field(default_factory=list)
    local: dict[str, str] = dataclasses.field(default_factory=dict)  # name to state
    failed: dict[str, errors.PeftableError] = dataclasses.field(default_factory=dict)
    _seen: set[tuple[str, str]] = dataclasses.field(default_factory=set)

    def add_model(self, job: Job) -> None:
        """Add a job's model."""
        loader = "AutoModelForCausalLM" if job.head == "prompt" else "AutoModel"

        def ask() -> Download | str:
            try:
                base = locate.locate(job.model, job.revision)
            except errors.ModelError as error:
                return f"missing: {error}"
            if base.revision is None:
                return presence.find_missing_model(base) or "here"
            return download.model_download(base, loader)

        self._add(f"model {job.model}", job.revision, ask)

    def add_rows(self, name: str, dataset: Dataset) -> None:
        """Add a dataset's rows."""
        source = dataset.source

        def ask() -> Download | str:
            if source.hub is None or Path(source.hub).is_dir():
                return presence.find_missing_rows(dataset) or "here"
            return download.rows_download(source)

        self._add(f"dataset {name}", source.revision, ask)

    def _add(self, name: str, revision: str, ask: Callable[[], Download | str]) -> None:
        if (name, revision) in self._seen:
            return
        self._seen.add((name, revision))
        try:
            found = ask()
            if isinstance(found, Download):
                self.needs.append(found)
            else:
                self.local[name] = found
        except errors.PeftableError as error:
            self.failed[name] = error

    def table(self) -> str:
        """Return all of it as a table."""
        rows = []
        for need in self.needs:
            there = None if need.remaining_bytes is None else (need.size_bytes or 0) - need.remaining_bytes
            state = "in the cache" if need.remaining_bytes == 0 else "to be downloaded"
            name = f"{need.kind} {need.name}"
            rows.append((name, need.revision, need.commit[:8], size(need.size_bytes), size(there), state))
        rows += [(name, "–", "–", "–", "–", state.split(":")[0]) for name, state in self.local.items()]
        rows += [(name, "–", "–", "–", "–", "FAILED") for name in self.failed]
        notes = [f"\n{name}: {state}" for name, state in self.local.items() if state != "here"]
        return "\n".join([text_table(("", "revision", "commit", "size", "in cache", "state"), rows), *notes])


def collect(request: RunRequest) -> Items:
    """Return everything that a request means, having asked the Hub about it."""
    items = Items()
    if request.dataset and not request.model:
        items.add_rows(request.dataset, catalog.load_dataset(request.dataset))
        return items
    for name in [request.model] if request.model else catalog.names(catalog.JOBS):
        try:
            variants = sweeps.variants(dataclasses.replace(request, model=name))
            targets = [resolve_target(variant) for variant in variants]
        except errors.ConfigError as error:
            if request.model:
                raise
            items.failed[f"job {name}"] = error
            continue
        for target in targets:
            items.add_model(target.job)
            items.add_rows(target.dataset_name, target.dataset)
    return items


def main(argv: list[str] | None = None) -> None:
    """Look, say, download; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set")
    parser.add_argument("--dry-run", action="store_true", help="say what would be downloaded, and do nothing")
    request, flags = options.parse(parser, argv)
    if constants.is_offline_mode():
        raise errors.ConfigError("HF_HUB_OFFLINE is set: unset it. Without the Hub there is make smoke DRY_RUN=1.")
    items = collect(request)
    wanted = [need for need in items.needs if need.remaining_bytes != 0]
    print(items.table())
    unknown = ", and more of unknown size" if any(need.remaining_bytes is None for need in wanted) else ""
    print(
        f"\n{size(sum(need.remaining_bytes or 0 for need in wanted))} to download{unknown}; "
        f"{size(download.free_bytes())} are free in {constants.HF_HUB_CACHE}"
    )
    if not flags.dry_run:
        download.check_disk_space(wanted)
        for need in items.needs:
            name = f"{need.kind} {need.name}"
            if need in wanted:
                print(f"downloading {name}, {size(need.remaining_bytes)} …", flush=True)
            try:
                download.fetch(need)
            except errors.PeftableError as error:
                items.failed[name] = error
        done = sum(f"{need.kind} {need.name}" not in items.failed for need in wanted)
        all_there = "nothing to download" + ("" if items.failed else ": it is all in the cache")
        print(f"downloaded {done} of {len(wanted)}" if wanted else all_there)
    for failure in items.failed.values():
        print(f"\nFAILED: {failure}", file=sys.stderr)
    if items.failed:
        kind = type(next(iter(items.failed.values())))
        raise kind(f"{len(items.failed)} could not be fetched: {errors.choices(items.failed, 40)}.")


if __name__ == "__main__":
    sys.exit(guard(main))
