"""Write the files that every exported folder has: tokenizer, labels, prompt, probes, and the scripts that use them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.core.errors import ModelError, RunError
from common.core.files import read_json, sha256, write_json, write_jsonl
from common.data.rows import Row
from common.export.source import TrainedRun
from common.model.encoding import Encoder
from common.model.heads import Head
from common.model.prompts import PromptEncoder

SCRIPTS = ("check.py", "classifier.py", "encoding.py")
PROBES, EXPECTED = "probes.json", "expected.jsonl"
_STANDALONE = Path(__file__).with_name("standalone")
_DIGITS = 6  # decimals of a log probability
_OF_THIS_MACHINE = ("name_or_path", "is_local", "local_files_only")


def write_common_files(folder: Path, run: TrainedRun, head: Head) -> None:
    """Write tokenizer, labels, prompt and scripts of a run's model into a folder."""
    for name in SCRIPTS:
        shutil.copyfile(_STANDALONE / name, folder / name)
    write_tokenizer(folder, head.encoder)
    labels = [str(label) for label in run.dataset.labels]
    write_json(
        folder / "labels.json",
        {
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "answers": dict(zip(labels, head.encoder.label_words, strict=True))
            if isinstance(head.encoder, PromptEncoder)
            else None,
        },
    )
    if isinstance(head.encoder, PromptEncoder):
        write_json(folder / "prompt.json", described_prompt(run, head))


def write_tokenizer(folder: Path, encoder: Any) -> None:
    """Write the tokenizer, and the copy of it that reads the names of special tokens as ordinary text."""
    encoder.tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    write_json(file, {key: value for key, value in read_json(file).items() if key not in _OF_THIS_MACHINE})
    try:
        encoder.control.reader.backend_tokenizer.save(str(folder / "text-tokenizer.json"))
    except ModelError as error:
        raise ModelError(
            "an export needs a tokenizer that the library tokenizers can write as a file, and that of the base is "
            f"none: {error}"
        ) from error


def described_encoder(encoder: Any) -> dict[str, Any]:
    """Return how the texts of a row become one sequence, for `peftable.json`."""
    if not isinstance(encoder, Encoder):
        return {"joins_pairs": False, "token_type_ids": False}
    first = encoder.encode([Row("probe", ("a", "b"), None)])[0]
    return {"joins_pairs": encoder.joins_pairs, "token_type_ids": first.token_type_ids is not None}


def described_prompt(run: TrainedRun, head: Head) -> dict[str, Any]:
    """Return the content of prompt.json: the turns with {columns}, how they are rendered, and the answers."""
    encoder: Any = head.encoder
    system, user = encoder.prompt.system, encoder.prompt.user
    turns = [{"role": "user", "content": user}]
    if system is not None:
        folded = [{"role": "user", "content": f"{system}\n\n{user}"}]
        turns = folded if encoder.folds_system else [{"role": "system", "content": system}, *turns]
    return {
        "messages": turns,
        "chat": encoder.chat is not None,
        "template_options": encoder.chat.template_options if encoder.chat is not None else {},
        "start": encoder.start,
        "answer_prefix": encoder.answer_prefix,
        "end_of_turn": encoder.end_of_turn,
        "answers": dict(zip(map(str, run.dataset.labels), encoder.answer_ids, strict=True)),
        "scored": head.scored,  # type: ignore[attr-defined]  # of the prompt head
        "length_normalization": run.job.length_normalization,
        "special_tokens": encoder.control.aliases,
    }


def probe_rows(run: TrainedRun, head: Head) -> list[Row]:
    """Return rows of our own sentences that try what rows can have: long texts, special tokens, other scripts."""
    sentence = "The committee has discussed the proposal and will vote on it in spring."
    names = " ".join(name for name, _ in head.encoder.control.aliases[:12])  # type: ignore[attr-defined]
    words = run.job.max_length
    texts = (
        sentence,
        "I agree.",
        " ".join([sentence] * (words // 12 + 2)),
        f"It says {names} here.",
        "Überraschung! 漢字 🙂\n“Second line” – and a tab\t.",
        "  outer spaces  ",
        " ".join(f"{number} reasons" for number in range(words)),
    )
    columns = len(run.dataset.text)
    rows = []
    for first in range(len(texts)):
        members = tuple(texts[(first + column) % len(texts)] for column in range(columns))
        rows.append(Row(f"probe {first}", members, None))
    return rows


def write_scores(
    folder: Path, rows: Sequence[Row], scores: np.ndarray, probes: Sequence[Row], found: np.ndarray, tolerance: float
) -> None:
    """Write the scores that check.py compares: of the test rows, by a hash of their texts, and of the probes.

    Raises:
        RunError: two test rows have the same texts, and scores that differ by more than the tolerance.
    """
    unique: dict[str, tuple[Row, list[float]]] = {}
    for row, values in zip(rows, _rounded(scores), strict=True):
        first, expected = unique.setdefault(texts_hash(row.texts), (row, values))
        if not np.allclose(values, expected, rtol=0, atol=tolerance):
            raise RunError(
                f"the test rows {first.id} and {row.id} have the same texts and different scores: {expected} and "
                f"{values}. One of them is not the model's; score the rows again: make evaluate"
            )
    write_jsonl(folder / EXPECTED, [{"texts_sha256": key, "scores": values} for key, (_, values) in unique.items()])
    pairs = zip(probes, _rounded(found), strict=True)
    write_json(folder / PROBES, [{"texts": list(row.texts), "scores": values} for row, values in pairs])


def texts_hash(texts: Sequence[str]) -> str:
    """Return the SHA-256 of a row's texts, as the exported check.py computes it."""
    return sha256(json.dumps(list(texts), ensure_ascii=False).encode())


def _rounded(scores: np.ndarray) -> list[list[float]]:
    return [[round(float(value), _DIGITS) for value in row] for row in scores]
