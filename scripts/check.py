"""Look before you train: is the job sound, do the rows fit, how long are they, how large is the model?

    python scripts/check.py --model minilm-lora
    python scripts/check.py --model minilm-lora --dataset mine --data-dir ~/rows --json
    python scripts/check.py --model minilm-lora --no-data      parameter counts alone
    make check MODEL=minilm-lora DATASET=mine

Reads the model's config and tokenizer, never its weights; with --no-data, of a model whose shape is known (those in
scripts/common/architectures.yaml) not even these. Exit code 0 means that `make train` can start.
"""

import contextlib
import json
import sys
from typing import Any

from common import cli, data, datachecks, errors
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
    target = cli.target(arguments)
    found: dict[str, Any] = {
        "schema": 1,
        "job": target.job_name,
        "variant": target.variant,
        "dataset": target.dataset_name,
    }
    if not arguments.config_only:
        with contextlib.redirect_stdout(sys.stderr):  # nothing but the result on stdout
            found |= _with_libraries(target, read_rows=not arguments.no_data)
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else _for_people(found, target))


def _with_libraries(target: cli.Target, read_rows: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if read_rows:
        rows = data.load(target.dataset, target.data_dir)
        for split, why in (
            ("train", "to train on"),
            ("validation", "to choose the best checkpoint"),
            ("test", "to evaluate on"),
        ):
            data.need_split(rows, split, why)
        found["splits"] = datachecks.counts(rows, target.dataset)
        found["duplicates"] = datachecks.duplicates(rows)
        found["contradictions"] = datachecks.contradictions(rows, target.dataset)
    from common import memory, models, recipes

    models.quiet_libraries()
    recipes.check_recipe(target.job, target.dataset, rows["train"] if read_rows else [])
    if read_rows:
        tokenizer = models.load_tokenizer(models.locate(target.job.model, target.job.revision))
        encoder = models.row_encoder(target.job, target.dataset, tokenizer)
        found["tokens"] = {}
        for split, members in rows.items():
            lengths = encoder.lengths(members)
            over = sum(length > target.job.max_length for length in lengths)
            found["tokens"][split] = datachecks.token_lengths(lengths, over)
    found |= models.count_parameters(target.job, target.dataset)
    return found | memory.estimate(target.job, target.dataset)


def _for_people(found: dict[str, Any], target: cli.Target) -> str:
    lines = [
        f"job {found['job']}{' (' + found['variant'] + ')' if found['variant'] else ''} on dataset {found['dataset']}"
    ]
    if "splits" in found:
        labels = [str(label) for label in target.dataset.labels]
        lines += ["", "Rows", _count_table(found["splits"], "labels", labels)]
        groups = sorted({group for split in found["splits"].values() for group in split["groups"]})
        if groups:
            lines += ["", f"Rows by {target.dataset.group}", _group_table(found["splits"], groups)]
        lines += ["", f"Tokens (max_length {target.job.max_length})", _token_table(found["tokens"])]
        lines += ["", *_findings(found)]
    if "params_total_count" in found:
        share = found["params_trainable_count"] / found["params_total_count"]
        lines += [
            "",
            f"Parameters: {found['params_total_count']:,} in all, "
            f"{found['params_trainable_count']:,} trainable ({share:.2%})",
            _memory(found, target.job.training.token_budget),
        ]
    return "\n".join([*lines, "", "The job is sound."])


def _memory(found: dict[str, Any], tokens: int) -> str:
    parts = ", ".join(
        f"{name.replace('_', ' ')} {size / 1e9:.2f}" for name, size in found["memory_estimate_parts_bytes"].items()
    )
    total = found["memory_estimate_bytes"] / 1e9
    return f"GPU memory of a training step of {tokens:,} tokens: about {total:.2f} GB ({parts})"


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
