"""Tensors with a shape, a dtype and the device "cpu", but without memory.

Each wraps a tensor of the meta device, on which its operations run. The meta device alone is not enough: autocast does
not work there. torch's FakeTensor does the same and more, and its operations take more than twice as long.
"""

import functools
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

_DATA: Any = torch.Tensor.data  # the property
_CPU, _META = torch.device("cpu"), torch.device("meta")
_VALUE_TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class NeedsValues(Exception):
    """An operation reads the values of a tensor, which has none."""


class ShapeTensor(FakeTensor):
    """A tensor on the device "cpu" whose operations run on `on_meta`, a tensor of the meta device.

    It is a subclass of FakeTensor so that transformers, which tests for that class, does not read its values.
    """

    on_meta: torch.Tensor
    device = torch.Tensor.device  # a FakeTensor would ask its mode

    def __new__(cls, on_meta: torch.Tensor) -> "ShapeTensor":
        """Wrap a tensor of the meta device."""
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            on_meta.size(),
            strides=on_meta.stride(),
            storage_offset=on_meta.storage_offset(),
            dtype=on_meta.dtype,
            layout=on_meta.layout,
            device=_CPU,
        )
        tensor.on_meta = on_meta
        return tensor

    def _set_data(self, other: "ShapeTensor") -> None:
        _DATA.__set__(self, other)
        self.on_meta = other.on_meta

    data = property(lambda self: _DATA.__get__(self), _set_data)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Run an operation on the meta device."""
        return _run(func, args, kwargs or {})


class ShapeMode(TorchDispatchMode):
    """Every tensor that an operation returns inside the context is a `ShapeTensor`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on the meta device."""
        return _run(func, args, kwargs or {})


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage:
    """Return the storage that a tensor has, or would have if it had memory."""
    return (tensor.on_meta if isinstance(tensor, ShapeTensor) else tensor).untyped_storage()


def to_shape_tensors(model: nn.Module) -> None:
    """Replace a model's tensors on the meta device by shape tensors, in place; outside a `ShapeMode`."""
    moved: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in moved:  # tied weights stay tied
                    empty = ShapeTensor(torch.empty_like(tensor, device="meta", requires_grad=False))
                    is_parameter = isinstance(tensor, nn.Parameter)
                    moved[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
                tensors[name] = moved[id(tensor)]  # type: ignore[assignment]


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the meta device, and wrap what it returns."""
    takes_device, needs_values = _properties(func)
    if needs_values or (func is torch.ops.aten.index.Tensor and any(map(_is_mask, args[1]))):
        raise NeedsValues(str(func))
    outer: dict[int, ShapeTensor] = {}  # by what is on the meta device: an operation in place returns its argument
    meta_args = [_unwrapped(value, outer) for value in args]
    meta_kwargs = {key: _unwrapped(value, outer) for key, value in kwargs.items()}
    if takes_device:
        meta_kwargs["device"] = _META
    result = func(*meta_args, **meta_kwargs)
    if torch.Tag.inplace_view in func.tags:  # such as squeeze_: the wrapper's shape changes, too
        with no_dispatch():
            func(*args, **kwargs)
    return _wrapped(result, outer)


def _unwrapped(value: Any, outer: dict[int, ShapeTensor]) -> Any:
    if isinstance(value, ShapeTensor):
        outer[id(value.on_meta)] = value
        return value.on_meta
    if isinstance(value, torch.Tensor):
        return value.to(_META)
    return [_unwrapped(item, outer) for item in value] if isinstance(value, list | tuple) else value


def _wrapped(value: Any, outer: dict[int, ShapeTensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return outer[id(value)] if id(value) in outer else ShapeTensor(value)
    return [_wrapped(item, outer) for item in value] if isinstance(value, list | tuple) else value


@functools.cache
def _properties(func: Any) -> tuple[bool, bool]:
    """Return whether an operation takes a device, and whether it needs its tensors' values."""
    takes_device = any(argument.name == "device" for argument in func._schema.arguments)
    needs_values = not _VALUE_TAGS.isdisjoint(func.tags) and func is not torch.ops.aten.index.Tensor
    return takes_device, needs_values


def _is_mask(index: torch.Tensor | None) -> bool:
    """Return whether an index selects as many entries as are true."""
    return index is not None and index.dtype in (torch.bool, torch.uint8)
