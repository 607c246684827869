"""Plain scripts for the work of a job, as a user writes them from the documentation of the libraries.

They are what `comparison` measures the project against, so each is the best such script:

- `train_loop`: AutoModelForSequenceClassification, LoRA, random batches padded to their longest row;
- `trainer`: the same by transformers' Trainer, with rows of similar length together; for a language model by trl's
  SFTTrainer, whose loss is that of the answers alone;
- `classify`: one row at a time, or batches of rows of similar length;
- `generate`: greedy decoding of the answer, one prompt at a time or in batches;
- `forward`: a pass over whole prompts with the logits of all tokens, which compares the answers' first tokens;
- `forward_labels`: such a pass for every label, which compares whole answers.

Mistakes that are common in such scripts and avoided here:

- a pad token that the config lacks: a decoder's head then reads padding;
- prompts padded on the right before `generate`;
- a second beginning-of-text token before that of the chat template;
- SFTTrainer's own preparation, which drops rows that are too long without a word: here it gets token ids and labels;
- its defaults of bfloat16 and activation checkpointing, which cost time where float32 fits;
- an answer trained without its end of turn;
- gradient accumulation, which scales the loss of sequence classification (transformers#47688): there is none.

Sources: https://huggingface.co/docs/peft/task_guides/lora_based_methods,
https://huggingface.co/docs/transformers/tasks/sequence_classification, https://huggingface.co/docs/trl/sft_trainer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    get_scheduler,
)
from transformers.trainer_callback import PrinterCallback

from common.config.job import Job
from common.hub.locate import locate
from common.methods.peft_library import checked_config
from common.model import device
from common.model.precision import autocast
from common.model.pretrained import from_pretrained

TokenRows = list[dict[str, Any]]  # input_ids, and what else the tokenizer returns; in training also labels
_IGNORED = -100

# --- the model -------------------------------------------------------------------------------------------------------


def load_model(job: Job, labels: int, pad_token_id: int) -> PeftModel:
    """Return the base of a job with LoRA.

    Args:
        job: model, head, method `lora`, dtype, quantization.
        labels: number of labels, for a classification head.
        pad_token_id: of the tokenizer.
    """
    options: dict[str, Any] = {**job.model_config_overrides, "attn_implementation": job.attention}
    kind: Any = AutoModelForCausalLM
    if job.head == "classification":
        kind, options = AutoModelForSequenceClassification, options | {"num_labels": labels}
    if job.quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=job.double_quantization,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=["lm_head", "score", "classifier", "pooler"],
        )
        options["device_map"] = {"": device.choose()}
    base = from_pretrained(kind, locate(job.model, job.revision), dtype=getattr(torch, job.dtype), **options)
    base.config.pad_token_id = pad_token_id
    if job.quantization == "nf4":
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    else:
        base.to(device.choose())
    return get_peft_model(base, checked_config(base, job.method))  # type: ignore[arg-type]


# --- training --------------------------------------------------------------------------------------------------------


def loop_batches(tokenizer: Any, rows: TokenRows, batch_size: int, seed: int) -> DataLoader:
    """Return the batches of `train_loop`."""
    return DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size,
        shuffle=True,
        collate_fn=DataCollatorWithPadding(tokenizer),
        generator=torch.Generator().manual_seed(seed),
    )


def train_loop(model: PeftModel, loader: DataLoader, job: Job) -> None:
    """Train one epoch, a batch a step."""
    training = job.training
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=len(loader))
    model.train()
    for batch in loader:
        with autocast(job.precision, model.device.type):
            loss = model(**batch.to(model.device)).loss
        loss.backward()
        clip_grad_norm_(parameters, training.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def trainer(model: PeftModel, tokenizer: Any, rows: TokenRows, job: Job, folder: Path, seed: int) -> Trainer:
    """Return transformers' Trainer, or for a language model trl's SFTTrainer, for one epoch."""
    training = job.training
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "per_device_train_batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "train_sampling_strategy": "group_by_length",
        "bf16": job.precision == "bfloat16",
        "fp16": job.precision == "float16",
        "use_cpu": device.choose().type == "cpu",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
    }
    made: Trainer
    if job.head == "classification":
        made = Trainer(
            model=model,
            args=TrainingArguments(**arguments),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
    else:
        import trl  # seconds to import

        made = trl.SFTTrainer(
            model=model,
            args=trl.SFTConfig(
                **arguments,
                gradient_checkpointing=False,  # trl 1.16 knows activation_checkpointing by this name alone
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
        )
    made.remove_callback(PrinterCallback)
    return made


# --- texts -----------------------------------------------------------------------------------------------------------


def tokenize(tokenizer: Any, texts: Sequence[Sequence[str]], max_length: int) -> TokenRows:
    """Return rows of one or two texts; if a tokenizer puts nothing between the texts of a pair, a line break does."""
    if tokenizer.num_special_tokens_to_add(pair=True) == 0:
        texts = [("\n".join(own),) for own in texts]
    columns = [list(column) for column in zip(*texts, strict=True)]
    found = tokenizer(*columns, truncation=True, max_length=max_length)
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


def answered(prompt: list[int], answer: list[int]) -> dict[str, Any]:
    """Return a prompt with its answer, whose tokens alone are labels, as SFTTrainer takes it."""
    return {"input_ids": prompt + answer, "labels": [_IGNORED] * len(prompt) + answer}


# --- scoring ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def classify(
    model: PeftModel, tokenizer: Any, texts: Sequence[Sequence[str]], job: Job, batch_size: int
) -> torch.Tensor:
    """Return the log probabilities (N, C) of texts, which are tokenised here."""
    model.eval()
    rows = tokenize(tokenizer, texts, job.max_length)
    parts = _chunks(rows, batch_size)
    logits = []
    for part in parts:
        batch = tokenizer.pad([rows[index] for index in part], return_tensors="pt").to(model.device)
        with autocast(job.precision, model.device.type):
            logits.append(model(**batch).logits)
    return _in_order(torch.cat(logits).float().log_softmax(dim=-1), parts)


@torch.inference_mode()
def generate(
    model: PeftModel, tokenizer: Any, prompts: Sequence[str], job: Job, answers: Sequence[list[int]], batch_size: int
) -> list[str]:
    """Return what the model answers to prompts, greedily, up to the longest answer or its end of turn."""
    model.eval()
    tokenizer.padding_side = "left"
    written: list[str] = []
    for start in range(0, len(prompts), batch_size):
        batch = tokenizer(
            list(prompts[start : start + batch_size]), add_special_tokens=False, padding=True, return_tensors="pt"
        ).to(model.device)
        with autocast(job.precision, model.device.type):
            ids = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=max(map(len, answers)),
                do_sample=False,
                eos_token_id=answers[0][-1],
                pad_token_id=tokenizer.pad_token_id,
            )
        written += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    tokenizer.padding_side = "right"
    return [text.strip() for text in written]


@torch.inference_mode()
def forward(
    model: PeftModel, tokenizer: Any, prompts: Sequence[str], job: Job, answers: Sequence[list[int]], batch_size: int
) -> torch.Tensor:
    """Return the log probabilities (N, C) of the answers' first tokens among each other."""
    model.eval()
    rows = _tokenize_prompts(tokenizer, prompts)
    parts = _chunks(rows, batch_size)
    found = []
    for part in parts:
        logits = _logits(model, tokenizer, [rows[index]["input_ids"] for index in part], job)
        last = [len(rows[index]["input_ids"]) - 1 for index in part]
        found.append(logits[range(len(part)), last][:, [answer[0] for answer in answers]].float())
    return _in_order(torch.cat(found).log_softmax(dim=-1), parts)


@torch.inference_mode()
def forward_labels(
    model: PeftModel, tokenizer: Any, prompts: Sequence[str], job: Job, answers: Sequence[list[int]], batch_size: int
) -> torch.Tensor:
    """Return the log probabilities (N, C) of whole answers among each other: every prompt is run with each of them."""
    model.eval()
    ids = [row["input_ids"] for row in _tokenize_prompts(tokenizer, prompts)]
    pairs = [(own, answer) for own in ids for answer in answers]
    rows: TokenRows = [{"input_ids": own + answer[:-1]} for own, answer in pairs]  # the last token predicts nothing
    parts = _chunks(rows, batch_size)
    found = []
    for part in parts:
        logs = _logits(model, tokenizer, [rows[index]["input_ids"] for index in part], job).float().log_softmax(dim=-1)
        for own, index in zip(logs, part, strict=True):
            prompt, answer = pairs[index]
            first = len(prompt) - 1
            found.append(own[range(first, first + len(answer)), answer].sum())
    totals = _in_order(torch.stack(found), parts)
    return totals.view(len(prompts), len(answers)).log_softmax(dim=-1)


def _logits(model: PeftModel, tokenizer: Any, sequences: list[list[int]], job: Job) -> torch.Tensor:
    """Return the logits of all tokens (B, L, V); what stands behind a sequence changes nothing in a decoder."""
    batch = tokenizer.pad({"input_ids": sequences}, return_tensors="pt").to(model.device)
    with autocast(job.precision, model.device.type):
        logits: torch.Tensor = model(**batch, use_cache=False).logits
    return logits


def _tokenize_prompts(tokenizer: Any, prompts: Sequence[str]) -> TokenRows:
    return [{"input_ids": ids} for ids in tokenizer(list(prompts), add_special_tokens=False)["input_ids"]]


def _chunks(rows: TokenRows, size: int) -> list[list[int]]:
    """Return the indices of rows as batches of rows of similar length."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _in_order(found: torch.Tensor, parts: list[list[int]]) -> torch.Tensor:
    """Return what was found part by part in the order of the rows."""
    places = torch.tensor([index for part in parts for index in part], device=found.device)
    return torch.empty_like(found).index_copy_(0, places, found).cpu()
