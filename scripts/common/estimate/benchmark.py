"""Measure memory and speed of a job on this machine, with random weights of the true shape and random tokens.

The base is built module by module in the job's dtype or quantisation, never as a whole in float32. Method, head, steps
and scoring are those of training. The longest row has max_length tokens, which is the worst case. The rows of a pass
differ in length: without padding, attention may run in another kernel than it does in training.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, TrainerCallback, set_seed
from transformers.quantizers import AutoHfQuantizer
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError
from common.core.progress import Progress
from common.data.rows import Row
from common.estimate import memory
from common.evaluation import inference
from common.hub import locate
from common.hub.locate import Base
from common.methods import attach
from common.model import architectures, base_config, device
from common.model.batching import Encoded
from common.model.build import with_head
from common.model.heads import Head
from common.model.inspect import inner_model, parameter_counts
from common.model.load import load_tokenizer, prepare_weights
from common.model.precision import weight_dtypes
from common.model.prompt_head import PromptHead
from common.model.quantization import is_quantized, quantization_config
from common.runs import provenance
from common.smoke import tiny_models
from common.train.callbacks import RankCallback
from common.train.trainer import StepTrainer

STEPS = 4  # of training, and forward passes of scoring; the first is a warm-up


def measure(job: Job, dataset: Dataset, cap_bytes: float) -> dict[str, Any]:
    """Train some steps, score some batches, and return memory and speed.

    Args:
        job: model, method, head, training arguments.
        dataset: its labels, and its prompt.
        cap_bytes: most bytes of GPU memory to use.

    Returns:
        params_total_count, params_trainable_count, memory_estimate_bytes (of a training step) and
        memory_estimate_score_bytes, both None as in `memory.estimate`, memory_cap_bytes, and for each of train and
        score: <name>_memory_peak_bytes and <name>_tokens_per_s. Cap and peaks are None without a GPU.

    Raises:
        ModelError: it does not fit, or the model's config is not known without the Hub.
    """
    estimated = memory.estimate(job, dataset)
    found: dict[str, Any] = {key: estimated[key] for key in ("memory_estimate_bytes", "memory_estimate_score_bytes")}
    found["memory_cap_bytes"] = _limit_gpu_memory(cap_bytes)
    doing = "building the model"
    try:
        set_seed(0)
        head = build(job, dataset)
        found |= parameter_counts(head.model)
        answers = [len(ids) for ids in head.encoder.answer_ids] if isinstance(head, PromptHead) else [0]
        first = answers.index(max(answers))  # the longest row has the longest answer
        labels = len(dataset.labels)
        rows = [Row(str(n), (), (first + n) % labels) for n in range(STEPS * job.training.batch_size)]
        fill = random_rows(head, job.max_length)
        head.encoder.encode = fill  # type: ignore[method-assign]
        doing = "training"
        with tempfile.TemporaryDirectory() as folder:
            trainer = one_epoch_trainer(head, job, dataset, rows, Path(folder), callbacks=[_Clock()])
            found |= _phase("train", lambda: _train(trainer))
            if trainer.budget < job.training.token_budget:  # it went on with less, as training does
                raise ModelError(_too_large(doing, found))
            doing = "scoring"  # as training validates: the optimizer's states stay in memory
            found |= _phase("score", lambda: _score(head, rows[0], job.runtime.score_token_budget))
            if head.batch_parts > 1:
                raise ModelError(_too_large(doing, found))
    except torch.OutOfMemoryError as error:
        raise ModelError(_too_large(doing, found)) from error
    return found


# --- the model -------------------------------------------------------------------------------------------------------


def build(job: Job, dataset: Dataset) -> Head:
    """Return the head that `build.build_head` builds, with random weights; a Hub model gets its tiny model's tokenizer.

    Raises:
        ModelError: the model's config is not known without the Hub.
    """
    base = locate.locate(job.model, job.revision)
    if base.revision is None:
        tokenizer = load_tokenizer(base)
    else:
        architectures.config(base.name)  # raises where it is not known
        with tempfile.TemporaryDirectory() as folder:
            tiny_models.make_tokenizer(base.name).save_pretrained(folder)
            tokenizer = load_tokenizer(Base(folder, None))
    config = base_config.offline_config(job, dataset)
    config.pad_token_id = tokenizer.pad_token_id
    model = attach(random_base(job, config), job.method)
    return with_head(job, dataset, model, tokenizer)


def random_base(job: Job, config: PretrainedConfig) -> PreTrainedModel:
    """Return the base that `load.load_base` returns, with random weights."""
    place, dtype = device.choose(), getattr(torch, job.dtype)
    model = base_config.meta_model(job, config)
    dtypes = weight_dtypes(job, model)
    quantization = quantization_config(job, model, dtypes)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)  # buffers stay float32
    quantizer = AutoHfQuantizer.from_config(quantization, pre_quantized=False) if quantization else None
    if quantizer:
        quantizer.preprocess_model(model, device_map={"": place})
    for name, module in model.named_modules():
        if quantizer is None or not is_quantized(module):
            module.to_empty(device=place, recurse=False)
            continue
        weight: torch.Tensor = module.weight
        values = torch.empty(weight.shape, dtype=dtype, device=place).normal_(std=0.02)
        packed = quantizer.get_quantize_ops().convert({f"{name}.weight": values}, model=model)
        module.weight = packed[f"{name}.weight"]
        if module.bias is not None:
            module.bias = nn.Parameter(torch.zeros(len(values), dtype=dtype, device=place), requires_grad=False)
        module._is_hf_initialized = True
    model.initialize_weights()
    model.tie_weights()
    if quantizer:
        model.hf_quantizer = quantizer
        quantizer.postprocess_model(model)
    return prepare_weights(job, model, dtypes)


def random_rows(head: Head, length: int) -> Any:
    """Return a function that encodes any rows as random tokens: the first row has `length` tokens when it trains.

    The others have fewer and fewer, at least seven eighths of it.
    """
    config = inner_model(head.model).config
    size = length - (head.encoder.longest_answer if isinstance(head, PromptHead) else 0)
    has_types = "token_type_ids" in head.encoder.tokenizer.model_input_names

    def encode(rows: Sequence[Row]) -> list[Encoded]:
        encoded = []
        for index, row in enumerate(rows):
            tokens = size - index * (size // 8) // len(rows)
            ids = torch.randint(config.vocab_size, (tokens,)).tolist()
            encoded.append(Encoded(ids, [0] * tokens if has_types else None, row.label, row.weight, False))
        return encoded

    return encode


# --- the measurement -------------------------------------------------------------------------------------------------


class _Clock(TrainerCallback):
    """Record the time when each step was finished on the device."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note()

    def _note(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.monotonic())


def one_epoch_trainer(
    head: Head,
    job: Job,
    dataset: Dataset,
    rows: Sequence[Row],
    folder: Path,
    seed: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
) -> StepTrainer:
    """Return a trainer of one epoch that does not evaluate, save or report."""
    training = job.training.model_copy(update={"epochs": 1.0})
    runtime = job.runtime.model_copy(update={"report_to": []})
    short = job.model_copy(update={"training": training, "runtime": runtime})
    ours = [*callbacks, RankCallback()]
    trainer = StepTrainer(head, short, dataset, rows, rows[:1], folder / "checkpoints", seed, ours)
    trainer.args.eval_strategy, trainer.args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    return trainer


def _train(trainer: StepTrainer) -> tuple[list[float], int]:
    """Return the seconds of every step, and the tokens of one step."""
    trainer.train()
    clock = next(one for one in trainer.callback_handler.callbacks if isinstance(one, _Clock))
    seconds = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
    return seconds, sum(map(trainer.head.training_tokens, trainer.encoded)) // len(seconds)


def _score(head: Head, row: Row, budget: int) -> tuple[list[float], int]:
    """Return the seconds of every forward pass, and the tokens of one pass."""
    longest = head.scoring_tokens(head.encoder.encode([row])[0])
    rows = [row] * max(1, head.most_tokens(budget) // longest)
    seconds = []
    for number in range(STEPS):
        start = time.monotonic()
        inference.score(head, rows, budget, Progress(f"score {number + 1} of {STEPS}", len(rows), "row"))
        seconds.append(time.monotonic() - start)
    return seconds, sum(map(head.scoring_tokens, head.encoder.encode(rows)))


def _limit_gpu_memory(cap_bytes: float) -> int | None:
    """Limit the GPU memory of this process, and return the limit in bytes; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, cap_bytes / total))
    return int(min(cap_bytes, total))


def _phase(name: str, work: Any) -> dict[str, Any]:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds, tokens = work()
    peak = provenance.memory_peaks()["gpu_memory_peak_bytes"]
    rate = tokens / statistics.median(seconds[1:])
    return {f"{name}_memory_peak_bytes": peak, f"{name}_tokens_per_s": round(rate, 1)}


def _too_large(doing: str, found: dict[str, Any]) -> str:
    estimate = found["memory_estimate_score_bytes" if doing == "scoring" else "memory_estimate_bytes"]
    cap = found["memory_cap_bytes"]
    peak = provenance.memory_peaks()["gpu_memory_peak_bytes"]
    estimated = f"; make check estimates {estimate / 1e9:.2f} GB for it" if estimate else ""
    reached = "" if peak is None or cap is None else f" at {peak / 1e9:.2f} GB of {cap / 1e9:.2f} GB (MEMORY_GB)"
    return (
        f"out of memory while {doing}{reached}{estimated}. "
        "Lower training.token_budget, runtime.score_token_budget or max_length, set "
        "runtime.activation_checkpointing=true or quantization=nf4."
    )
