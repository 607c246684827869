"""Write the model card of an export: what it is, on what it was trained, how well it does, how to use it."""

from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import ModelCard, ModelCardData

from common.core.files import write_text
from common.core.formatting import markdown_table, markdown_text
from common.export import usage
from common.export.base import ExportedBase
from common.export.comparison import Comparison, interval
from common.export.source import TrainedRun
from common.runs.exported import MERGED, ONNX, PEFT

_FORMATS = {
    PEFT: "What training changed ({what}); the base model is loaded beside it.",
    MERGED: "A whole model: what training changed is merged into the weights of the base.",
    ONNX: "The whole computation as an ONNX graph; neither torch nor the base is needed.",
}


def write_card(folder: Path, run: TrainedRun, base: ExportedBase, kind: str, comparison: Comparison) -> None:
    """Write README.md."""
    parts = [
        f"# {_cell(run.dataset.title)}: {run.config.job_name}",
        _summary(run, base, kind),
        "## Use",
        usage.text(folder, run, base, kind),
        "## Results",
        _results(run, comparison),
        "## Training",
        _training(run),
        "## Data",
        _data(run),
        "## Limits",
        _limits(run, kind),
        "## Files",
        _files(folder, kind),
        "## Citation",
        _citation(run, base),
    ]
    card = ModelCard(f"---\n{_card_data(run, base, kind).to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")
    write_text(folder / "README.md", str(card))


def _card_data(run: TrainedRun, base: ExportedBase, kind: str) -> ModelCardData:
    known: dict[str, Any] = {"base_model": base.hub} if base.hub else {}
    if base.hub:
        known["base_model_relation"] = "adapter" if kind == PEFT else "finetune" if kind == MERGED else "quantized"
    library = {PEFT: "peft", MERGED: "transformers", ONNX: "onnx"}[kind]
    task = "text-generation" if run.job.head == "prompt" else "text-classification"
    if licence := _licence(base):
        known["license"] = licence
    return ModelCardData(library_name=library, pipeline_tag=task, tags=["text-classification", "peftable"], **known)


def _summary(run: TrainedRun, base: ExportedBase, kind: str) -> str:
    what = "weights that replace those of the base" if run.job.method.name == "last-layers" else "a peft adapter"
    head = "with a classification head" if run.job.head == "classification" else "that answers a prompt with a label"
    texts = " and ".join(f"`{name}`" for name in run.dataset.text)
    labels = ", ".join(_cell(str(label)) for label in run.dataset.labels)
    where = f" ({base.where.rstrip('.')})" if kind == PEFT else ""
    licence = _licence(base) or "its folder names none"
    return (
        f"A text classifier: {texts} → {labels}. It is `{base.name}` {head}, fine-tuned by the method "
        f"`{run.job.method.name}`. {_FORMATS[kind].format(what=what)}\n\n"
        f"Base: `{base.name}`{where}. Its licence applies to this model, too: {licence}."
    )


def _licence(base: ExportedBase) -> str | None:
    """Return the licence that the base's own card names, None where its folder has none."""
    try:
        named = ModelCard.load(base.folder / "README.md", ignore_metadata_errors=True).data.get("license")
    except (OSError, ValueError):
        return None
    return str(named) if named else None


def _results(run: TrainedRun, comparison: Comparison) -> str:
    found = comparison.metrics
    low, high = interval(found["accuracy"], found["n"])
    rows = [
        ["accuracy", f"{found['accuracy']:.4f}", f"{low:.4f} to {high:.4f}"],
        ["macro F1", f"{found['f1_macro']:.4f}", ""],
        ["weighted F1", f"{found['f1_weighted']:.4f}", ""],
        ["Matthews correlation", f"{found['matthews_corrcoef']:.4f}", ""],
        ["mean negative log-likelihood", f"{found['loss']:.4f}", ""],
    ]
    parts = [
        f"On {found['n']:,} test rows; this export was scored on them in a fresh environment without the code that "
        f"trained it: {comparison.sentence()}.",
        markdown_table(["metric", "value", "95 % interval (Wilson)"], rows),
        markdown_table(
            ["label", "precision", "recall", "F1", "test rows"],
            [
                [_cell(name), *(f"{entry[key]:.4f}" for key in ("precision", "recall", "f1")), str(entry["support"])]
                for name, entry in found["per_label"].items()
            ],
        ),
    ]
    if run.dataset.splits.test is not None:
        parts.insert(1, "**The test rows are a copy of the validation rows, which chose the model.**")
    if found["groups"]:
        groups = found["groups"].items()
        # A group may be one of the texts, of which an export contains none.
        are_texts = run.dataset.group in run.dataset.text
        parts += [
            f"By group (column `{run.dataset.group}`):",
            markdown_table(
                ["group", "accuracy", "macro F1", "test rows"],
                [
                    [
                        f"group {number}" if are_texts else _cell(name),
                        *(f"{one[key]:.4f}" for key in ("accuracy", "f1_macro")),
                        str(one["n"]),
                    ]
                    for number, (name, one) in enumerate(groups, start=1)
                ],
            ),
            *(["Groups are numbered in alphabetical order: their names are texts of the data."] if are_texts else []),
        ]
    parts.append(_calibration(run, comparison))
    return "\n\n".join(parts)


def _calibration(run: TrainedRun, comparison: Comparison) -> str:
    """Return how often the most probable label is right, by its probability, and what abstaining costs."""
    found = comparison.metrics
    low, high = found["expected_calibration_error_interval"]
    bins = [[f"{one['confidence']:.3f}", f"{one['accuracy']:.3f}", str(one["n"])] for one in found["reliability"]]
    return (
        f"Calibration: expected calibration error {found['expected_calibration_error']:.3f} over these bins of equally "
        f"many rows (95 % interval {low:.3f} to {high:.3f}).\n\n"
        + markdown_table(["mean probability of the predicted label", "share that is right", "test rows"], bins)
        + "\n\nWhat abstaining costs:\n\n"
        + markdown_table(
            ["label only the most certain", "least probability", "accuracy on them"],
            _abstaining(run, comparison.scores),
        )
    )


def _abstaining(run: TrainedRun, scores: np.ndarray) -> list[list[str]]:
    confidence = np.exp(scores.max(axis=1))
    right = scores.argmax(axis=1) == np.array([row.label for row in run.rows])
    order = (-confidence).argsort(kind="stable")
    rows = []
    for share in (1.0, 0.9, 0.75, 0.5):
        members = order[: max(round(share * len(order)), 1)]
        rows.append([f"{share:.0%}", f"{confidence[members].min():.3f}", f"{right[members].mean():.4f}"])
    return rows


def _training(run: TrainedRun) -> str:
    job, training = run.job, run.job.training
    method = {key: value for key, value in job.method.model_dump(mode="json").items() if value not in (None, [], {})}
    rows = [
        ["method", _settings(method)],
        ["epochs, batch size", f"{training.epochs:g}, {training.batch_size}"],
        ["optimizer", f"{training.optim}, learning rate {training.learning_rate:g}, {training.lr_scheduler_type}"],
        ["best checkpoint by", training.best_metric],
        ["seed", str(run.config.seed)],
        ["longest row", f"{job.max_length} tokens; the longest text is cut ({job.truncation})"],
        ["computed in", f"{job.precision}; base {job.dtype}, quantisation {job.quantization}"],
    ]
    for key, name in (("params_trainable_count", "trainable parameters"), ("params_total_count", "all parameters")):
        if run.metrics.get(key) is not None:
            rows.append([name, f"{run.metrics[key]:,}"])
    if run.metrics.get("train_s") is not None:
        rows.append(["training time", f"{run.metrics['train_s']:,.0f} s on {_hardware(run)}"])
    return markdown_table(["setting", "value"], rows, left=2) + "\n\nEnergy and carbon: not measured."


def _hardware(run: TrainedRun) -> str:
    hardware = run.metrics.get("hardware") or {}
    return str(hardware.get("gpu") or hardware.get("cpu") or "hardware that was not recorded")


def _settings(values: dict[str, Any]) -> str:
    shown = {key: "+".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    return _cell(", ".join(f"{key} {value}" if key != "name" else str(value) for key, value in shown.items()))


def _data(run: TrainedRun) -> str:
    counts = ", ".join(f"{split} {count:,}" for split, count in run.counts.items())
    source = run.dataset.source
    place = f" Source: `{source.hub}` on the Hugging Face Hub, revision `{source.revision}`." if source.hub else ""
    return (
        f"Dataset `{run.config.dataset_name}` ({run.dataset.title}); rows: {counts}. SHA-256 of all rows: "
        f"`{run.config.data_sha256}`.{place} This folder contains no text of it."
    )


def _limits(run: TrainedRun, kind: str) -> str:
    lines = [
        f"- It was tested on rows like those of `{run.config.dataset_name}` alone: texts of other topics, lengths or "
        "languages can be labelled worse, and it never says so. Every text gets one of its labels.",
        f"- A row is read up to {run.job.max_length} tokens.",
        "- One seed was trained; another one gives somewhat other scores.",
    ]
    if len(run.rows) < 500:
        lines.append(f"- {len(run.rows)} test rows are few: see the interval.")
    if run.job.decoding == "generate":
        lines.append("- The run was evaluated by generated text. This export scores the answers of all labels.")
    return "\n".join(lines)


def _files(folder: Path, kind: str) -> str:
    about = {
        "adapter_config.json": "the adapter's settings, with the base",
        "adapter_model.safetensors": "the adapter's weights, with the trained head",
        "parameters.safetensors": "the weights that replace those of the base",
        "model.safetensors": "the weights",
        "model.onnx": "the graph with its weights",
        "config.json": "the model's settings, with the labels",
        "tokenizer.json": "the tokenizer",
        "text-tokenizer.json": "the same for texts: names of special tokens are ordinary text in it",
        "labels.json": "the labels in class order",
        "prompt.json": "the prompt, and the token ids of the answers",
        "peftable.json": "all of the above for programs",
        "classifier.py": "loads the model and scores texts exactly as in training (with `encoding.py`)",
        "check.py": "checks files and scores: `python check.py --help`",
        "probes.json": "sentences with their scores, for check.py",
        "expected.jsonl": "scores of the test rows by a hash of their texts, for check.py",
        "proof.json": "what check.py said in a fresh environment",
    }
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*")} | {"proof.json"}
    return markdown_table(
        ["file", "content"], [[f"`{name}`", what] for name, what in about.items() if name in there], left=2
    )


def _citation(run: TrainedRun, base: ExportedBase) -> str:
    return (
        f"Name the base (`{base.name}`), the data (`{run.config.dataset_name}`, SHA-256 "
        f"`{run.config.data_sha256[:12]}…`) and peftable, with which this model was trained and exported, "
        f"code `{_code(run)}`."
    )


def _code(run: TrainedRun) -> str:
    provenance = run.metrics.get("provenance") or {}
    return str(provenance.get("git_commit") or provenance.get("code_sha256") or "not recorded")[:12]


def _cell(text: str) -> str:
    """Return a text of the data on one line, as it is typed."""
    return markdown_text(" ".join(str(text).split()))
