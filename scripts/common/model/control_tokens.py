"""Control tokens, and texts that spell them: `</s>` or `<|im_end|>` in a text is read as ordinary text.

A control token ends a turn, separates texts or pads. Only the tokenizer and the chat template may write one. A
tokenizer reads the characters `</s>` as that token wherever they stand, so a text that spells it is read by a second
tokenizer: a copy in which every control token has another name. It gives all other characters the same tokens, and a
control token keeps its id under the new name. The library's `split_special_tokens` does not suffice: a tokenizer whose
vocabulary has the piece `</s>`, as those of the kind Unigram have, finds it all the same.
"""

import functools
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from common.core.errors import ModelError

_PRIVATE = range(0xF0000, 0xFFFFE)  # Unicode's private use area
_SECRET = secrets.token_hex(16)  # of the new names, which no text can spell


class ControlTokens:
    """The control tokens of a tokenizer, and the copy of it that reads their spelling as ordinary text.

    Control tokens are the special tokens, and other added tokens that the chat template writes, such as `<think>`.

    Args:
        tokenizer: of the base model.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        template = str(tokenizer.chat_template or "")
        self._ids: dict[str, int] = {
            token.content: index
            for index, token in tokenizer.added_tokens_decoder.items()
            # Gemma's line breaks and Llama's words are added tokens, too, and ordinary text.
            if token.special or (re.fullmatch(r"[<\[|]\S+", token.content) and token.content in template)
        } | {str(name): tokenizer.convert_tokens_to_ids(name) for name in tokenizer.all_special_tokens}
        names = sorted(self._ids, key=len, reverse=True)  # the longest first, where one begins another
        self._pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        # Unknown words are one token in many tokenizers: an unknown token in a text is no sign of a control token.
        self._counted = frozenset(self._ids.values()) - {tokenizer.unk_token_id}

    cannot_be_read = (
        "it spells a special token of the model, which the model's tokenizer cannot tell from ordinary text. Take it "
        "out of the row's texts."
    )

    def are_spelled(self, texts: Iterable[str]) -> bool:
        """Return whether one of the texts contains the name of a control token."""
        return any(self._pattern.search(text) for text in texts)

    def count(self, ids: Sequence[int]) -> int:
        """Return how many token ids are control tokens, without the token of unknown words."""
        return sum(index in self._counted for index in ids)

    @property
    def aliases(self) -> list[tuple[str, str]]:
        """The control tokens with their names in `reader`, the longest first, where one begins another."""
        return [(name, _alias(name)) for name in sorted(self._ids, key=len, reverse=True)]

    @functools.cached_property
    def reader(self) -> Any:
        """The tokenizer that reads the names of control tokens as ordinary text.

        Raises:
            ModelError: the tokenizer is not one of the `tokenizers` library.
        """
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ModelError(
                f"a text spells a special token of the model, and the model's tokenizer "
                f"({type(self.tokenizer).__name__}) cannot read it as ordinary text. Take it out of the texts, or "
                "choose a model with a tokenizer.json."
            )
        copied = Tokenizer.from_str(json.dumps(_renamed(json.loads(backend.to_str()), set(self._ids))))
        if any(copied.token_to_id(_alias(name)) != index for name, index in self._ids.items()):
            raise ModelError("a text spells a special token, and the model's tokenizer cannot be copied without it.")
        return PreTrainedTokenizerFast(
            tokenizer_object=copied,
            model_input_names=self.tokenizer.model_input_names,
            truncation_side=self.tokenizer.truncation_side,
        )

    def masked_ids(self, prompt: str, mark: str) -> list[int]:
        """Return the token ids of a prompt whose texts `mask` has masked; elsewhere in it, control tokens are read."""
        renamed = self._pattern.sub(lambda found: _alias(found[0]), prompt).replace(mark, "")
        return list(self.reader(renamed, add_special_tokens=False, verbose=False)["input_ids"])


def find_mark(texts: Sequence[str]) -> str:
    """Return a character that occurs in none of the texts, nor in a new name of a control token."""
    used = set().union(*texts)
    return next(letter for letter in map(chr, _PRIVATE[2:]) if letter not in used)


def mask(text: str, mark: str) -> str:
    """Return a text with a mark around every character, so that no control token can be found in it.

    The marks are inside its outer spaces, which a chat template may remove.
    """
    core = text.strip()
    before, _, after = text.partition(core) if core else (text, "", "")
    return before + (mark + mark.join(core) + mark if core else "") + after


def _alias(name: str) -> str:
    return f"{chr(_PRIVATE[0])}{_SECRET}.{name.encode().hex()}{chr(_PRIVATE[1])}"


def _renamed(described: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Return the description (tokenizer.json) of a tokenizer with other names for some tokens, in place."""
    for token in described["added_tokens"]:
        if token["content"] in names:
            token["content"] = _alias(token["content"])
    model = described["model"]

    def new(name: Any) -> Any:
        return _alias(name) if name in names else name

    # A piece of the vocabulary is found without being an added token.
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {new(piece): index for piece, index in model["vocab"].items()}
    elif model.get("vocab"):
        model["vocab"] = [[new(piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") is not None:
        model["unk_token"] = new(model["unk_token"])
    if model.get("merges"):
        pairs = [pair if isinstance(pair, list) else pair.split(" ", 1) for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if names.isdisjoint((*pair, "".join(pair)))]
    return described
