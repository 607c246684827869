"""Render rows as prompts and label words as answers, and encode both; the only renderer, for all commands.

A row's texts are put into the dataset's prompt, and the prompt into the model's chat template. An answer is what the
template writes for the assistant: a prefix, the label word (the verbalizer), and the end of turn. A base model without
a template gets the plain prompt after its beginning-of-text token. A special token that a text spells is ordinary text
(`control_tokens`); the template, the dataset's prompt and its answers may write one.
"""

from collections.abc import Callable, Sequence
from string import Formatter
from typing import Any

from common.config.dataset import Dataset
from common.core.errors import ConfigError, ModelError
from common.data.rows import Row
from common.model.batching import Encoded
from common.model.chat_template import MARK, ChatTemplate
from common.model.control_tokens import ControlTokens, find_mark, mask
from common.model.encoding import Truncation, shorten, token_count
from common.model.vocabulary import check_ids


class PromptEncoder:
    """Turns rows into the token ids of their prompts; the answers are the same for every row.

    Args:
        tokenizer: of the base model.
        max_length: most tokens of a prompt with its longest answer; longer rows lose a part of their longest text.
        dataset: its prompt, text columns, labels and `answers` (label words; without them, the labels).
        examples: rows with labels that every prompt shows first, with their answers, as earlier turns of the chat.
        truncation: which part of a text is cut, see `encoding.shorten`.

    Attributes:
        control: the tokenizer's control tokens.
        id_limit: the number of rows of the model's embedding, where known: a larger token id is an error.
        label_words: the word for every label, in class order.
        answer_prefix: text that the chat template writes between the prompt and the label word.
        end_of_turn: text after the label word, without the line break that may follow.
        answer_ids: the token ids of every label's answer, in class order: prefix, label word, end of turn.
        end_of_turn_length: the number of tokens of the end of turn.
        longest_answer: the number of tokens of the longest answer.
        example_length: the number of tokens that the examples add to every prompt, beside `max_length`.

    Raises:
        ConfigError: the dataset has no prompt.
        ModelError: an answer has no tokens or no text, two have the same tokens or text, the prompt leaves no room for
            texts, or the chat template opens a thought before the answer.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        dataset: Dataset,
        examples: Sequence[Row] = (),
        truncation: Truncation = "tail",
    ) -> None:
        if dataset.prompt is None:
            raise ConfigError(
                f"the job's head is prompt, but the dataset '{dataset.title}' has no `prompt`; data/_example.yaml "
                "shows one."
            )
        self.tokenizer, self.max_length, self.dataset, self.prompt = tokenizer, max_length, dataset, dataset.prompt
        self.truncation, self.control = truncation, ControlTokens(tokenizer)
        self.id_limit: int | None = None
        self.chat = ChatTemplate(tokenizer) if tokenizer.chat_template is not None else None
        # A chat template writes the special tokens itself; a plain prompt begins like the texts of the model.
        begins = self.chat is None and tokenizer.bos_token_id in tokenizer("x", verbose=False)["input_ids"]
        self.start = [int(tokenizer.bos_token_id)] if begins else []
        self.folds_system = self.chat is not None and self.prompt.system is not None and not self.chat.shows_system()
        words = {str(label): str(label) for label in dataset.labels} | (dataset.answers or {})
        self.label_words = [words[str(label)] for label in dataset.labels]
        self.examples: Sequence[Row] = ()
        probe = ("x",) * len(dataset.text)
        self.answer_prefix, self.end_of_turn = self._around_label_word(probe)
        prompt = self.render(probe)
        self.answer_ids = [self._ids_after(prompt, self.answer(word)) for word in self.label_words]
        word_ids = [self._ids_after(prompt, self.answer_prefix + word) for word in self.label_words]
        self._check_label_words(word_ids)
        self.end_of_turn_length = len(self.answer_ids[0]) - len(word_ids[0])
        self.longest_answer = max(map(len, self.answer_ids))
        empty = ("",) * len(dataset.text)
        shortest = len(self._ids(self.render(empty)))
        if shortest + self.longest_answer > max_length:
            raise ModelError(self._no_room(shortest + self.longest_answer))
        if (
            examples
            and self.prompt.system is not None
            and any(f"{{{name}}}" in self.prompt.system for name in dataset.text)
        ):
            raise ConfigError(
                f"the prompt of the dataset '{dataset.title}' names a column in its system text, which an example "
                "would share with the row. For few-shot write all columns in the user text."
            )
        self.examples = examples
        # What a prompt has without those that texts spell.
        self._control_count = self.control.count(self._ids(self.render(probe, lambda _: "x")))
        self.example_length = len(self._ids(self.render(empty))) - shortest

    # --- text ---

    def render(self, texts: Sequence[str], write: Callable[[str], str] = str) -> str:
        """Return the prompt of one row as text, up to the start of the answer.

        Args:
            texts: of the row.
            write: returns how a text, also one of an example, is written.
        """
        messages = self.messages(texts, write)
        if self.chat is not None:
            return self.chat.render(messages, add_generation_prompt=True)
        # A plain text: an answer follows its prompt at once, all else after an empty line.
        prompts = [message["content"] for message in messages if message["role"] != "assistant"]
        answers = [self.answer_prefix + message["content"] for message in messages if message["role"] == "assistant"]
        first = len(prompts) - len(answers) - 1  # 1 with a system text
        shown = [prompt + answer for prompt, answer in zip(prompts[first:], answers, strict=False)]
        return "\n\n".join([*prompts[:first], *shown, prompts[-1]])

    def messages(self, texts: Sequence[str], write: Callable[[str], str] = str) -> list[dict[str, str]]:
        """Return the turns before the answer: the system's, the examples' with their answers, the row's.

        Without a system turn in the template, its text begins the first user turn.
        """
        turns = []
        for example in self.examples:
            turns.append({"role": "user", "content": self._filled(self.prompt.user, example.texts, write)})
            turns.append({"role": "assistant", "content": self.label_words[gold(example)]})
        turns.append({"role": "user", "content": self._filled(self.prompt.user, texts, write)})
        if self.prompt.system is None:
            return turns
        system = self._filled(self.prompt.system, texts, write)
        if not self.folds_system:
            return [{"role": "system", "content": system}, *turns]
        return [{"role": "user", "content": f"{system}\n\n{turns[0]['content']}"}, *turns[1:]]

    def _filled(self, template: str, texts: Sequence[str], write: Callable[[str], str]) -> str:
        return _fill(template, dict(zip(self.dataset.text, map(write, texts), strict=True)))

    def answer(self, label_word: str) -> str:
        """Return the text that follows the prompt: prefix, label word, end of turn."""
        return self.answer_prefix + label_word + self.end_of_turn

    def _around_label_word(self, texts: Sequence[str]) -> tuple[str, str]:
        """Return the text between prompt and label word, and the end of turn without the line break after it."""
        if self.chat is None:
            # A plain prompt ends in a word or a colon: the answer is the next word.
            return ("" if self.prompt.user[-1].isspace() else " "), str(self.tokenizer.eos_token)
        messages = [*self.messages(texts), {"role": "assistant", "content": MARK}]
        whole, prompt = self.chat.render(messages), self.render(texts)
        before, _, after = whole.partition(MARK)
        # Some templates write a space there, or an empty thought.
        prefix = before[len(prompt) :] if before.startswith(prompt) else ""
        return prefix, after.rstrip() or str(self.tokenizer.eos_token)

    # --- token ids ---

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Return the token ids of the rows' prompts, shortened so that the longest answer fits into max_length."""
        return [self._encode(row) for row in rows]

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Return the tokens of every row before truncation, with the longest answer and without the examples."""
        beside = self.longest_answer - self.example_length
        return [len(self._read(row)[0](row.texts, "")) + beside for row in rows]

    def _encode(self, row: Row) -> Encoded:
        room = self.max_length + self.example_length - self.longest_answer
        read, tokenizer = self._read(row)
        texts, ids = row.texts, read(row.texts, "")
        own = sum(token_count(tokenizer, text) for text in texts) if len(ids) > room else 0
        while len(ids) > room:
            if own == 0:
                needed = len(ids) + self.longest_answer - self.example_length
                raise ModelError(f"row {row.id}: {self._no_room(needed)}")
            # At the borders of a text, tokens merge: the prompt may be a little longer than counted. Then cut again.
            own = max(own - (len(ids) - room), 0)
            texts = shorten(tokenizer, texts if self.truncation == "tail" else row.texts, own, self.truncation)
            ids = read(texts, "")
        for word, answer_ids in zip(self.label_words, self.answer_ids, strict=True):
            if read(texts, self.answer(word)) != ids + answer_ids:
                raise ModelError(
                    f"row {row.id}: the end of its prompt and the answer '{word}' share a token, so the answer cannot "
                    "be scored by itself. End the dataset's prompt with a line break or a colon, not with a column."
                )
        check_ids(self.tokenizer, ids, self.id_limit, f"row {row.id}")
        return Encoded(ids, None, row.label, row.weight, texts != row.texts)

    def _read(self, row: Row) -> tuple[Callable[[Sequence[str], str], list[int]], Any]:
        """Return the function (texts, answer) → token ids that suits a row, and the tokenizer that reads its texts."""
        shown = [text for example in self.examples for text in example.texts]
        spells = self.control.are_spelled([*row.texts, *shown])
        # A token's name may also have its ends in the prompt: "<{claim}>".
        if not spells and self.control.count(self._ids(self.render(row.texts))) == self._control_count:
            return lambda texts, answer: self._ids(self.render(texts) + answer), self.tokenizer
        mark = find_mark([*row.texts, *shown])

        def read(texts: Sequence[str], answer: str) -> list[int]:
            prompt = self.render(texts, lambda text: mask(text, mark))
            return self.start + self.control.masked_ids(prompt + answer, mark)

        if self.control.count(read(row.texts, "")) != self._control_count:
            raise ModelError(f"row {row.id}: {self.control.cannot_be_read}")
        return read, self.control.reader

    def decode_answer(self, ids: Sequence[int]) -> str:
        """Return the text that a model generated, without special tokens, the answer's prefix and outer spaces."""
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        # The prefix may be an empty thought, which the model generates, too.
        return text.strip().removeprefix(self.answer_prefix.strip()).strip()

    def _no_room(self, tokens: int) -> str:
        return (
            f"the prompt has {tokens} tokens even without its texts, the longest answer included, but max_length is "
            f"{self.max_length}; shorten the prompt, or raise max_length."
        )

    def _ids(self, text: str) -> list[int]:
        return self.start + list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _ids_after(self, prompt: str, answer: str) -> list[int]:
        """Return the token ids that an answer adds to a prompt, [] if it changes the prompt's own tokens."""
        before, whole = self._ids(prompt), self._ids(prompt + answer)
        return whole[len(before) :] if whole[: len(before)] == before else []

    def _check_label_words(self, word_ids: list[list[int]]) -> None:
        """Raise a `ModelError` for a label word without tokens or text, or two with the same tokens or text."""
        by_ids: dict[tuple[int, ...], str] = {}
        by_text: dict[str, str] = {}
        for word, ids in zip(self.label_words, word_ids, strict=True):
            if not ids:
                raise ModelError(
                    f"the answer '{word}' has no tokens of its own after the end of the prompt; end the prompt "
                    "without a space, or change the answer under `answers`, both in the dataset's YAML."
                )
            if (other := by_ids.setdefault(tuple(ids), word)) != word:
                raise ModelError(
                    f"the answers '{other}' and '{word}' have the same tokens in this model's tokenizer. "
                    "Change one under `answers` in the dataset's YAML."
                )
            if not (text := self.decode_answer(ids)):
                raise ModelError(
                    f"the answer '{word}' consists of special tokens of this tokenizer, which are removed from "
                    "generated text. Change it under `answers` in the dataset's YAML."
                )
            if (other := by_text.setdefault(text, word)) != word:
                raise ModelError(
                    f"the answers '{other}' and '{word}' are both read as '{text}' in generated text, without special "
                    "tokens and outer spaces. Change one under `answers` in the dataset's YAML."
                )


def gold(row: Row | Encoded) -> int:
    """Return the label of a row that must have one."""
    if row.label is None:
        raise ValueError("a row without a label cannot be trained on")
    return row.label


def _fill(template: str, values: dict[str, str]) -> str:
    """Return the template with its {names} replaced by texts, in one pass: braces inside a text stay as they are."""
    return "".join(literal + (values[name] if name else "") for literal, name, _, _ in Formatter().parse(template))
