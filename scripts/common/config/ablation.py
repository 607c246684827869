"""Take a text of each row away from a model, or give it that of another row: does it use both texts of a pair?

dataset = ablate(dataset, "second-text")        # the model reads the second text alone
"""

import string
from collections.abc import Sequence
from typing import Literal

from common.config.dataset import Dataset, Prompt
from common.core.errors import ConfigError, choices

Ablation = Literal["none", "first-text", "second-text", "shuffled-first"]


def ablate(dataset: Dataset, ablation: Ablation) -> Dataset:
    """Return the dataset as an ablation reads it; in a prompt, the place of a text that is not read is empty.

    Args:
        dataset: with two texts, or more.
        ablation: "first-text" reads the first text alone, "second-text" all but the first; "shuffled-first" permutes
            the first text within each split; "none" changes nothing.

    Raises:
        ConfigError: the dataset has one text, or the prompt's `user` would be empty.
    """
    if ablation == "none":
        return dataset
    if len(dataset.text) < 2:
        raise ConfigError(
            f"ablation={ablation}: the dataset '{dataset.title}' has one text, {choices(dataset.text)}; an ablation "
            "takes one of two texts away. Leave it out, or use a dataset whose `text` names two columns."
        )
    if ablation == "shuffled-first":
        return dataset.model_copy(update={"splits": dataset.splits.model_copy(update={"shuffled": True})})
    kept = dataset.text[:1] if ablation == "first-text" else dataset.text[1:]
    prompt = dataset.prompt and _without(dataset.prompt, [name for name in dataset.text if name not in kept])
    return dataset.model_copy(update={"text": kept, "prompt": prompt})


def _without(prompt: Prompt, columns: Sequence[str]) -> Prompt:
    """Return a prompt with nothing in the place of some columns."""

    def emptied(template: str) -> str:
        parts = []
        for literal, name, _, _ in string.Formatter().parse(template):
            parts.append(literal.replace("{", "{{").replace("}", "}}"))
            parts += [f"{{{name}}}"] if name is not None and name not in columns else []
        return "".join(parts)

    user = emptied(prompt.user)
    if not user.strip():
        raise ConfigError(
            f"ablation: the prompt's `user` is '{prompt.user}', of which nothing is left without "
            f"{choices(columns)}. Write words around it in the dataset's YAML file."
        )
    return Prompt(system=prompt.system and emptied(prompt.system), user=user)
