"""A prompt head beside plain scripts: the same losses, gradients, scores and predictions; training and scoring."""

import re
from collections.abc import Sequence
from typing import Any

import torch

from common.config.dataset import Dataset
from common.core.errors import ModelError
from common.core.progress import Progress
from common.data.rows import Row
from common.estimate import equivalence, plain_baselines
from common.estimate.plain_baselines import TokenRows
from common.estimate.side_by_side import Way
from common.estimate.sides import OURS, Sides, Task
from common.evaluation import inference
from common.model.losses import answer_losses
from common.model.precision import autocast
from common.model.prompt_head import PromptHead
from common.model.prompts import PromptEncoder, gold

SFT = "SFTTrainer"
GENERATE = "generate, batch {}"
FORWARD, PER_LABEL = "whole logits", "whole logits, per label"
BATCH = 8
MANY = 150  # labels


def check_equal(sides: Sides) -> dict[str, Any]:
    """Return by how much the sides' results differ, as `equivalence` measures it.

    Raises:
        ModelError: they differ by more than rounding.
    """
    head, precision = _head(sides), sides.job.precision
    rows, chosen = _token_rows(sides), head.encoder.encode(sides.train)[: sides.job.training.batch_size]
    trainer = sides.our_trainer()
    sides.restore(sides.trained)
    ours, theirs = head.model, sides.plain
    with equivalence.without_dropout(ours), equivalence.without_dropout(theirs):
        batch = {key: value.to(head.device) for key, value in head.training_batch(chosen).items()}
        with torch.no_grad():
            own = head.losses(batch)
            losses = torch.stack([_loss(sides, row) for row in rows[: len(chosen)]])
        found = {"losses": equivalence.check_close("losses", own, losses, precision)}
        theirs.train()
        reference = sides.their_trainer(rows[: len(chosen)])
        sides.restore(sides.trained)
        together = reference.data_collator(rows[: len(chosen)])
        together = {key: value.to(head.device) for key, value in together.items()}
        with autocast(precision, head.device.type):
            loss: Any = reference.compute_loss(theirs, together)
        loss.backward()
        expected = equivalence.gradients(theirs)
        trainer.training_step(ours, (chosen, trainer.micro_batches(chosen)))
        found["gradients"] = equivalence.check_gradients(equivalence.gradients(ours), expected, precision)
    prompts = _prompts(head, sides.test)
    scores = sides.score(sides.test)
    plain = plain_baselines.forward_labels(theirs, sides.tokenizer, prompts, sides.job, head.scored, BATCH)
    found["scores"] = equivalence.check_close("scores", scores, plain, precision)
    count = equivalence.check_predictions(PER_LABEL, scores.numpy(), plain.numpy(), precision)
    written = plain_baselines.generate(theirs, sides.tokenizer, prompts, sides.job, head.encoder.answer_ids, BATCH)
    budget = sides.job.runtime.score_token_budget
    progress = Progress("generate", len(prompts), "row")
    if inference.generate(head, sides.test, budget, progress) != written and precision == "float32":
        raise ModelError("the plain script generates other texts; times of different work are not compared.")
    words = [head.encoder.label_words[index] for index in scores.argmax(dim=1).tolist()]
    agreeing = sum(word == text for word, text in zip(words, written, strict=True))
    return {"differences": found, "equal_predictions_count": count, "generated_predictions_count": agreeing}


def tasks(sides: Sides) -> list[Task]:
    """Return what is measured: one epoch of training, scoring, and scoring with many labels."""
    head, rows = _head(sides), _token_rows(sides)
    training = [
        Way(OURS, lambda trainer: trainer.train(), sides.our_trainer),
        Way(SFT, lambda trainer: trainer.train(), lambda: sides.their_trainer(rows)),
    ]
    many = _with_many_labels(head, sides)
    row = min(sides.test, key=lambda one: abs(len(" ".join(one.texts)) - 100))
    return [
        Task("training", len(rows), training),
        Task("scoring", len(sides.test), _scoring(sides, head, sides.test, [FORWARD, PER_LABEL, 1, BATCH])),
        Task(f"scoring, {len(many.encoder.label_words)} labels", 1, _scoring(sides, many, [row], [PER_LABEL])),
    ]


def memory(sides: Sides) -> dict[str, int]:
    """Return the bytes that one epoch of training takes at most, by the project and by SFTTrainer."""
    reference = sides.their_trainer(_token_rows(sides))

    def backward(batch: Any) -> None:
        with autocast(sides.job.precision, sides.plain.device.type):
            loss: Any = reference.compute_loss(sides.plain, batch)
        loss.backward()

    return sides.memory(SFT, reference.get_train_dataloader(), backward)


def _scoring(sides: Sides, head: PromptHead, rows: Sequence[Row], others: Sequence[str | int]) -> list[Way]:
    """Return ways to score rows; a number is `generate` with that batch size."""

    def ours(_: Any) -> Any:
        return inference.score(head, rows, sides.job.runtime.score_token_budget, Progress("score", len(rows), "row"))

    def theirs(kind: str | int) -> Way:
        def work(_: Any) -> Any:
            prompts = _prompts(head, rows)
            given = (sides.plain, sides.tokenizer, prompts, sides.job)
            if isinstance(kind, int):
                return plain_baselines.generate(*given, head.encoder.answer_ids, kind)
            score = plain_baselines.forward if kind == FORWARD else plain_baselines.forward_labels
            return score(*given, head.scored, BATCH)

        return Way(GENERATE.format(kind) if isinstance(kind, int) else kind, work)

    return [Way(OURS, ours), *map(theirs, others)]


def _with_many_labels(head: PromptHead, sides: Sides) -> PromptHead:
    """Return the head of a dataset with many labels: words of the train texts."""
    words = sorted({word for row in sides.train for text in row.texts for word in re.findall(r"[a-z]{5,}", text)})
    user = "\n".join(f"{{{name}}}" for name in sides.dataset.text) + "\nTopic:"
    described = sides.dataset.model_dump(by_alias=True) | {"labels": words[:MANY], "prompt": {"user": user}}
    for key in ("answers", "mean_f1_labels", "drop_labels", "score"):
        described.pop(key, None)
    encoder = PromptEncoder(sides.tokenizer, sides.job.max_length, Dataset.model_validate(described))
    return PromptHead(head.model, encoder, head.precision)


def _head(sides: Sides) -> PromptHead:
    assert isinstance(sides.head, PromptHead)
    return sides.head


def _prompts(head: PromptHead, rows: Sequence[Row]) -> list[str]:
    return [head.encoder.render(row.texts) for row in rows]


def _token_rows(sides: Sides) -> TokenRows:
    """Return the train rows with their answers, as SFTTrainer takes them."""
    encoder = _head(sides).encoder
    prompts = sides.tokenizer(_prompts(_head(sides), sides.train), add_special_tokens=False)["input_ids"]
    answers = [encoder.answer_ids[gold(row)] for row in sides.train]
    if prompts != [row.input_ids for row in encoder.encode(sides.train)]:
        raise ModelError("the plain script makes other token ids; times of different work are not compared.")
    return [plain_baselines.answered(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]


def _loss(sides: Sides, row: dict[str, Any]) -> torch.Tensor:
    """Return the plain model's loss of a row's answer, summed over its tokens."""
    ids = torch.tensor([row["input_ids"]], device=sides.plain.device)
    labels = torch.tensor([row["labels"]], device=sides.plain.device)
    with autocast(sides.job.precision, sides.plain.device.type):
        logits = sides.plain(input_ids=ids).logits[0].float()
    places = torch.arange(len(logits) - 1, device=logits.device)
    return answer_losses(logits, places, labels[0, 1:])
