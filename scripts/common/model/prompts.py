"""The one renderer: rows to prompts and answers, as token ids, for training, baseline, evaluation and prediction alike.

A row's texts go into the data set's prompt, the prompt into the model's chat template, and the answers are what the
template writes for the assistant, up to the end of its turn. A base model without a template sees the plain prompt,
its special tokens around it.
"""

from collections.abc import Sequence
from string import Formatter
from typing import Any

from jinja2 import TemplateError

from common.config.dataset import Dataset
from common.core.errors import ConfigError, ModelError
from common.data.rows import Row
from common.model.batching import Encoded
from common.model.encoding import shorten, token_count

_DATE = "26 Jul 2024"  # what Llama 3.1's template says without a clock
_MARK = "\ue000"  # of the private use area: in no text that matters, changed by no template


class PromptEncoder:
    """Rows to the token ids of prompts; the answers' ids are the same for every row.

    Args:
        tokenizer: of the base model.
        max_length: most tokens of a prompt with its longest answer; longer rows lose the end of their longest text.
        dataset: its prompt, text columns, labels and answers.

    Attributes:
        answers: the token ids of every label's answer in class order, the end of turn included.
        endings: how many of an answer's last tokens are the end of turn, the same for all.

    Raises:
        ConfigError: the data set has no prompt.
        ModelError: an answer tokenises to nothing or to no text, or two to the same ids or text, or the prompt leaves
            no room for texts.
    """

    def __init__(self, tokenizer: Any, max_length: int, dataset: Dataset) -> None:
        if dataset.prompt is None:
            raise ConfigError(
                f"the job's head is prompt, but the data set '{dataset.title}' has no `prompt`; data/_example.yaml "
                "shows one."
            )
        self.tokenizer, self.max_length, self.dataset, self.prompt = tokenizer, max_length, dataset, dataset.prompt
        self.is_chat = tokenizer.chat_template is not None
        template = str(tokenizer.chat_template)
        if "strftime_now" in template and "date_string" not in template:
            raise ModelError(
                "the model's chat template writes today's date into every prompt: tomorrow's scores would be others. "
                "Save its tokenizer with a template without it, and name that folder as the model."
            )
        # A chat template writes the special tokens itself; a plain prompt begins as the model's texts do.
        begins = not self.is_chat and tokenizer.bos_token_id in tokenizer("x", verbose=False)["input_ids"]
        self.start = [int(tokenizer.bos_token_id)] if begins else []
        self.folds_system = self.is_chat and self.prompt.system is not None and not self._shows_system()
        words = {str(label): str(label) for label in dataset.labels} | (dataset.answers or {})
        self.words = [words[str(label)] for label in dataset.labels]
        probe = ("x",) * len(dataset.text)
        self.lead, self.end = self._around_answer(probe)
        prompt = self.render(probe)
        self.answers = [self._answer_ids(prompt, self.lead + word + self.end) for word in self.words]
        bare = [self._answer_ids(prompt, self.lead + word) for word in self.words]
        self._check_answers(bare)
        self.endings = len(self.answers[0]) - len(bare[0])
        self.longest = max(map(len, self.answers))
        least = len(self._ids(self.render(("",) * len(dataset.text)))) + self.longest
        if least > max_length:
            raise ModelError(self._no_room(least))

    # --- text ---

    def render(self, texts: Sequence[str]) -> str:
        """Return the whole prompt of one row, up to where the answer begins."""
        messages = self.messages(texts)
        if self.is_chat:
            return self._templated(messages, add_generation_prompt=True)
        return "\n\n".join(message["content"] for message in messages)

    def messages(self, texts: Sequence[str]) -> list[dict[str, str]]:
        """Return the turns before the answer; where the model has no system turn, it opens the user's."""
        values = dict(zip(self.dataset.text, texts, strict=True))
        user = _fill(self.prompt.user, values)
        if self.prompt.system is None:
            return [{"role": "user", "content": user}]
        system = _fill(self.prompt.system, values)
        if self.folds_system:
            return [{"role": "user", "content": f"{system}\n\n{user}"}]
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    def _templated(self, messages: list[dict[str, str]], **options: Any) -> str:
        # Llama's templates would put today's date where none is given.
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, date_string=_DATE, **options))

    def _shows_system(self) -> bool:
        messages = [{"role": "system", "content": _MARK}, {"role": "user", "content": "x"}]
        try:
            return _MARK in self._templated(messages)
        except TemplateError:  # Gemma's template raises
            return False

    def _around_answer(self, texts: Sequence[str]) -> tuple[str, str]:
        """Return what stands between prompt and answer, and the end of turn behind it, without the newline after it."""
        if not self.is_chat:
            # A plain prompt ends in a word or a colon: the answer is the next word.
            return ("" if self.prompt.user[-1].isspace() else " "), str(self.tokenizer.eos_token)
        messages = [*self.messages(texts), {"role": "assistant", "content": _MARK}]
        whole, prompt = self._templated(messages), self.render(texts)
        before, _, after = whole.partition(_MARK)
        # Some templates put a space there, or an empty thought.
        lead = before[len(prompt) :] if before.startswith(prompt) else ""
        return lead, after.rstrip() or str(self.tokenizer.eos_token)

    # --- token ids ---

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Turn rows into the token ids of their prompts, room for the longest answer left."""
        return [self._encode(row) for row in rows]

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Return the tokens of every row before truncation, the longest answer included."""
        return [len(self._ids(self.render(row.texts))) + self.longest for row in rows]

    def _encode(self, row: Row) -> Encoded:
        room = self.max_length - self.longest
        texts, ids = row.texts, self._ids(self.render(row.texts))
        own = sum(token_count(self.tokenizer, text) for text in texts) if len(ids) > room else 0
        while len(ids) > room:
            if own == 0:
                raise ModelError(f"row {row.id}: {self._no_room(len(ids) + self.longest)}")
            # Tokens at the seams make a cut text a little longer or shorter than counted; a second cut is enough.
            own = max(own - (len(ids) - room), 0)
            texts = shorten(self.tokenizer, texts, own)
            ids = self._ids(self.render(texts))
        prompt = self.render(texts)
        for word, answer in zip(self.words, self.answers, strict=True):
            if self._ids(prompt + self.lead + word + self.end) != ids + answer:
                raise ModelError(
                    f"row {row.id}: the end of its prompt and the answer '{word}' share a token, so the answer cannot "
                    "be scored by itself. End the data set's prompt with a line break or a colon, not with a column."
                )
        return Encoded(ids, None, row.label, row.weight, texts != row.texts)

    def read(self, ids: Sequence[int]) -> str:
        """Return the text of an answer that a model wrote: without special tokens and outer spaces."""
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        # An empty thought is written, too, but is no part of the answer.
        return text.strip().removeprefix(self.lead.strip()).strip()

    def _no_room(self, tokens: int) -> str:
        return (
            f"the prompt has {tokens} tokens even without its texts, the longest answer included, but max_length is "
            f"{self.max_length}; shorten the prompt, or raise max_length."
        )

    def _ids(self, text: str) -> list[int]:
        return self.start + list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _answer_ids(self, prompt: str, answer: str) -> list[int]:
        before, whole = self._ids(prompt), self._ids(prompt + answer)
        return whole[len(before) :] if whole[: len(before)] == before else []

    def _check_answers(self, bare: list[list[int]]) -> None:
        for word, ids in zip(self.words, bare, strict=True):
            if not ids:
                raise ModelError(
                    f"the answer '{word}' has no tokens of its own behind the end of the prompt; end the prompt "
                    "without a space, or change the answer under `answers`, both in the data set's YAML."
                )
        seen: dict[tuple[int, ...], str] = {}
        for word, ids in zip(self.words, bare, strict=True):
            if (other := seen.setdefault(tuple(ids), word)) != word:
                raise ModelError(
                    f"the answers '{other}' and '{word}' have the same tokens; this tokenizer cannot tell them apart. "
                    "Change one under `answers` in the data set's YAML."
                )
        read: dict[str, str] = {}
        for word, ids in zip(self.words, bare, strict=True):
            if not (text := self.read(ids)):
                raise ModelError(
                    f"the answer '{word}' is nothing but special tokens of this tokenizer: where a model writes it, no "
                    "text is left. Change it under `answers` in the data set's YAML."
                )
            if (other := read.setdefault(text, word)) != word:
                raise ModelError(
                    f"the answers '{other}' and '{word}' are both read as '{text}' where a model writes them: special "
                    "tokens and outer spaces do not count. Change one under `answers` in the data set's YAML."
                )


def _fill(template: str, values: dict[str, str]) -> str:
    """Put texts into braces in one pass: braces inside a text stay as they are."""
    return "".join(literal + (values[name] if name else "") for literal, name, _, _ in Formatter().parse(template))
