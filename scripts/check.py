"""Look before you train: is the job sound, do the rows fit, how long are they, how large is the model?

    python scripts/check.py --model minilm-lora
    python scripts/check.py --model minilm-lora --dataset mine --data-dir ~/rows --json
    python scripts/check.py --model minilm-lora --no-data      parameter counts alone
    make check MODEL=minilm-lora DATASET=mine

Reads the model's config and tokenizer, never its weights. Exit code 0 means that `make train` can start. Of a `sweep:`
all variants are checked and counted; rows and tokens once, as the first one has them.
"""

import contextlib
import json
import sys
from typing import Any

from common import cli, data, datachecks, errors, sweeps
from common.tables import text_table


def main(argv: list[str] | None = None) -> None:
    """Check one job; see the module."""
    parser = cli.parser(__doc__, "model", "dataset", "set", "data")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--no-data", action="store_true", help="parameter counts alone; reads no rows")
    parser.add_argument(
        "--config-only", action="store_true", help="validate the YAML files alone; fit for a login node"
    )
    arguments = parser.parse_args(argv)
    variants = sweeps.variants(arguments)
    target, *_ = targets = [cli.target(variant) for variant in variants]
    found: dict[str, Any] = {"schema": 1, "job": target.job_name, "dataset": target.dataset_name}
    each: list[dict[str, Any]] = [{"variant": one.variant} for one in targets]
    if not arguments.config_only:
        with contextlib.redirect_stdout(sys.stderr):  # nothing but the result on stdout
            rows = {} if arguments.no_data else data.load_all_splits(target.dataset, target.data_dir)
            for place, one, variant in zip(each, targets, variants, strict=True):
                try:
                    place |= _parameters(one, rows)
                except errors.PeftableError as error:
                    raise type(error)(f"SET={sweeps.label(variant)}: {error}" if len(each) > 1 else error) from error
            found |= _about_rows(target, rows) if rows else {}
    found |= each[0] if len(each) == 1 else {"variants": each}
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else _for_people(found, target))


def _parameters(target: cli.Target, rows: data.Rows) -> dict[str, int]:
    """Check one recipe, and return its parameter counts."""
    from common import models, recipes

    models.quiet_libraries()
    recipes.check_recipe(target.job, target.dataset, rows.get("train", []))
    return models.count_parameters(target.job, target.dataset)


def _about_rows(target: cli.Target, rows: data.Rows) -> dict[str, Any]:
    from common import models

    tokenizer = models.load_tokenizer(models.locate(target.job.model, target.job.revision))
    encoder = models.row_encoder(target.job, target.dataset, tokenizer)
    tokens = {}
    for split, members in rows.items():
        lengths = encoder.lengths(members)
        over = sum(length > target.job.max_length for length in lengths)
        tokens[split] = datachecks.token_lengths(lengths, over)
    return {
        "splits": datachecks.counts(rows, target.dataset),
        "duplicates": datachecks.duplicates(rows),
        "contradictions": datachecks.contradictions(rows, target.dataset),
        "tokens": tokens,
    }


def _for_people(found: dict[str, Any], target: cli.Target) -> str:
    each = found.get("variants", [found])
    variant = f" ({found['variant']})" if found.get("variant") else ""
    lines = [f"job {found['job']}{variant} on dataset {found['dataset']}"]
    if "splits" in found:
        labels = [str(label) for label in target.dataset.labels]
        lines += ["", "Rows", _count_table(found["splits"], "labels", labels)]
        groups = sorted({group for split in found["splits"].values() for group in split["groups"]})
        if groups:
            lines += ["", f"Rows by {target.dataset.group}", _group_table(found["splits"], groups)]
        lines += ["", f"Tokens (max_length {target.job.max_length})", _token_table(found["tokens"])]
        lines += ["", *_findings(found)]
    if len(each) > 1:
        lines += ["", f"A sweep of {len(each)} variants", _variant_table(each)]
    elif "params_total_count" in found:
        total, trainable, share = _counts(found)
        lines += ["", f"Parameters: {total} in all, {trainable} trainable ({share})"]
    return "\n".join([*lines, "", "The job is sound."])


def _counts(part: dict[str, Any]) -> tuple[str, str, str]:
    total, trainable = part["params_total_count"], part["params_trainable_count"]
    return f"{total:,}", f"{trainable:,}", f"{trainable / total:.2%}"


def _variant_table(each: list[dict[str, Any]]) -> str:
    header = ["variant", "parameters", "trainable", "share"] if "params_total_count" in each[0] else ["variant"]
    own = "(the job's own settings)"
    return text_table(header, [[one["variant"] or own, *(_counts(one) if len(header) > 1 else ())] for one in each])


def _count_table(splits: dict[str, Any], key: str, names: list[str]) -> str:
    return text_table(
        ["split", "rows", *names],
        [[split, str(part["n"]), *(str(part[key].get(name, 0)) for name in names)] for split, part in splits.items()],
    )


def _group_table(splits: dict[str, Any], groups: list[str]) -> str:
    return text_table(
        ["group", *splits],
        [[group, *(str(part["groups"].get(group, 0)) for part in splits.values())] for group in groups],
    )


def _token_table(tokens: dict[str, Any]) -> str:
    rows = [
        [
            split,
            str(t["min"]),
            f"{t['median']:g}",
            f"{t['p95']:g}",
            str(t["max"]),
            f"{t['truncated_count']} ({t['truncated_share']:.1%})",
        ]
        for split, t in tokens.items()
    ]
    return text_table(["split", "min", "median", "p95", "max", "truncated"], rows)


def _findings(found: dict[str, Any]) -> list[str]:
    repeated = [f"{count} in {split}" for split, count in found["duplicates"]["within"].items() if count]
    leaked = [f"{count} of {pair}" for pair, count in found["duplicates"]["between"].items() if count]
    torn = found["contradictions"]
    lines = [
        f"Repeated rows: {', '.join(repeated) or 'none'}",
        f"Rows shared between splits: {', '.join(leaked) or 'none'}",
        f"Identical texts with different labels: {torn['count'] or 'none'}",
    ]
    for example in torn["examples"]:
        lines.append("  " + "; ".join(f"{split} {row_id} = {label}" for split, row_id, label in example))
    return lines


if __name__ == "__main__":
    sys.exit(errors.guard(main))
