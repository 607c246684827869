"""Write a classifier as an ONNX graph, by torch's own exporter, with rows and tokens of any number."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.core.errors import ModelError
from common.data.rows import Row
from common.export.weights import write_config
from common.methods.merge import merge
from common.methods.modules import head_modules
from common.model.heads import ClassificationHead, Head
from common.model.inspect import inner_model
from common.model.onnx_head import GRAPH

INT8 = "int8"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def check_graph(head: Head) -> None:
    """Raise a `ModelError` for a head that has no graph."""
    if not isinstance(head, ClassificationHead):
        raise ModelError(
            "FORMAT=onnx exports classification heads: a prompt's answers are scored behind its keys and values, "
            "which one graph does not hold. FORMAT=merged exports a language model that other servers load."
        )
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"FORMAT=onnx needs {error.name}: .venv/bin/python -m pip install -r requirements-onnx.txt"
        ) from error


def write_graph(folder: Path, head: ClassificationHead, dtype: str) -> None:
    """Write model.onnx.

    Args:
        folder: to write into.
        head: over a base in float32; its model is changed: what can be merged is merged.
        dtype: "float32", or "int8" for weights of linear layers in 8 bits (onnxruntime's dynamic quantisation).

    Raises:
        ModelError: torch cannot export the model.
    """
    with contextlib.suppress(ModelError):  # a method that cannot be merged: the graph computes it beside the base
        head.model = merge(head.model)
    for module in head_modules(inner_model(head.model)).values():
        module.__dict__.pop("forward", None)  # the cast to float32 of `precision`, which has no effect here
    head.model.float().cpu().eval()
    write_config(folder, inner_model(head.model))
    encoded = [head.encoder.encode([Row("a", texts, None)])[0] for texts in _examples(head)]
    batch = head.scoring_batch(encoded)
    names = [name for name in _INPUTS if name in batch]
    file = folder / GRAPH
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with contextlib.redirect_stdout(io.StringIO()), _quiet():
            program = torch.onnx.export(
                _Graph(head, names),
                tuple(batch[name] for name in names),
                input_names=names,
                output_names=["logits"],
                dynamic_shapes={"inputs": tuple(dynamic for _ in names)},
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            _without_sources(program.model)
            program.save(str(file), external_data=False)
    except Exception as error:  # torch's exporter raises exceptions of any class
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"torch cannot export this model as an ONNX graph: {reason}") from error
    if dtype == INT8:
        _quantize(file)


class _Graph(nn.Module):
    """A head's logits as a function of its inputs, by place.

    Args:
        head: whose model is traced.
        names: of the inputs.
    """

    def __init__(self, head: ClassificationHead, names: list[str]) -> None:
        super().__init__()
        self.model, self.head, self.names = head.model, head, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C)."""
        return self.head.logits(dict(zip(self.names, inputs, strict=True)))


def _examples(head: ClassificationHead) -> list[tuple[str, ...]]:
    return [("A first text.", "A second text of other words."), ("A text.", "Another one.")]


def _without_sources(model: Any) -> None:
    """Remove what the exporter notes about the code: names of modules and lines of files of this machine, in place."""
    model.metadata_props.clear()
    for graph in [model.graph, *(function.graph for function in model.functions.values())]:
        graph.metadata_props.clear()
        graph.doc_string = None
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()


def _quantize(file: Path) -> None:
    """Store the weights of the linear layers in 8 bits, in place."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(file)
    del model.graph.value_info[:]  # the exporter's notes about shapes, which contradict those that are inferred
    try:
        with _quiet():
            quantize_dynamic(model, file, weight_type=QuantType.QInt8)
    except Exception as error:  # onnxruntime raises exceptions of any class
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"onnxruntime cannot store this graph's weights in 8 bits: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say about their own deprecations and about versions of operators."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
