"""Look before you train: is the job sound, do the rows fit, how long are they, how large is the model?

    python scripts/check.py --model minilm-lora
    python scripts/check.py --model minilm-lora --dataset mine --data-dir ~/rows --json
    python scripts/check.py --model minilm-lora --no-data      parameter counts alone
    make check MODEL=minilm-lora DATASET=mine

Reads the model's config and tokenizer, never its weights; with --no-data, of a model whose shape is known (those in
scripts/common/model/architectures.yaml) not even these. Exit code 0 means that `make train` can start. Of a `sweep:`
all variants are checked and counted; rows and tokens once, as the first one has them.
"""

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.cli import options, sweeps
from common.cli.main import guard
from common.cli.target import Target, resolve_target
from common.config import recipe
from common.config.job import Job
from common.core import errors
from common.core.formatting import one_line, printable_json, text_table
from common.data import checks, leaks
from common.data.load import load_all_splits
from common.data.rows import LoadedRows, Rows
from common.data.splits import sample_train_rows
from common.evaluation import smallest_difference

if TYPE_CHECKING:
    from common.model.shapes import ModelShape


def main(argv: list[str] | None = None) -> None:
    """Check one job; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "data", "outputs", "strict")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--no-data", action="store_true", help="parameter counts alone; reads no rows")
    parser.add_argument(
        "--config-only", action="store_true", help="validate the YAML files alone; fit for a login node"
    )
    request, flags = options.parse(parser, argv)
    if flags.strict and (flags.no_data or flags.config_only):
        raise errors.ConfigError(
            "STRICT is about the rows, which --no-data and --config-only do not read; leave one out"
        )
    variants = sweeps.variants(request)
    target, *_ = targets = [resolve_target(variant) for variant in variants]
    found: dict[str, Any] = {"schema": 1, "job": target.job_name, "dataset": target.dataset_name}
    each: list[dict[str, Any]] = [{"variant": one.variant} for one in targets]
    if not flags.config_only:
        from common.estimate import memory  # seconds to import

        with contextlib.redirect_stdout(sys.stderr):  # nothing but the result on stdout
            rows: Rows = {}
            if not flags.no_data:
                rows = loaded = load_all_splits(target.dataset, request.data_dir)
                targets = [
                    _with_labels(one, loaded) if one.dataset_name == target.dataset_name else one for one in targets
                ]
                target = targets[0]
            # Of a sweep, memory is estimated for the variant that trains most, as far as that is known.
            estimated, shape, most = target, None, -1
            for place, one, variant in zip(each, targets, variants, strict=True):
                try:
                    found_shape = _shape(one, rows)
                except errors.PeftableError as error:
                    raise type(error)(f"SET={sweeps.label(variant)}: {error}" if len(each) > 1 else error) from error
                place |= found_shape.counts
                if (trainable := place["params_trainable_count"] or 0) > most:
                    estimated, shape, most = one, found_shape, trainable
            found |= _about_head(target)
            found |= _about_rows(target, loaded, flags.strict) if rows else {}
            found |= {"memory_estimate_variant": estimated.variant} if len(each) > 1 else {}
            found |= memory.estimate(estimated.job, estimated.dataset, shape)
    found |= each[0] if len(each) == 1 else {"variants": each}
    as_json = printable_json(json.dumps(found, indent=2, ensure_ascii=False)) if flags.json else ""
    print(as_json or _for_people(found, targets))


def _with_labels(target: Target, rows: LoadedRows) -> Target:
    """Return the target with the labels that its rows have, for a dataset with `labels: all`."""
    takes_all = target.dataset.takes_all_labels
    return dataclasses.replace(target, dataset=target.dataset.with_labels(rows.dataset.labels)) if takes_all else target


def _shape(target: Target, rows: Rows) -> "ModelShape":
    """Check the training arguments of one run, and return the shape of its model."""
    from common.model.load import quiet_libraries
    from common.train.arguments import check_training_arguments

    quiet_libraries()
    train = sample_train_rows(rows["train"], target.job, target.dataset) if rows else []
    return check_training_arguments(target.job, target.dataset, train, trains_here=False)


def _about_head(target: Target) -> dict[str, Any]:
    from common.hub.locate import locate
    from common.model.finished_head import describe, head_labels

    job = target.job
    about = describe(job, head_labels(job, locate(job.model, job.revision)), target.dataset)
    return {"finished_head": about} if about else {}


def _about_rows(target: Target, rows: LoadedRows, strict: bool) -> dict[str, Any]:
    from common.hub import download, locate
    from common.train.row_checks import check_rows

    base = locate.locate(target.job.model, target.job.revision)
    found = download.check_weights(base, "AutoModelForCausalLM" if target.job.head == "prompt" else "AutoModel")
    about = {"weights_found": found} | check_rows(target.job, target.dataset, rows)
    if strict:
        leaks.check_strict(about)
    if test := len(rows.get("test", ())):
        paired = smallest_difference.paired(test)
        unpaired = smallest_difference.unpaired(test)
        about["smallest_difference"] = {"paired": None if math.isnan(paired) else paired, "unpaired": unpaired}
    return about | {
        "dropped_rows_count": rows.dropped_rows_count,
        "notes": rows.notes,
        "file_notes": rows.file_notes,
    }


def _for_people(found: dict[str, Any], targets: Sequence[Target]) -> str:
    each, target = found.get("variants", [found]), targets[0]
    variant = f" ({found['variant']})" if found.get("variant") else ""
    lines = [f"job {found['job']}{variant} on dataset {found['dataset']}"]
    if "splits" in found:
        lines += checks.describe(found, target.dataset, target.job.max_length)
        if "smallest_difference" in found:
            lines += ["", *smallest_difference.describe(found["splits"]["test"]["n"])]
        lines += [f"note: {one_line(note)}" for note in found["notes"]]
    if "finished_head" in found:
        lines += ["", found["finished_head"]]
    if len(each) > 1:
        lines += ["", f"A sweep of {len(each)} variants", _variant_table(each)]
    elif found.get("params_total_count"):
        total, trainable, share = _counts(found)
        lines += ["", f"Parameters: {total} in all, {trainable} trainable ({share})"]
    if "memory_estimate_bytes" in found:
        about = found.get("memory_estimate_variant")
        lines += _memory(found, next((one.job for one in targets if one.variant == about), target.job))
    unusual = [f"hint: {hint}" for hint in recipe.hints(target.job)]
    return "\n".join([*lines, *unusual, "", _verdict(found, each)])


def _verdict(found: dict[str, Any], each: Sequence[dict[str, Any]]) -> str:
    """Return the last line: that the job is sound, or what was not looked at."""
    missing = [] if "splits" in found else ["rows and their tokens"]
    if "splits" in found and not found["near_duplicates"]["searched"]:
        missing.append("near duplicates")
    if not found.get("weights_found"):
        outcome = ", which could not be looked for" if found.get("weights_found") is None else ", which were not found"
        missing.append("the base's weights" + (outcome if "splits" in found else ""))
    if "params_total_count" not in each[0]:
        missing.append("the model, its tokenizer and the training arguments")
    return f"The job is sound, but not looked at: {'; '.join(missing)}." if missing else "The job is sound."


def _counts(part: dict[str, Any]) -> tuple[str, str, str]:
    total, trainable = part["params_total_count"], part["params_trainable_count"]
    if total is None:  # known once the weights are there
        return "–", "–", "–"
    return f"{total:,}", f"{trainable:,}", f"{trainable / total:.2%}"


def _variant_table(each: list[dict[str, Any]]) -> str:
    header = ["variant", "parameters", "trainable", "share"] if "params_total_count" in each[0] else ["variant"]
    own = "(the job's own settings)"
    return text_table(header, [[one["variant"] or own, *(_counts(one) if len(header) > 1 else ())] for one in each])


def _memory(found: dict[str, Any], job: Job) -> list[str]:
    known = {name: size for name, size in found["memory_estimate_parts_bytes"].items() if size is not None}
    if not known:
        return [f"Parameters and GPU memory of method {job.method.name} depend on the base's weights, not read here."]
    parts = ", ".join(f"{name.replace('_', ' ')} {size / 1e9:.2f}" for name, size in known.items())
    of = f", of {found['memory_estimate_variant']}" if "memory_estimate_variant" in found else ""
    step = f"GPU memory of a training step of {job.training.token_budget:,} tokens{of}"
    if (total := found["memory_estimate_bytes"]) is None:
        return [f"{step}: activations cannot be estimated for method {job.method.name}; without them {parts} GB"]
    score = f"GPU memory of scoring {job.runtime.score_token_budget:,} tokens between two steps{of}"
    return [
        f"{step}: about {total / 1e9:.2f} GB ({parts})",
        f"{score}: about {found['memory_estimate_score_bytes'] / 1e9:.2f} GB",
    ]


if __name__ == "__main__":
    sys.exit(guard(main))
