"""The classification head of an exported ONNX graph, run by onnxruntime on the CPU."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError, choices
from common.core.files import read_json
from common.hub.locate import SAVED, Base
from common.model.batching import Batch
from common.model.build import row_encoder
from common.model.encoding import Encoder
from common.model.heads import ClassificationHead
from common.model.load import load_tokenizer

GRAPH = "model.onnx"


class OnnxModel(nn.Module):
    """A graph as a module: token ids (B, L) and their mask to logits (B, C).

    Args:
        file: of the graph.
        one_by_one: whether to run each row alone and without padding. A graph in int8 scales the numbers of a whole
            batch together, so that a row's logits would depend on the rows beside it.
    """

    def __init__(self, file: Path, one_by_one: bool) -> None:
        super().__init__()
        self.one_by_one = one_by_one
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(
                f"{file}: the package onnxruntime is not installed: .venv/bin/python -m pip install -r "
                "requirements-onnx.txt"
            ) from error
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.names = [given.name for given in self.session.get_inputs()]
        self.register_buffer("place", torch.empty(0))

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) in float32."""
        if not self.one_by_one:
            return self._run(inputs)
        masks = inputs["attention_mask"].bool()
        rows = ({name: inputs[name][row : row + 1, mask] for name in self.names} for row, mask in enumerate(masks))
        return torch.cat([self._run(row) for row in rows])

    def _run(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        (logits,) = self.session.run(["logits"], {name: inputs[name].numpy() for name in self.names})
        return torch.from_numpy(logits).float()


class OnnxHead(ClassificationHead):
    """Scores rows by a graph; it cannot be trained."""

    model: OnnxModel

    def __init__(self, model: OnnxModel, encoder: Encoder) -> None:
        super(ClassificationHead, self).__init__(model, encoder, "float32")

    @property
    def device(self) -> torch.device:
        """Return the CPU, on which the graph runs."""
        return torch.device("cpu")

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return logits (B, C) in float32."""
        return self.model(**batch)

    def scores(self, batch: Batch) -> torch.Tensor:
        """Return natural-log probabilities (B, C) in float32."""
        return F.log_softmax(self.logits(batch), dim=-1)


def load(job: Job, dataset: Dataset, folder: Path) -> OnnxHead:
    """Load an exported graph.

    Raises:
        ModelError: it was exported for other labels, or onnxruntime is not installed.
    """
    about = read_json(folder / SAVED)
    labels = about["labels"]
    if labels != list(dataset.labels):
        raise ModelError(f"{folder}: exported for the labels {choices(labels)}, not for {choices(dataset.labels)}.")
    encoder = row_encoder(job, dataset, load_tokenizer(Base(str(folder), None)))
    assert isinstance(encoder, Encoder)
    return OnnxHead(OnnxModel(folder / GRAPH, about["weights_dtype"] == "int8"), encoder)
