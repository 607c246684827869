"""No thought is open where the answer begins: the template closes it, or is refused."""

import pytest
import tiny_causal
from toy_runs import dataset

from common.core.errors import ModelError
from common.data.rows import Row
from common.model.prompts import PromptEncoder

DATASET = dataset(labels=["con", "pro"], prompt={"user": "{claim} {sentence}\nStance:"})
START = "'<|im_start|>assistant\n'"


def encoder(after: str) -> PromptEncoder:
    """Return the encoder of a tokenizer whose template writes something after the assistant's start."""
    tokenizer = tiny_causal.make_tokenizer("qwen")
    assert START in tiny_causal.CHATML
    tokenizer.chat_template = tiny_causal.CHATML.replace("{{ " + START + " }}", "{{ " + START + " }}" + after)
    assert after in tokenizer.chat_template
    return PromptEncoder(tokenizer, 128, DATASET)


@pytest.mark.parametrize("option", ["enable_thinking", "thinking"])
def test_a_thought_is_closed_by_the_templates_option(option):
    made = encoder(
        "{% if " + option + " is defined and not " + option + " %}<think></think>{% else %}<think>{% endif %}"
    )
    [encoded] = made.encode([Row("r", ("A claim.", "an idea"), 0)])
    assert made.tokenizer.decode(encoded.input_ids).endswith("assistant\n<think></think>")


@pytest.mark.parametrize("tag", ["<think>\n", "[THINK]", "<think></think><think>"])
def test_an_open_thought_is_refused(tag):
    with pytest.raises(ModelError, match=r"opens a thought.*Instruct"):
        encoder(tag)


def test_a_closed_thought_is_left_as_it_is():
    assert encoder("<think></think>").render(("a", "b")).endswith("<think></think>")
