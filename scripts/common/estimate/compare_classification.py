"""A classification head beside plain scripts: the same losses, gradients, scores and predictions; training, scoring."""

from typing import Any

import torch
import torch.nn.functional as F

from common.core.errors import ModelError
from common.estimate import equivalence, plain_baselines
from common.estimate.plain_baselines import TokenRows
from common.estimate.side_by_side import Way
from common.estimate.sides import OURS, Sides, Task
from common.model.precision import autocast

LOOP, GROUPED = "plain loop", "Trainer, group_by_length"
ONE, SORTED = "one at a time", "sorted batches of 32"


def check_equal(sides: Sides) -> dict[str, Any]:
    """Return by how much the sides' results differ, as `equivalence` measures it.

    Raises:
        ModelError: they differ by more than rounding.
    """
    precision, rows = sides.job.precision, _token_rows(sides)
    encoded = sides.head.encoder.encode(sides.train)
    if any(own["input_ids"] != other.input_ids for own, other in zip(rows, encoded, strict=True)):
        raise ModelError("the plain script makes other token ids; times of different work are not compared.")
    sides.restore(sides.trained)
    step = range(sides.job.training.batch_size)
    trainer = sides.our_trainer()
    sides.restore(sides.trained)
    ours, theirs = sides.head.model, sides.plain
    with equivalence.without_dropout(ours), equivalence.without_dropout(theirs):
        losses = torch.cat([_losses(sides, rows[i : i + 1]) for i in step])
        with torch.no_grad():
            own = torch.cat([sides.head.losses(_on(sides, [encoded[i]])) for i in step])
        found = {"losses": equivalence.check_close("losses", own, losses, precision)}
        theirs.train()
        _losses(sides, [rows[i] for i in step], grad=True).mean().backward()
        expected = equivalence.gradients(theirs)
        chosen = [encoded[i] for i in step]
        trainer.training_step(ours, (chosen, trainer.micro_batches(chosen)))
        found["gradients"] = equivalence.check_gradients(equivalence.gradients(ours), expected, precision)
    scores = sides.score(sides.test)
    texts = [row.texts for row in sides.test]
    for name, size in ((ONE, 1), (SORTED, 32)):
        plain = plain_baselines.classify(theirs, sides.tokenizer, texts, sides.job, size)
        found[f"scores, {name}"] = equivalence.check_close("scores", scores, plain, precision)
        count = equivalence.check_predictions(name, scores.numpy(), plain.numpy(), precision)
    return {"differences": found, "equal_predictions_count": count}


def tasks(sides: Sides) -> list[Task]:
    """Return what is measured: one epoch of training, and scoring."""
    rows, texts = _token_rows(sides), [row.texts for row in sides.test]
    size = sides.job.training.batch_size

    def loop_start() -> Any:
        sides.restore(sides.start)
        return plain_baselines.loop_batches(sides.tokenizer, rows, size, sides.seed)

    def classified(batch_size: int) -> Any:
        return lambda _: plain_baselines.classify(sides.plain, sides.tokenizer, texts, sides.job, batch_size)

    training = [
        Way(OURS, lambda trainer: trainer.train(), sides.our_trainer),
        Way(LOOP, lambda loader: plain_baselines.train_loop(sides.plain, loader, sides.job), loop_start),
        Way(GROUPED, lambda trainer: trainer.train(), lambda: sides.their_trainer(rows)),
    ]
    scoring = [
        Way(OURS, lambda _: sides.score(sides.test)),
        Way(ONE, classified(1)),
        Way(SORTED, classified(32)),
    ]
    return [Task("training", len(rows), training), Task("scoring", len(texts), scoring)]


def memory(sides: Sides) -> dict[str, int]:
    """Return the bytes that one epoch of training takes at most, by the project and by the plain loop."""
    loader = plain_baselines.loop_batches(
        sides.tokenizer, _token_rows(sides), sides.job.training.batch_size, sides.seed
    )

    def backward(batch: Any) -> None:
        with autocast(sides.job.precision, sides.plain.device.type):
            loss = sides.plain(**batch.to(sides.plain.device)).loss
        loss.backward()

    return sides.memory(LOOP, loader, backward)


def _token_rows(sides: Sides) -> TokenRows:
    texts = [row.texts for row in sides.train]
    rows = plain_baselines.tokenize(sides.tokenizer, texts, sides.job.max_length)
    return [row | {"labels": own.label} for row, own in zip(rows, sides.train, strict=True)]


def _on(sides: Sides, rows: Any) -> Any:
    return {key: value.to(sides.head.device) for key, value in sides.head.training_batch(rows).items()}


def _losses(sides: Sides, rows: TokenRows, grad: bool = False) -> torch.Tensor:
    """Return the plain model's loss of every row (B,)."""
    batch = sides.tokenizer.pad(rows, return_tensors="pt").to(sides.plain.device)
    labels = batch.pop("labels")
    with torch.set_grad_enabled(grad), autocast(sides.job.precision, sides.plain.device.type):
        logits = sides.plain(**batch).logits
    return F.cross_entropy(logits.float(), labels, reduction="none")
