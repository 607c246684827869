"""Run only some of a model's equal layers, and compute the live bytes of all of them.

The layers of a stack are compared by everything that decides what they compute. Where they repeat with a period (one
layer, or two, as in Gemma 2, where sliding-window and full attention alternate), most of them are skipped. The memory
tracker records the changes of live bytes layer by layer, and a skipped layer is counted with the changes of one that
ran. The layers that ran must be alike to the byte; otherwise `Irregular` is raised, and the whole model must run.
"""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from common.core.errors import ModelError
from common.estimate.live_bytes import Block, LiveBytes
from common.methods.last_layers import layer_stack
from common.model.inspect import inner_model

FORWARD_DONE = "forward done"  # label of the block that begins when the loss is computed
_OUTSIDE = "outside the layers"
_MAX_PERIOD = 6
_POSITIONS = ("layer_idx", "layer_id")  # attributes in which equal layers differ


class Irregular(Exception):
    """Layers that should be alike change live bytes differently, or do not run one after the other."""


@dataclasses.dataclass(frozen=True)
class Repeat:
    """A stretch of layers of which only some run.

    Attributes:
        alike: indices of the layers that run and must show the same changes; those of the first stand for the skipped.
        skipped: indices of the layers that do not run.
    """

    alike: range
    skipped: range

    @property
    def example(self) -> int:
        """Index of the layer whose changes stand for those of the skipped layers."""
        return self.alike[0]


def find_repeats(kinds: Sequence[Hashable]) -> list[Repeat]:
    """Return which layers can be skipped; layers of one kind are equal.

    Of every periodic stretch the first period runs, then one more layer of every kind, at least two in all. The first
    period is not like the others: in its backward pass the inputs are freed that all layers of one kind share, such as
    an attention mask.
    """
    found, start = [], 0
    while start < len(kinds):
        best = Repeat(range(0), range(0))
        for period in range(1, _MAX_PERIOD + 1):
            stop = start + period
            while stop < len(kinds) and kinds[stop] == kinds[stop - period]:
                stop += 1
            first = start + period + max(period, 2)
            if stop - first > len(best.skipped):
                best = Repeat(range(start + period, first), range(first, stop))
        if best.skipped:
            found.append(best)
            start = best.skipped.stop
        else:
            start += 1
    return found


def layer_kind(layer: nn.Module, index: int) -> Hashable:
    """Return everything that decides what a layer computes, except for the values of its tensors and its index."""
    return tuple(
        (
            name,
            type(module),
            tuple((key, _tensor_kind(tensor)) for key, tensor in module._parameters.items()),
            tuple((key, _tensor_kind(tensor)) for key, tensor in module._buffers.items()),
            # peft's layers know their own names, "model.layers.3.mlp.up_proj".
            tuple((key, _without_place(repr(value), index)) for key, value in _plain_attributes(module).items()),
            len(module._forward_hooks),
        )
        for name, module in layer.named_modules()
    )


def _without_place(text: str, index: int) -> str:
    """Return a value's text without the layer's index and without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", text).replace(f".{index}.", ".*.")


def _tensor_kind(tensor: torch.Tensor | None) -> Hashable:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.requires_grad)


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    plain = (bool, int, float, str, tuple, list, dict, type(None))
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, plain) and not key.startswith("_") and key not in _POSITIONS
    }


class _Skipped(nn.Module):
    """Stands for a layer that does not run: it returns the hidden states that it is given."""

    def __init__(self, layer: nn.Module, example: nn.Module) -> None:
        super().__init__()
        for key, value in _plain_attributes(layer).items():
            setattr(self, key, value)  # a model may choose its attention mask by one of them
        self._others: list[tuple[None, ...] | None] = [None]
        example.register_forward_hook(lambda module, inputs, output: self._learn(output))

    def _learn(self, output: Any) -> None:
        self._others[0] = (None,) * (len(output) - 1) if isinstance(output, tuple) else None

    def forward(self, hidden_states: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        """Return the hidden states (B, L, d) in the form in which the layers before it returned theirs."""
        others = self._others[0]
        return hidden_states if others is None else (hidden_states, *others)


class RepeatedLayers:
    """A model's stack of layers, most of which are replaced, in place, by placeholders that compute nothing.

    Args:
        model: on the meta device, with its method attached.
        every_layer: run all layers.

    Attributes:
        repeats: which layers are skipped.
    """

    def __init__(self, model: nn.Module, every_layer: bool = False) -> None:
        self.repeats: list[Repeat] = []
        self._stack: list[nn.Module] = []
        inner = inner_model(model)
        # Prompt methods give every layer its own inputs, and so one layer less changes more than the layers.
        if every_layer or (isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning):
            return
        try:
            stack = layer_stack(inner)
        except ModelError:
            return  # no stack of equal layers
        lists = [value for value in vars(inner.config.get_text_config()).values() if isinstance(value, list | tuple)]
        by_layer = [value for value in lists if len(value) == len(stack)]  # such as layer_types
        kinds = [(layer_kind(layer, i), repr([value[i] for value in by_layer])) for i, layer in enumerate(stack)]
        self.repeats = find_repeats(kinds)
        for repeat in self.repeats:
            for index in repeat.skipped:
                stack[index] = _Skipped(stack[index], stack[repeat.example])
        if self.repeats:
            self._stack = list(stack)

    @contextlib.contextmanager
    def watched(self, live: LiveBytes) -> Iterator[None]:
        """Begin a new block of `live` whenever a layer begins its forward or its backward pass."""
        passes = itertools.count()
        current = 0
        in_forward = True

        def before(index: int) -> None:
            nonlocal current, in_forward
            in_forward = not any(block.label == FORWARD_DONE for block in live.blocks)
            if in_forward:  # a checkpointed layer runs again in its backward pass
                current = next(passes) if index == 0 else current
                live.begin_block((current, "forward", index))

        def after(index: int, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad and in_forward:
                label = (current, "backward", index)
                hidden.register_hook(lambda gradient: live.begin_block(label))

        def outside(*_: Any) -> None:
            if in_forward:
                live.begin_block(_OUTSIDE)

        handles = []
        for index, layer in enumerate(self._stack):
            if isinstance(layer, _Skipped):
                handles.append(layer.register_forward_pre_hook(outside))
                continue
            handles += [
                layer.register_forward_pre_hook(lambda module, inputs, index=index: before(index)),
                layer.register_forward_hook(lambda module, inputs, output, index=index: after(index, output)),
            ]
        handles += [layer.register_forward_hook(outside) for layer in self._stack[-1:]]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def whole(self, live: LiveBytes) -> tuple[int, int]:
        """Return the peak of live bytes, and those when the forward pass was done, as if all layers had run.

        Raises:
            Irregular: layers that ran are not alike, so those that were skipped cannot be counted.
        """
        self._check(live.blocks)
        copies = {repeat.example: len(repeat.skipped) for repeat in self.repeats}
        now = peak = done = 0
        for block in live.blocks:
            if block.label == FORWARD_DONE:
                done = now
            for change, origin in block.changes:
                # What the layers left behind is freed after them, and so is what the skipped ones would have left.
                in_layers = isinstance(block.label, tuple)
                now += change if in_layers else change * (1 + _skipped_count(live.blocks[origin], copies))
                peak = max(peak, now)
            if isinstance(block.label, tuple) and (skipped := copies.get(block.label[2], 0)):
                changes = [change for change, _ in block.changes]
                total, highest = sum(changes), max(itertools.accumulate(changes), default=0)
                peak = max(peak, now + highest, now + (skipped - 1) * total + highest)
                now += skipped * total
        return peak, done

    def _check(self, blocks: Sequence[Block]) -> None:
        """Raise `Irregular` unless the layers run in order, and those of a repeat change live bytes alike."""
        if any(one.changes and one.label == two.label == _OUTSIDE for one, two in itertools.pairwise(blocks)):
            raise Irregular  # something happens between two skipped layers
        changes = {block.label: [change for change, _ in block.changes] for block in blocks}
        labels = [block.label for block in blocks if isinstance(block.label, tuple)]
        run = [index for index, layer in enumerate(self._stack) if not isinstance(layer, _Skipped)]
        for number, direction in dict.fromkeys(label[:2] for label in labels):
            order = [index for one, way, index in labels if (one, way) == (number, direction)]
            expected = [index for index in run if direction == "forward" or index in order]
            if order != (expected if direction == "forward" else expected[::-1]):
                raise Irregular
            for repeat in self.repeats:
                found = [changes.get((number, direction, index)) for index in repeat.alike]
                if any(other != found[0] for other in found):
                    raise Irregular


def _skipped_count(origin: Block, copies: dict[int, int]) -> int:
    """Return how many skipped layers would have allocated what a block of a layer allocated."""
    return copies.get(origin.label[2], 0) if isinstance(origin.label, tuple) else 0
