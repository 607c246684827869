"""How much GPU memory a job will take, before anything is downloaded.

One training step of `token_budget` padded tokens, in rows of `max_length`, is run on tensors that have shapes but no
memory, the whole model deep: forward and backward, under autocast and activation checkpointing as the job says. What is
alive at its worst moment is counted storage by storage, so nothing about the kinds of layers need be known here. Not in
it: what CUDA takes for itself (about half a GB), and gaps between blocks of memory.
"""

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointError

from common import models, shapes
from common.config import Dataset, Job
from common.heads import keep_float32
from common.peft import attach
from common.quantization import is_norm, keep_norms_float32

_ANSWER_TOKENS = 8  # of the prompt head: no tokenizer is at hand to count them, and few answers are longer

# What comes of a method that looks at the numbers in its tensors (LoHa, VB-LoRA), or that does in its first forward
# pass what it could not do without weights (KaSA; a checkpointed layer then differs from itself computed again).
_NEEDS_NUMBERS = (DataDependentOutputException, DynamicOutputShapeException, CheckpointError)


def estimate(job: Job, dataset: Dataset) -> dict[str, Any]:
    """Return the bytes of one training step on a GPU, and their parts.

    Returns:
        `memory_estimate_bytes`, and `memory_estimate_parts_bytes` that sum up to it: weights (frozen, as the job holds
        them), trainable_states (float32 parameter, gradient and two moments of Adam), activations (what the forward
        pass leaves for the backward pass), workspace (what comes on top at the worst moment). The sum and the last two
        are None where a method's forward pass looks at numbers, which tensors without memory do not have.

    Raises:
        ModelError: as `models.count_parameters`.
    """
    config = shapes.shape(job, dataset)
    if config.pad_token_id is None:
        config.pad_token_id = config.eos_token_id if isinstance(config.eos_token_id, int) else 0  # as load_tokenizer
    model, sizes = _held_as_the_job_says(job, shapes.meta_model(job, config))
    with torch.device("meta"):
        trained = attach(model, job.method)
    parameters = list(trained.parameters())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    weights = sum(sizes.get(id(parameter), parameter.numel() * parameter.element_size()) for parameter in frozen)
    parts: dict[str, int | None] = {"weights": weights, "trainable_states": 16 * trainable}
    try:
        activations, peak = _run_step(job, trained, len(dataset.labels))
    except _NEEDS_NUMBERS:
        parts |= {"activations": None, "workspace": None}
        return {"memory_estimate_bytes": None, "memory_estimate_parts_bytes": parts}
    # bitsandbytes unpacks one layer at a time.
    unpacked = max((p.numel() * p.element_size() for p in frozen if id(p) in sizes), default=0)
    # When the optimizer steps, activations are gone; unless fused, it makes one more copy of what trains.
    step = 0 if "fused" in job.training.optim else 4 * trainable
    workspace = max(peak + unpacked, step) - activations
    parts |= {"activations": activations, "workspace": workspace}
    total = weights + 16 * trainable + activations + workspace
    return {"memory_estimate_bytes": total, "memory_estimate_parts_bytes": parts}


def _held_as_the_job_says(job: Job, model: nn.Module) -> tuple[Any, dict[int, int]]:
    """Give a model on the meta device the dtypes that `models.load_base` gives.

    Returns:
        The model, its quantised weights in the dtype that they are computed in, and the bytes that each of those takes
        when packed, by the parameter's id.
    """
    heads = {inner for head in models.head_modules(model).values() for inner in head.modules()}
    sizes: dict[int, int] = {}
    keep_norms_float32(model, job)
    for module in model.modules():
        quantized = job.quantization != "none" and isinstance(module, nn.Linear) and module not in heads
        float32 = is_norm(module) or (module in heads and job.head == "classification")
        for name, parameter in module.named_parameters(recurse=False):
            dtype = job.precision if quantized and name == "weight" else "float32" if float32 else job.dtype
            parameter.data = parameter.data.to(getattr(torch, dtype))
            if quantized and name == "weight":
                sizes[id(parameter)] = _packed_bytes(job, *parameter.shape)
                parameter.requires_grad_(False)
                module.register_forward_hook(_in_the_inputs_dtype)
                if job.quantization == "int8":
                    module.register_forward_hook(_keep_input)
    return model, sizes


def _in_the_inputs_dtype(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """As bitsandbytes' layers answer, whatever autocast says."""
    return output.to(inputs[0].dtype)


def _packed_bytes(job: Job, rows: int, columns: int) -> int:
    """Return the bytes of a quantised weight with its scales.

    Source: Dettmers et al. (2023), "QLoRA", section 3, https://arxiv.org/abs/2305.14314.
    """
    if job.quantization == "int8":
        return rows * columns + 4 * rows
    blocks = -(-rows * columns // 64)
    scales = blocks + 4 * -(-blocks // 256) if job.double_quantization else 4 * blocks
    return rows * columns // 2 + scales


def _keep_input(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    """Hold an int8 layer's input as long as its output can be differentiated, as bitsandbytes does."""
    if output.grad_fn is not None:  # no node of our own: what it returned could not be changed in place
        output.grad_fn.metadata["held"] = inputs[0].detach()  # type: ignore[index]  # a property, there


# --- one step without memory -----------------------------------------------------------------------------------------


def _run_step(job: Job, model: nn.Module, classes: int) -> tuple[int, int]:
    """Return the bytes alive after the forward pass, and the most that are alive, parameters and gradients aside."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        _without_memory(model)
        batch = _batch(job)
    inner = models.inner_model(model)
    if job.head == "classification":
        for module in models.head_modules(model).values():
            keep_float32(module)
    if job.runtime.activation_checkpointing:
        # There are no random numbers to restore.
        inner.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    model.train()
    live = LiveBytes()
    for parameter in model.parameters():
        live.leave_out(parameter)
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(live.leave_out_gradient)
    bfloat16 = torch.autocast("cpu", torch.bfloat16) if job.precision == "bfloat16" else contextlib.nullcontext()
    with fake, _gpu_kernels(), live:
        with bfloat16:
            loss = _loss(job, model, batch, classes)
        activations = live.now
        loss.backward()
    return activations, live.peak


def _without_memory(model: nn.Module) -> None:
    """Move a model from the meta device to fake tensors, in place: they know autocast, the meta device does not."""
    moved: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in moved:  # tied weights stay tied
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    is_parameter = isinstance(tensor, nn.Parameter)
                    moved[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
                tensors[name] = moved[id(tensor)]  # type: ignore[assignment]


def _batch(job: Job) -> dict[str, torch.Tensor]:
    length = job.max_length
    rows = -(-job.training.token_budget // length)  # never fewer than one: a longer row is a batch of its own
    ids = torch.ones(rows, length, dtype=torch.int64)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return batch | ({"position_ids": torch.ones_like(ids)} if job.head == "prompt" else {})


def _loss(job: Job, model: nn.Module, batch: dict[str, torch.Tensor], classes: int) -> torch.Tensor:
    """Compute the loss as `heads` does, on labels of no importance."""
    rows = len(batch["input_ids"])
    if job.head == "classification":
        return F.cross_entropy(model(**batch).logits.float(), torch.ones(rows, dtype=torch.int64))
    logits = model(**batch, logits_to_keep=_ANSWER_TOKENS + 1, use_cache=False).logits.float()[:, :-1]  # (B, K, V)
    return F.cross_entropy(logits.transpose(1, 2), torch.ones(rows, _ANSWER_TOKENS, dtype=torch.int64))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage that is made inside, as long as something refers to it.

    Attributes:
        now: alive.
        peak: the most that were alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def leave_out(self, tensor: torch.Tensor) -> None:
        """Count a tensor's bytes no longer, or never."""
        key = tensor.untyped_storage()._cdata
        self.now -= self._sizes.get(key, 0)
        self._sizes[key] = 0

    def leave_out_gradient(self, parameter: torch.Tensor) -> None:
        """Leave out the gradient that a parameter just got."""
        if parameter.grad is not None:
            self.leave_out(parameter.grad)

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


@contextlib.contextmanager
def _gpu_kernels() -> Iterator[None]:
    """Let dropout and attention leave behind what a GPU's fused kernels leave, wherever they run."""
    before = F.dropout, F.scaled_dot_product_attention
    # Set in place: modes of torch do not reach into layers that checkpointing computes again.
    F.dropout, F.scaled_dot_product_attention = _dropout, _attention  # type: ignore[assignment]
    try:
        yield
    finally:
        F.dropout, F.scaled_dot_product_attention = before


def _dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x  # keeps a mask of a byte an entry


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    **options: Any,
) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)  # made anew in every layer
    return _FusedAttention.apply(query, key, value, attn_mask)


class _FusedAttention(torch.autograd.Function):
    """The shapes of memory-efficient attention: (B, h, L, d) in and out, one log-sum a row kept, no (L, L) matrix.

    Source: Rabe and Staats (2021), "Self-attention Does Not Need O(n²) Memory", https://arxiv.org/abs/2112.05682.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, mask, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
