"""Apply a model's chat template: the same text on every day, and no thought open where the answer begins."""

import re
from typing import Any

from jinja2 import TemplateError

from common.core.errors import ModelError

MARK = "\ue000"  # stands for a content; of Unicode's private use area, so that no template changes it
_DATE = "26 Jul 2024"  # the date that Llama 3.1's template writes without a clock
_THOUGHT = re.compile(r"[<\[](/?)(?:think|thinking|thought|reasoning)[>\]]", re.IGNORECASE)
# Names under which templates are told to write no thought: Qwen's and SmolLM's; DeepSeek's and Granite's.
_NO_THOUGHT: tuple[dict[str, bool], ...] = ({}, {"enable_thinking": False}, {"thinking": False})


class ChatTemplate:
    """The chat template of a tokenizer.

    Args:
        tokenizer: of the base model; it has a template.

    Raises:
        ModelError: the template writes today's date, or opens a thought before the answer and cannot close it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        template = str(tokenizer.chat_template)
        if "strftime_now" in template and "date_string" not in template:
            raise ModelError(
                "the model's chat template writes today's date into every prompt, so scores would differ from day to "
                "day. Save its tokenizer with a template without the date, and name that folder as the model."
            )
        self._options = self._without_thought()

    @property
    def template_options(self) -> dict[str, Any]:
        """The arguments of `apply_chat_template` by which prompts are rendered."""
        return {"date_string": _DATE, **self._options}

    def render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        """Return turns ("role", "content") as text, with the start of the assistant's turn if asked for."""
        return self._applied(messages, self._options, add_generation_prompt)

    def shows_system(self) -> bool:
        """Return whether the template writes a system turn."""
        messages = [{"role": "system", "content": MARK}, {"role": "user", "content": "x"}]
        try:
            return MARK in self.render(messages)
        except TemplateError:  # Gemma's template raises
            return False

    def _without_thought(self) -> dict[str, bool]:
        """Return the template's options under which no thought is open where the answer begins."""
        for options in _NO_THOUGHT:
            prompt = self._applied([{"role": "user", "content": MARK}], options, add_generation_prompt=True)
            tags = [found[1] for found in _THOUGHT.finditer(prompt.rpartition(MARK)[2])]
            if not tags or tags[-1] == "/":
                return options
        raise ModelError(
            "the model's chat template opens a thought (such as <think>) before the answer, and has no option that "
            "closes it: a label word would be read as a part of the thought. Take the model's variant without "
            "thoughts (often named Instruct), or save its tokenizer with a template that closes the thought, and name "
            "that folder as the model."
        )

    def _applied(self, messages: list[dict[str, str]], options: dict[str, bool], add_generation_prompt: bool) -> str:
        # Without a date, Llama's templates would write today's.
        return str(
            self.tokenizer.apply_chat_template(
                messages, tokenize=False, date_string=_DATE, add_generation_prompt=add_generation_prompt, **options
            )
        )
