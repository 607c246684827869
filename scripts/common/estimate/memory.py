"""How much GPU memory a job will take, before anything is downloaded.

A training step and a scoring pass, each as large as their token budgets allow, are run with the job's own head on
tensors that have shapes but no memory: see `footprint`. Not in the figures: what CUDA takes for itself (about half a
GB), and gaps between blocks of memory.
"""

import bisect
import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils.checkpoint import CheckpointError

from common.config.dataset import Dataset
from common.config.job import Job
from common.config.methods import LibraryMethod
from common.estimate.live_bytes import LiveBytes, gpu_kernels, without_memory
from common.methods import attach, peft_library
from common.model import base_config
from common.model.batching import Encoded
from common.model.heads import ClassificationHead, Head
from common.model.inspect import head_modules, inner_model
from common.model.precision import is_norm, keep_float32, keep_logits_float32, keep_norms_float32
from common.model.prompt_head import PromptHead

_ANSWER_TOKENS = 8  # of the prompt head: no tokenizer is at hand to count them, and few answers are longer

# What comes of a method that looks at the numbers in its tensors (LoHa, VB-LoRA), or that does in its first forward
# pass what it could not do without weights (KaSA; a checkpointed layer then differs from itself computed again).
_NEEDS_NUMBERS = (DataDependentOutputException, DynamicOutputShapeException, CheckpointError)


def estimate(job: Job, dataset: Dataset) -> dict[str, Any]:
    """Return the bytes of one training step on a GPU and their parts, and the bytes of scoring between two steps.

    Returns:
        `memory_estimate_bytes`, and `memory_estimate_parts_bytes` that sum up to it: weights (frozen, as the job holds
        them), trainable_states (float32 parameter, gradient and two moments of Adam), activations (what the forward
        pass leaves for the backward pass), workspace (what comes on top at the worst moment);
        `memory_estimate_score_bytes`: the same weights and states, without gradients, and the worst moment of scoring.
        None is what cannot be known without weights: where a method's forward pass looks at numbers, or where the
        method itself is made of them.

    Raises:
        ModelError: as `models.count_parameters`.
    """
    parts: dict[str, int | None] = dict.fromkeys(("weights", "trainable_states", "activations", "workspace"))
    unknown = {"memory_estimate_bytes": None, "memory_estimate_score_bytes": None, "memory_estimate_parts_bytes": parts}
    config = base_config.shape(job, dataset)
    if config.pad_token_id is None:
        config.pad_token_id = config.eos_token_id if isinstance(config.eos_token_id, int) else 0  # as load_tokenizer
    model, sizes = _held_as_the_job_says(job, base_config.meta_model(job, config))
    if isinstance(job.method, LibraryMethod) and not peft_library.fits_meta(job.method):
        return unknown
    with torch.device("meta"):
        trained = attach(model, job.method)
    parameters = list(trained.parameters())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    weights = sum(sizes.get(id(parameter), parameter.numel() * parameter.element_size()) for parameter in frozen)
    # bitsandbytes unpacks one layer at a time.
    unpacked = max((p.numel() * p.element_size() for p in frozen if id(p) in sizes), default=0)
    parts |= {"weights": weights, "trainable_states": 16 * trainable}
    if job.method.name == "shira":
        return unknown  # which entries of a weight it changes is not chosen on the meta device
    try:
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with fake, gpu_kernels():
            head = _head(job, dataset, trained)
            peak, activations = _training_step(head, job, dataset)
            score_peak = _scoring_pass(head, job, dataset)
    except _NEEDS_NUMBERS:
        return unknown
    # When the optimizer steps, activations are gone; unless fused, it makes one more copy of what trains.
    step = 0 if "fused" in job.training.optim else 4 * trainable
    parts |= {"activations": activations, "workspace": max(peak + unpacked, step) - activations}
    return {
        "memory_estimate_bytes": weights + 16 * trainable + max(peak + unpacked, step),
        "memory_estimate_score_bytes": weights + 12 * trainable + score_peak + unpacked,
        "memory_estimate_parts_bytes": parts,
    }


def _held_as_the_job_says(job: Job, model: nn.Module) -> tuple[Any, dict[int, int]]:
    """Give a model on the meta device the dtypes that `models.load_base` gives.

    Returns:
        The model, its quantised weights in the dtype that they are computed in, and the bytes that each of those takes
        when packed, by the parameter's id.
    """
    heads = {inner for head in head_modules(model).values() for inner in head.modules()}
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


# --- a step and a pass without memory ---------------------------------------------------------------------------------


@dataclasses.dataclass
class _Encoder:
    """Stands in for a row encoder, which needs a tokenizer: for a prompt, answers that differ in every token."""

    tokenizer: Any
    answers: list[list[int]]
    endings: int = 1  # tokens that end an answer's turn


def _head(job: Job, dataset: Dataset, model: nn.Module) -> Head:
    """Put a model on the meta device behind its head, as `models.with_head` does."""
    without_memory(model)
    inner = inner_model(model)
    if job.runtime.activation_checkpointing:
        # There are no random numbers to restore.
        inner.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    if job.head == "prompt":
        keep_logits_float32(inner.get_output_embeddings())
    else:
        for module in head_modules(model).values():
            keep_float32(module)
    return _headed(job, dataset, model)


def _headed(job: Job, dataset: Dataset, model: nn.Module) -> Head:
    """Return the job's head over a model that is ready for it, with an encoder that has no tokenizer."""
    answers = [[number] * _ANSWER_TOKENS for number in range(len(dataset.labels))]
    encoder: Any = _Encoder(SimpleNamespace(pad_token_id=0), answers)
    if job.head == "prompt":
        return PromptHead(model, encoder, job.precision == "bfloat16", job.length_normalization)
    return ClassificationHead(model, encoder, job.precision == "bfloat16")


def _lengths(job: Job, dataset: Dataset, budget: int, most_rows: int, tokens: Callable[[Encoded], int]) -> set[int]:
    """Return the tokens of rows that make the largest batches of a budget.

    Those are the longest rows, rows just short enough for one more of them, and for a prompt, every row of which has
    logits over the vocabulary, as many rows as there may be: a prompt has at least as many tokens as words.

    Args:
        job: its longest rows and its head.
        dataset: its prompt.
        budget: padded tokens of a pass.
        most_rows: of a pass.
        tokens: what a row costs of the budget.
    """
    longest = job.max_length

    def fitting(rows: int) -> int:
        cost = budget // rows
        return max(1, bisect.bisect_right(range(1, longest + 1), cost, key=lambda length: tokens(_row(job, length))))

    rows = max(1, budget // tokens(_row(job, longest)))
    lengths = {longest, fitting(rows + 1 if rows < most_rows else rows)}
    if job.head == "prompt" and dataset.prompt is not None:
        words = f"{dataset.prompt.system or ''} {dataset.prompt.user}".split()
        shortest = min(longest, len(words) + _ANSWER_TOKENS)
        rows = min(most_rows, max(1, budget // tokens(_row(job, shortest))))
        lengths.add(max(shortest, fitting(rows)))
    return lengths


def _row(job: Job, length: int) -> Encoded:
    """Return a row that takes `length` tokens, its answer included."""
    own = length - _ANSWER_TOKENS if job.head == "prompt" else length
    return Encoded([1] * max(own, 1), None, label=0, weight=1.0, truncated=False)


def _training_step(head: Head, job: Job, dataset: Dataset) -> tuple[int, int]:
    """Return the most bytes that are alive, parameters and gradients aside, and those after the forward pass."""
    budget, most = job.training.token_budget, job.training.batch_size
    head.model.train()
    found = []
    for length in _lengths(job, dataset, budget, most, head.training_tokens):
        row = _row(job, length)
        rows = min(most, max(1, budget // head.training_tokens(row)))
        with LiveBytes(head.model) as live:
            batch = head.training_batch([row] * rows)
            loss = head.losses(batch, job.training.label_smoothing).sum()
            activations = live.now
            loss.backward()
        found.append((live.peak, activations))
        del batch, loss
    return max(found)


def _scoring_pass(head: Head, job: Job, dataset: Dataset) -> int:
    """Return the most bytes that are alive, parameters aside."""
    budget = job.runtime.score_token_budget
    head.model.eval()
    peak = 0
    for length in _lengths(job, dataset, budget, budget, head.scoring_tokens):
        row = _row(job, length)
        with torch.no_grad(), LiveBytes(head.model) as live:
            batch = head.scoring_batch([row] * max(1, budget // head.scoring_tokens(row)))
            head.scores(batch)
            if job.decoding == "generate":
                del batch
                ids = torch.ones(max(1, budget // length), length, dtype=torch.int64)
                with head.autocast():  # every layer's keys and values are kept
                    head.model(input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=1, use_cache=True)
        peak = max(peak, live.peak)
    return peak
