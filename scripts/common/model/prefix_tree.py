"""Sequences of token ids as a prefix tree: tokens that sequences have in common at their start are one node.

A decoder's token sees only those before it. So what a model computes for a common start is the same in every sequence,
and one forward pass over the nodes of the tree, each of which sees its ancestors alone, gives every sequence what a
pass of its own would give it: losses, scores, and the sum of the gradients.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from common.model import tree_attention

# Families whose forward pass was read: a mask (1, 1, T, T) reaches every layer unchanged, and positions are taken from
# position_ids. The second kind takes one mask for each kind of layer.
ONE_MASK = ("llama", "mistral", "gemma", "phi3", "granite", "olmo2", "starcoder2")
MASK_PER_LAYER_TYPE = ("qwen2", "qwen3", "smollm3", "gemma2", "gemma3_text", "ministral")
_WITH_WINDOW = ("mistral", "phi3", "starcoder2", *MASK_PER_LAYER_TYPE)  # others may carry the key, and ignore it
_LAYER_TYPES = {"full_attention", "sliding_attention"}
# Methods that add to the attention itself, or run a second model: they are given rows as the library expects them.
_OWN_ATTENTION = ("ADAPTION_PROMPT", "SHADOW")


@dataclasses.dataclass(frozen=True, slots=True)
class PrefixTree:
    """T nodes in depth-first order.

    Attributes:
        input_ids: the token of every node (T).
        position_ids: the number of its ancestors (T).
        ends: the first node after those below it (T): node k is an ancestor of q, or q itself, if k ≤ q < ends[k].
        paths: the nodes of every sequence, from its first token to its last.
    """

    input_ids: list[int]
    position_ids: list[int]
    ends: list[int]
    paths: list[list[int]]


def prefix_tree(sequences: Sequence[list[int]]) -> PrefixTree:
    """Return the tree of sequences of token ids; equal sequences have the same path."""
    input_ids: list[int] = []
    position_ids: list[int] = []
    ends: list[int] = []
    paths: list[list[int]] = [[] for _ in sequences]
    before: list[int] = []  # the sequence before in alphabetical order, with which this one shares the most
    path: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda i: sequences[i]):
        sequence = sequences[index]
        shared = shared_length(before, sequence)
        for node in path[shared:]:  # nothing more comes below these nodes
            ends[node] = len(input_ids)
        first = len(input_ids)
        input_ids += sequence[shared:]
        position_ids += range(shared, len(sequence))
        ends += [0] * (len(sequence) - shared)
        path = path[:shared] + list(range(first, len(input_ids)))
        paths[index], before = path, sequence
    for node in path:
        ends[node] = len(input_ids)
    return PrefixTree(input_ids, position_ids, ends, paths)


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of tokens that two sequences have in common at their start."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # slices are compared faster than single tokens
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def why_not(model: Any, peft_type: str | None) -> str | None:
    """Return why a model cannot run a prefix tree, as the end of a sentence; None if it can.

    Args:
        model: a causal language model, without the wrapper of a method.
        peft_type: of the peft library's method.
    """
    config = model.config
    if peft_type in _OWN_ATTENTION:
        return f"the method {str(peft_type).lower()} has an attention of its own"
    if config.model_type not in ONE_MASK + MASK_PER_LAYER_TYPE:
        return f"the family {config.model_type} is not known to take it"
    if config._attn_implementation not in ("sdpa", "eager", tree_attention.NAME):
        return f"attention {config._attn_implementation} takes no such mask"
    if getattr(config, "use_bidirectional_attention", False) or getattr(config, "is_causal", True) is False:
        return "its tokens see those behind them"
    if other := set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES:
        return f"it has layers of another kind: {', '.join(sorted(other))}"
    return None


def attention_mask(
    config: Any, position_ids: torch.Tensor, ends: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Return the mask (1, 1, T, T) of a tree in the form that the model's layers take, or one for each kind of layer.

    Args:
        config: of the model; it names its family, its attention, and the tokens of its sliding window.
        position_ids: of the nodes (T,).
        ends: of the nodes (T,).
        dtype: of the attention's logits.
    """
    index = torch.arange(len(ends), device=ends.device)
    is_seen = (index <= index[:, None]) & (index[:, None] < ends)  # [q, k]: k is an ancestor of q, or q itself
    window = getattr(config, "sliding_window", None) if config.model_type in _WITH_WINDOW else None
    in_window = is_seen
    if window is not None:
        in_window = is_seen & (position_ids[:, None] - position_ids < window)
    if config.model_type in ONE_MASK:
        return _form(config, in_window, dtype)
    by_type = {"full_attention": is_seen, "sliding_attention": in_window}
    return {kind: _form(config, by_type[kind], dtype) for kind in sorted(set(config.layer_types))}


def _form(config: Any, is_seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if config._attn_implementation != "eager":
        return is_seen[None, None]
    mask = torch.zeros(is_seen.shape, dtype=dtype, device=is_seen.device)
    return mask.masked_fill(~is_seen, torch.finfo(dtype).min)[None, None]
