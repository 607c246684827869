"""Label texts with the model of this folder, by transformers and peft alone, or by onnxruntime and tokenizers.

from classifier import Classifier
print(Classifier().label("first text", "second text"))

Texts are encoded as in training (`encoding.py`). Rows of one length are computed together, without padding, in float32.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from encoding import Encoder, PromptEncoder, Refused, read

HERE = Path(__file__).resolve().parent
_BATCH_TOKENS = 2048  # of a forward pass


class Classifier:
    """The model of an exported folder.

    Args:
        folder: with `peftable.json`; by default the one that contains this file.
        base: a folder with the base model, where the folder holds only what training changed. Without it, a base of
            the Hugging Face Hub is loaded at the commit of the training.

    Attributes:
        labels: in class order.
        texts: the names of the texts that one row has.

    Raises:
        Refused: the base is missing, or is another one.
    """

    def __init__(self, folder: Path | str = HERE, base: Path | str | None = None) -> None:
        self.folder = Path(folder)
        self.about = read(self.folder / "peftable.json")
        self.labels: list[str] = [str(label) for label in self.about["labels"]]
        self.texts: list[str] = self.about["dataset"]["text"]
        encoder = PromptEncoder if self.about["head"] == "prompt" else Encoder
        self.encoder = encoder(self.folder, self.about)
        if self.about["format"] == "onnx":
            self._run = _onnx_model(self.folder)
        else:
            model = _load_model(self.folder, self.about, base)
            self._run = _prompt_scores(model, self.folder) if self.about["head"] == "prompt" else _logits(model)

    def label(self, *texts: str) -> str:
        """Return the label of one row."""
        return self.labels[int(self.scores([texts])[0].argmax())]

    def scores(self, rows: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the natural-log probabilities (N, C) of N rows."""
        encoded = [self.encoder.encode(tuple(row)) for row in rows]
        found = np.zeros((len(rows), len(self.labels)), dtype=np.float32)
        # int8 scales the numbers of a whole batch together: alone, a row has the same scores beside all others.
        tokens = 0 if self.about["weights_dtype"] == "int8" else _BATCH_TOKENS
        for batch in _batches([len(ids) for ids, _ in encoded], tokens):
            ids = np.array([encoded[index][0] for index in batch], dtype=np.int64)
            types = np.array([encoded[index][1] for index in batch], dtype=np.int64)
            found[batch] = self._run(ids, types)
        return _log_softmax(found - self._prior()) if self.about["job"]["calibration"] != "none" else found

    def _prior(self) -> np.ndarray:
        """Return the log probabilities (1, C) of the answers after a prompt with empty texts."""
        ids, types = self.encoder.encode(("",) * len(self.texts))
        return np.asarray(self._run(np.array([ids], dtype=np.int64), np.array([types], dtype=np.int64)))


def weights_hash(folder: Path) -> str | None:
    """Return the SHA-256 of a folder's safetensors files together, None where there are none."""
    hashes = []
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else None


# --- the model --------------------------------------------------------------------------------------------------------


def _load_model(folder: Path, about: dict[str, Any], base: Path | str | None) -> Any:
    """Return the model, in float32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # of the base's missing head, which the folder holds
    logging.disable_progress_bar()
    prompt = about["head"] == "prompt"
    kind: Any = AutoModelForCausalLM if prompt else AutoModelForSequenceClassification
    options = {"dtype": torch.float32, "attn_implementation": about["job"]["attention"], "use_safetensors": True}
    if about["format"] == "merged":
        model = kind.from_pretrained(folder, **options)
    else:
        place, revision = _base(about, base)
        config = AutoConfig.from_pretrained(folder)
        try:
            model = kind.from_pretrained(
                place, revision=revision, config=config, ignore_mismatched_sizes=not prompt, **options
            )
        except OSError as error:
            reason = str(error).splitlines()[0][:300]
            raise Refused(
                f"the base {about['base']['name']} cannot be loaded: {reason} {_how_to_get(about)}"
            ) from error
        model = _with_trained(model, folder)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False).eval()


def _with_trained(model: Any, folder: Path) -> Any:
    """Return a base with what training changed: a peft adapter, or weights in place of the base's."""
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        return PeftModel.from_pretrained(model, str(folder))
    from safetensors.torch import load_file

    unexpected = model.load_state_dict(load_file(folder / "parameters.safetensors"), strict=False).unexpected_keys
    if unexpected:
        raise Refused(f"the base has no weights {', '.join(unexpected[:4])}, which the folder replaces")
    return model


def _base(about: dict[str, Any], given: Path | str | None) -> tuple[str, str | None]:
    """Return what `from_pretrained` takes for the base: a folder and None, or a Hub id and the commit."""
    base = about["base"]
    if given is None:
        if base["hub"] is None:
            raise Refused(f"this folder holds only what training changed. {_how_to_get(about)}")
        return base["hub"], base["commit"]
    folder = Path(given)
    if not (folder / "config.json").is_file():
        raise Refused(f"{given}: there is no model here (no config.json). {_how_to_get(about)}")
    if (found := weights_hash(folder)) != base["sha256"]:
        raise Refused(
            f"{given}: this is another base: the SHA-256 of its weights is {found}, that of the training was "
            f"{base['sha256']}. {_how_to_get(about)}"
        )
    return str(folder), None


def _how_to_get(about: dict[str, Any]) -> str:
    return f"Needed is the base {about['base']['name']}. {about['base']['where']}"


def _logits(model: Any) -> Any:
    """Return a function: rows of one length (B, L) to log probabilities (B, C)."""
    import torch

    def run(ids: np.ndarray, types: np.ndarray) -> np.ndarray:
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids)} | (
            {"token_type_ids": types} if types.size else {}
        )
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(value).to(model.device) for name, value in given.items()}
            return _log_softmax(model(**inputs).logits.float().cpu().numpy())

    return run


def _prompt_scores(model: Any, folder: Path) -> Any:
    """Return a function: prompts of one length (B, L) to the log probabilities (B, C) of the labels' answers.

    The prompts are run once; then every answer, behind the keys and values of its prompt.
    """
    import torch

    prompt = read(folder / "prompt.json")
    answers: list[list[int]] = prompt["scored"]
    longest = max(map(len, answers))
    padded = torch.tensor([answer + [0] * (longest - len(answer)) for answer in answers])  # (C, K)
    counts = torch.tensor([[position < len(answer) for position in range(longest)] for answer in answers])
    lengths = np.array([len(answer) for answer in answers]) if prompt["length_normalization"] else 1

    def run(ids: np.ndarray, types: np.ndarray) -> np.ndarray:
        prompts = torch.from_numpy(ids).to(model.device)
        rows, labels = len(prompts), len(answers)
        with torch.inference_mode():
            first = model(input_ids=prompts, use_cache=longest > 1, logits_to_keep=1)
            logits = first.logits.repeat_interleave(labels, dim=0)  # (B C, 1, V)
            if longest > 1:
                cache = first.past_key_values
                cache.batch_repeat_interleave(labels)
                behind = (
                    padded[:, :-1].repeat(rows, 1).to(model.device)
                )  # padding follows an answer: none of it sees it
                rest = model(input_ids=behind, past_key_values=cache, use_cache=True).logits
                logits = torch.cat([logits, rest], dim=1)  # (B C, K, V)
            targets = padded.repeat(rows, 1).to(model.device)
            found = logits.float().log_softmax(dim=-1).gather(2, targets[..., None])[..., 0].cpu()  # (B C, K)
            totals = (found * counts.repeat(rows, 1)).sum(dim=1).view(rows, labels).numpy()
        return _log_softmax(totals / lengths)

    return run


def _onnx_model(folder: Path) -> Any:
    """Return a function: rows of one length (B, L) to log probabilities (B, C)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = {given.name for given in session.get_inputs()}

    def run(ids: np.ndarray, types: np.ndarray) -> np.ndarray:
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
        (logits,) = session.run(["logits"], {name: value for name, value in given.items() if name in names})
        return _log_softmax(logits)

    return run


# --- helpers ----------------------------------------------------------------------------------------------------------


def _batches(lengths: list[int], tokens: int) -> list[list[int]]:
    """Return the indices of rows as batches of rows of one length, of at most so many tokens or of one row."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        same = batches and lengths[batches[-1][0]] == lengths[index]
        if same and (len(batches[-1]) + 1) * lengths[index] <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
