"""Turn the texts of a row into token ids, as in training.

Truncation shortens the longest text alone. A special token that a text spells is ordinary text: `text-tokenizer.json`
is the model's tokenizer, in which the special tokens have names that no text spells.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from tokenizers import Tokenizer

_GAP = " ... "  # where the middle of a text is cut out
_PRIVATE = range(0xF0002, 0xFFFFE)  # Unicode's private use area


class Refused(Exception):
    """The folder, its base or the texts are not those that the model needs; the message says what to do."""


class Encoder:
    """Turns the texts of a row into token ids for a classification head."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "text-tokenizer.json"))
        self.tokenizer.no_padding()
        self.max_length, self.truncation = int(about["job"]["max_length"]), about["job"]["truncation"]
        self.joins_pairs, self.has_types = about["joins_pairs"], about["token_type_ids"]
        self.names = about["dataset"]["text"]

    def encode(self, texts: tuple[str, ...]) -> tuple[list[int], list[int]]:
        """Return the token ids of a row and their types, [] for a model without types."""
        if len(texts) != len(self.names):
            raise Refused(f"a row has {len(texts)} texts; needed are {len(self.names)}: {', '.join(self.names)}")
        found = self._tokens(self._pair(texts))
        if len(found.ids) > self.max_length:
            found = self._truncated(texts)
        return found.ids, found.type_ids if self.has_types else []

    def _tokens(self, pair: tuple[str, ...], strategy: str | None = None) -> Any:
        self.tokenizer.no_truncation()
        if strategy:
            self.tokenizer.enable_truncation(self.max_length, strategy=strategy)
        return self.tokenizer.encode(pair[0], pair[1] if len(pair) > 1 else None)

    def _pair(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        if self.joins_pairs:
            return ("\n".join(texts),)
        return texts if len(texts) < 3 else (texts[0], "\n".join(texts[1:]))

    def _truncated(self, texts: tuple[str, ...]) -> Any:
        pair = self._pair(texts)
        special = self.tokenizer.num_special_tokens_to_add(is_pair=len(pair) > 1)
        if len(pair) < len(texts) or self.truncation != "tail":
            room = max(self.max_length - special - (len(texts) - len(pair)), 0)
            pair = self._pair(shorten(self.tokenizer, texts, room, self.truncation))
            over = len(self._tokens(pair).ids) - self.max_length
            while self.truncation != "tail" and room and over > 0:
                room = max(room - over, 0)
                pair = self._pair(shorten(self.tokenizer, texts, room, self.truncation))
                over = len(self._tokens(pair).ids) - self.max_length
            return self._tokens(pair, "longest_first")
        lengths = [_count(self.tokenizer, text) for text in texts]
        if sum(lengths) - max(lengths) + special >= self.max_length:
            return self._tokens(pair, "longest_first")
        return self._tokens(pair, "only_first" if lengths[0] == max(lengths) else "only_second")


class PromptEncoder:
    """Turns the texts of a row into the token ids of its prompt, by the chat template of the tokenizer."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        from transformers import AutoTokenizer

        self.chat = AutoTokenizer.from_pretrained(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "text-tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.max_length, self.truncation = int(about["job"]["max_length"]), about["job"]["truncation"]
        self.names = about["dataset"]["text"]
        self.prompt = read(folder / "prompt.json")
        self.room = self.max_length - max(map(len, self.prompt["answers"].values()))

    def encode(self, texts: tuple[str, ...]) -> tuple[list[int], list[int]]:
        """Return the token ids of a row's prompt, shortened so that the longest answer fits into max_length."""
        if len(texts) != len(self.names):
            raise Refused(f"a row has {len(texts)} texts; needed are {len(self.names)}: {', '.join(self.names)}")
        shown, ids = texts, self._ids(texts)
        own = sum(_count(self.tokenizer, text) for text in texts) if len(ids) > self.room else 0
        while len(ids) > self.room:
            if own == 0:
                raise Refused(f"the prompt has {len(ids)} tokens even without its texts; {self.room} have room")
            own = max(own - (len(ids) - self.room), 0)
            shown = shorten(self.tokenizer, shown if self.truncation == "tail" else texts, own, self.truncation)
            ids = self._ids(shown)
        return ids, []

    def _ids(self, texts: tuple[str, ...]) -> list[int]:
        """Return the token ids of a prompt: its own special tokens are read, those that a text spells are not."""
        used = set().union(*texts)
        mark = next(letter for letter in map(chr, _PRIVATE) if letter not in used)
        values = dict(zip(self.names, (_marked(text, mark) for text in texts), strict=True))
        messages = [{**turn, "content": _filled(turn["content"], values)} for turn in self.prompt["messages"]]
        if self.prompt["chat"]:
            options = {"tokenize": False, "add_generation_prompt": True, **self.prompt["template_options"]}
            text = str(self.chat.apply_chat_template(messages, **options))
        else:
            text = "\n\n".join(turn["content"] for turn in messages)
        for name, alias in self.prompt["special_tokens"]:  # the longest first, where one begins another
            text = text.replace(name, alias)
        return [*self.prompt["start"], *self.tokenizer.encode(text.replace(mark, ""), add_special_tokens=False).ids]


def _marked(text: str, mark: str) -> str:
    """Return a text with a mark around every character but its outer spaces: no special token is found in it."""
    core = text.strip()
    before, _, after = text.partition(core) if core else (text, "", "")
    return before + (mark + mark.join(core) + mark if core else "") + after


def _filled(template: str, values: dict[str, str]) -> str:
    """Return the template with its {names} replaced by texts; braces inside a text stay as they are."""
    return "".join(literal + (values[name] if name else "") for literal, name, _, _ in Formatter().parse(template))


def shorten(tokenizer: Tokenizer, texts: Sequence[str], room: int, truncation: str) -> tuple[str, ...]:
    """Return the texts, shortened so that together they have at most `room` tokens.

    "tail" cuts off the end of a text; "head_and_tail" keeps its start and its end, with " ... " between them.
    """
    spans = [tokenizer.encode(text, add_special_tokens=False).offsets for text in texts]
    gap = _count(tokenizer, _GAP) if truncation == "head_and_tail" else 0
    limits = _limits([len(found) for found in spans], room)
    return tuple(
        text if len(found) <= limit else _cut(text, found, limit, gap)
        for text, found, limit in zip(texts, spans, limits, strict=True)
    )


def _cut(text: str, spans: Sequence[tuple[int, int]], limit: int, gap: int) -> str:
    end = (limit - gap) // 2 if gap else 0
    if end < 1:
        return text[: spans[limit][0]].rstrip()
    return text[: spans[limit - gap - end][0]].rstrip() + _GAP + text[spans[len(spans) - end][0] :].lstrip()


def _limits(counts: list[int], room: int) -> list[int]:
    """Return the tokens that each text may keep: the longest alone is cut, or all are cut to one length."""
    others = sum(counts) - max(counts)
    if others < room:
        longest = counts.index(max(counts))
        return [room - others if index == longest else count for index, count in enumerate(counts)]
    level = max(counts)
    while sum(min(count, level) for count in counts) > room:
        level -= 1
    return [min(count, level) for count in counts]


def _count(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def read(file: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))
