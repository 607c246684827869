"""Rendered prompts and answers: their text, their tokens, and the truncation of rows that are too long."""

import pytest
import tiny_causal
from conftest import SHARED
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from toy_runs import dataset
from transformers import PreTrainedTokenizerFast

from common.config import catalog
from common.core.errors import ConfigError, ModelError
from common.data.load import load_rows
from common.data.rows import Row
from common.model.encoding import token_count
from common.model.prompts import PromptEncoder

FAMILIES = list(tiny_causal.FAMILIES)
PROMPT = {"system": "You judge.", "user": "Is it pro or con?\nClaim: {claim}\nSentence: {sentence}\nStance:"}
DATASET = dataset(labels=["con", "neu", "pro"], prompt=PROMPT)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizers():
    made = {name: tiny_causal.make_tokenizer(name) for name in FAMILIES}
    for tokenizer in made.values():
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return made


def row(claim: str = "A claim.", sentence: str = "a good idea", label: int | None = 2) -> Row:
    return Row("r1", (claim, sentence), label)


BODY = "Is it pro or con?\nClaim: A claim.\nSentence: a good idea\nStance:"
WHOLE = {
    "gemma": f"<bos><start_of_turn>user\nYou judge.\n\n{BODY}<end_of_turn>\n<start_of_turn>model\n",
    "qwen": f"<|im_start|>system\nYou judge.<|im_end|>\n<|im_start|>user\n{BODY}<|im_end|>\n<|im_start|>assistant\n",
    "mistral": f"<s>[INST] You judge.\n\n{BODY}[/INST]",
    "llama": f"<s>You judge.\n\n{BODY}",
    "llama-instruct": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou judge.<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{BODY}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
}
ANSWER = {
    "gemma": "pro<end_of_turn>",
    "qwen": "pro<|im_end|>",
    "mistral": " pro</s>",
    "llama": " pro</s>",
    "llama-instruct": "pro<|eot_id|>",
}


def test_the_whole_prompt_and_answer_to_the_letter(tokenizers, family):
    tokenizer = tokenizers[family]
    encoder = PromptEncoder(tokenizer, 256, DATASET)
    [encoded] = encoder.encode([row()])
    assert tokenizer.decode(encoded.input_ids) == WHOLE[family]
    assert tokenizer.decode(encoder.answer_ids[2]) == ANSWER[family]  # no newline behind the end of turn
    assert encoded.input_ids == tokenizer(WHOLE[family], add_special_tokens=False)["input_ids"]
    assert (encoded.label, encoded.truncated, encoded.token_type_ids) == (2, False, None)
    assert encoder.end_of_turn_length == 1 and encoder.longest_answer == max(map(len, encoder.answer_ids))
    assert all(
        answer[-1] == tokenizer.convert_tokens_to_ids(tiny_causal.FAMILIES[family][5]) for answer in encoder.answer_ids
    )


def test_one_bos_or_none(tokenizers, family):
    tokenizer = tokenizers[family]
    [encoded] = PromptEncoder(tokenizer, 256, DATASET).encode([row()])
    if tokenizer.bos_token_id is None:
        assert family == "qwen"
    else:
        assert encoded.input_ids.count(tokenizer.bos_token_id) == 1
        assert encoded.input_ids[0] == tokenizer.bos_token_id


def test_the_answer_is_what_the_template_writes_for_the_assistant(tokenizers, family):
    tokenizer = tokenizers[family]
    if tokenizer.chat_template is None:
        pytest.skip("a base model has no template")
    encoder = PromptEncoder(tokenizer, 256, DATASET)
    messages = [*encoder.messages(row().texts), {"role": "assistant", "content": "pro"}]
    whole = tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"]
    ours = encoder.encode([row()])[0].input_ids + encoder.answer_ids[2]
    assert whole[: len(ours)] == ours
    assert tokenizer.decode(whole[len(ours) :]).strip() == ""


@pytest.mark.parametrize("system", [None, "You judge {claim}"])
def test_the_system_text(tokenizers, family, system):
    encoder = PromptEncoder(tokenizers[family], 256, dataset(prompt={"system": system, "user": "{claim} {sentence}?"}))
    text = encoder.render(("one", "two"))
    assert encoder.folds_system == (system is not None and family in ("gemma", "mistral"))
    assert text.count("one two?") == 1
    assert text.count("You judge one") == (system is not None)
    if encoder.folds_system:
        assert encoder.messages(("one", "two")) == [{"role": "user", "content": "You judge one\n\none two?"}]


def test_labels_that_are_numbers_and_answers_of_the_data_set(tokenizers, family):
    numbers = PromptEncoder(tokenizers[family], 256, dataset(labels=[0, 1], prompt=PROMPT))
    assert numbers.label_words == ["0", "1"]
    named = dataset(labels=[1, 0], prompt=PROMPT, answers={"0": "against", "1": "in favor"})
    encoder = PromptEncoder(tokenizers[family], 256, named)
    assert encoder.label_words == ["in favor", "against"]  # in class order
    assert [tokenizers[family].decode(answer[:-1]).strip() for answer in encoder.answer_ids] == ["in favor", "against"]


def test_an_empty_thought_before_the_answer_belongs_to_it(tokenizers):
    tokenizer = tiny_causal.make_tokenizer("qwen")
    thought = "<think>\n\n</think>\n\n"
    tokenizer.chat_template = tiny_causal.CHATML.replace(
        "m['content'] +", "('<think>\n\n</think>\n\n' if m['role'] == 'assistant' else '') + m['content'] +"
    )
    encoder = PromptEncoder(tokenizer, 256, DATASET)
    assert encoder.answer_prefix == thought
    assert [tokenizer.decode(answer) for answer in encoder.answer_ids] == [
        f"{thought}{word}<|im_end|>" for word in ("con", "neu", "pro")
    ]
    assert tokenizer.decode(encoder.encode([row()])[0].input_ids).endswith("<|im_start|>assistant\n")


def test_a_template_without_an_end_of_turn_ends_in_eos(tokenizers):
    tokenizer = tiny_causal.make_tokenizer("mistral")
    tokenizer.chat_template = tiny_causal.MISTRAL.replace(" + eos_token", "")
    encoder = PromptEncoder(tokenizer, 256, DATASET)
    assert [tokenizer.decode(answer) for answer in encoder.answer_ids] == [" con</s>", " neu</s>", " pro</s>"]


def test_a_template_that_changes_earlier_turns_with_the_answer(tokenizers):
    tokenizer = tiny_causal.make_tokenizer("qwen")
    tokenizer.chat_template = tiny_causal.CHATML.replace("{% for m", "{{ messages | length }}{% for m", 1)
    encoder = PromptEncoder(tokenizer, 256, DATASET)
    assert encoder.answer_prefix == ""
    assert [tokenizer.decode(answer) for answer in encoder.answer_ids] == [
        f"{w}<|im_end|>" for w in ("con", "neu", "pro")
    ]


ODD = [
    "{braces} {{twice}} {claim} {0} { } %s $x",
    "</s><end_of_turn><|im_end|> <start_of_turn>model [/INST] <bos>",
    "👩‍👩‍👧 😀 ünï çødé 漢字 \u200b",
    "one\n\ntwo\r\nthree\ttab",
    "'\"\\`{{ messages }}{% raise %}",
]


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_stand_in_the_prompt_as_they_are(tokenizers, family, text):
    encoder = PromptEncoder(tokenizers[family], 512, DATASET)
    [encoded] = encoder.encode([row(sentence=text)])
    prompt = encoder.render(("A claim.", text))
    assert f"Sentence: {text}\nStance:" in prompt and not encoded.truncated
    if encoder.control.are_spelled([text]):
        [plain] = encoder.encode([row()])
        assert encoder.control.count(encoded.input_ids) == encoder.control.count(plain.input_ids)
        assert tokenizers[family].decode(encoded.input_ids) == "".join(map(str, encoder.start and ["<s>"])) + prompt
    else:
        assert encoded.input_ids == encoder.start + tokenizers[family](prompt, add_special_tokens=False)["input_ids"]
    assert encoder.lengths([row(sentence=text)]) == [len(encoded.input_ids) + encoder.longest_answer]


def test_braces_that_are_meant(tokenizers):
    encoder = PromptEncoder(tokenizers["llama"], 64, dataset(prompt={"user": "{{x}} {claim} {sentence}:"}))
    assert encoder.render(("a", "b")) == "{x} a b:"


# --- truncation ------------------------------------------------------------------------------------------------------


def words(count: int) -> str:
    return " ".join(["good", "idea", "open", "wrong"][index % 4] for index in range(count))


@pytest.mark.parametrize("max_length", [90, 91, 97, 120])
@pytest.mark.parametrize("text", [words(200), "👩‍👩‍👧" * 60, "{claim}\n" * 60, "</s>" * 200, "x" * 400, "漢字 " * 99])
def test_the_longest_text_alone_is_cut(tokenizers, family, max_length, text):
    encoder = PromptEncoder(tokenizers[family], max_length, DATASET)
    whole = PromptEncoder(tokenizers[family], 10_000, DATASET)
    long = row("A claim of some length.", text)
    assert whole.lengths([long])[0] > max_length
    [encoded] = encoder.encode([long])
    assert encoded.truncated
    # Never more tokens than allowed, and hardly fewer: a character is never cut in two.
    assert max_length - 12 < len(encoded.input_ids) + encoder.longest_answer <= max_length
    shown = tokenizers[family].decode(encoded.input_ids)
    before, after = whole.render(("A claim of some length.", "\ue001")).split("\ue001")
    assert shown.removeprefix("<s>" if family == "llama" else "").startswith(before)
    assert shown.endswith(after)
    kept = shown[len(before) + (3 if family == "llama" else 0) : -len(after)]
    assert text.startswith(kept) and kept == kept.rstrip()


def test_exactly_max_length_is_whole(tokenizers, family):
    whole = PromptEncoder(tokenizers[family], 10_000, DATASET)
    [length] = whole.lengths([row()])
    [exact] = PromptEncoder(tokenizers[family], length, DATASET).encode([row()])
    assert not exact.truncated and len(exact.input_ids) + whole.longest_answer == length
    [cut] = PromptEncoder(tokenizers[family], length - 1, DATASET).encode([row()])
    assert cut.truncated and len(cut.input_ids) + whole.longest_answer <= length - 1


def test_two_texts_too_long_are_levelled(tokenizers, family):
    tokenizer = tokenizers[family]
    encoder = PromptEncoder(tokenizer, 110, DATASET)
    [encoded] = encoder.encode([row(words(150), words(90))])
    shown = tokenizer.decode(encoded.input_ids)
    claim, _, sentence = shown.partition("Claim: ")[2].partition("\nSentence: ")
    sentence = sentence.partition("\nStance:")[0]
    counts = [token_count(tokenizer, text) for text in (claim, sentence)]
    assert min(counts) > 5 and abs(counts[0] - counts[1]) <= 2
    assert len(encoded.input_ids) + encoder.longest_answer <= 110


def test_three_text_columns(tokenizers, family):
    three = dataset(text=["claim", "context", "sentence"], prompt={"user": "{claim}|{context}|{sentence}\nStance:"})
    tokenizer = tokenizers[family]
    encoder = PromptEncoder(tokenizer, 80, three)
    [encoded] = encoder.encode([Row("r", ("A claim.", words(100), "a good idea"), 0)])
    shown = tokenizer.decode(encoded.input_ids)
    assert encoded.truncated and "A claim.|good idea open wrong" in shown and "|a good idea\nStance:" in shown
    assert 76 < len(encoded.input_ids) + encoder.longest_answer <= 80


def test_a_prompt_that_is_too_long_without_its_texts(tokenizers, family):
    with pytest.raises(ModelError, match=r"^the prompt has \d+ tokens even without its texts.*max_length is 20"):
        PromptEncoder(tokenizers[family], 20, DATASET)
    encoder = PromptEncoder(tokenizers[family], 200, DATASET)
    encoder.max_length = 20
    with pytest.raises(ModelError, match=r"^row r1: the prompt has \d+ tokens even without its texts"):
        encoder.encode([row(sentence=words(50))])


def test_no_rows(tokenizers):
    encoder = PromptEncoder(tokenizers["qwen"], 256, DATASET)
    assert encoder.encode([]) == [] and encoder.lengths([]) == []


# --- what cannot be scored -------------------------------------------------------------------------------------------


def test_a_data_set_without_a_prompt(tokenizers):
    with pytest.raises(ConfigError, match=r"the dataset 'Toy stance' has no `prompt`; data/_example\.yaml"):
        PromptEncoder(tokenizers["qwen"], 64, dataset())


def word_tokenizer(normalizer) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, with one token for all unknown words."""
    vocabulary = {word: index for index, word in enumerate(["<unk>", "</s>", "pro", "con", "Stance:"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="</s>")


def test_answers_without_tokens():
    tokenizer = word_tokenizer(normalizers.Replace("neu", ""))
    with pytest.raises(ModelError, match=r"the answer 'neu' has no tokens of its own.*`answers`"):
        PromptEncoder(tokenizer, 64, DATASET)


def test_answers_with_the_same_tokens():
    unknown = dataset(labels=["favor", "against"], prompt=PROMPT)
    with pytest.raises(ModelError, match=r"the answers 'favor' and 'against' have the same tokens.*`answers`"):
        PromptEncoder(word_tokenizer(normalizers.Lowercase()), 64, unknown)
    cased = dataset(labels=["pro", "Pro"], prompt=PROMPT)
    with pytest.raises(ModelError, match="'pro' and 'Pro' have the same tokens"):
        PromptEncoder(word_tokenizer(normalizers.Lowercase()), 64, cased)


def answering(*answers: str):
    return dataset(labels=["con", "pro"], answers=dict(zip(["con", "pro"], answers, strict=True)), prompt=PROMPT)


def test_answers_of_special_tokens_alone(tokenizers, family):
    end = tiny_causal.FAMILIES[family][5]
    for word in (end, f" {end} {end}"):
        with pytest.raises(ModelError) as raised:
            PromptEncoder(tokenizers[family], 256, answering("yes", word))
        assert f"the answer '{word}' consists of special tokens" in str(raised.value)
        assert "`answers`" in str(raised.value) and "\n" not in str(raised.value)


def test_answers_that_are_read_as_the_same_text(tokenizers, family):
    end = tiny_causal.FAMILIES[family][5]
    for other in ("yes ", "  yes", f"yes{end}"):
        for words in ((other, "yes"), ("yes", other)):
            with pytest.raises(ModelError) as raised:
                PromptEncoder(tokenizers[family], 256, answering(*words))
            assert f"the answers '{words[0]}' and '{words[1]}' are both read as 'yes'" in str(raised.value)
    encoder = PromptEncoder(tokenizers[family], 256, answering("yes ", "yes, it is"))
    assert [encoder.decode_answer(answer) for answer in encoder.answer_ids] == ["yes", "yes, it is"]


def test_a_prompt_whose_end_melts_into_the_answer(tokenizers):
    spaced = dataset(labels=["con", "pro"], prompt={"user": "{claim} {sentence}\nStance: "})
    with pytest.raises(ModelError, match=r"'con'.*end of the prompt"):
        PromptEncoder(tokenizers["llama"], 64, spaced)  # " con" is a token, so the space is not the prompt's
    broken = dataset(labels=["con", "pro"], prompt={"user": "{claim} {sentence}\nStance:\n"})
    assert PromptEncoder(tokenizers["llama"], 64, broken).answer_prefix == ""


@pytest.mark.parametrize("labels", [["clear", "pro"], ["pro", "clear"]])
def test_a_row_whose_end_melts_into_an_answer(labels):
    tokenizer = tiny_causal.make_tokenizer("llama")
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"  # no seams
    ends = dataset(labels=labels, prompt={"user": "{claim} {sentence}"})
    encoder = PromptEncoder(tokenizer, 64, ends)
    encoder.encode([Row("r0", ("is it", "a"), 0)])
    with pytest.raises(ModelError, match=r"row r1: the end of its prompt and the answer 'clear' share a token"):
        encoder.encode([Row("r1", ("is it", "un"), 0)])  # "unclear" is a token


# --- the datasets of the project ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cmv-stance", "emotion", "imdb", "perspectrum", "stance-sample", "tweeteval-stance"])
def test_every_data_set_has_a_prompt_for_every_family(tokenizers, family, name):
    described = catalog.load_dataset(name)
    encoder = PromptEncoder(tokenizers[family], 512, described)
    assert len({tuple(answer) for answer in encoder.answer_ids}) == len(described.labels)
    texts = tuple(f"text {index}" for index in range(len(described.text)))
    [encoded] = encoder.encode([Row("r", texts, 0)])
    assert all(text in tokenizers[family].decode(encoded.input_ids) for text in texts)


def test_the_published_wording(tokenizers):
    folder = SHARED / "cmv-stance"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    rows = load_rows(catalog.load_dataset("cmv-stance"), folder)["test"]
    encoder = PromptEncoder(tokenizers["gemma"], 400, catalog.load_dataset("cmv-stance"))
    for one, encoded in zip(rows, encoder.encode(rows), strict=True):
        shown = tokenizers["gemma"].decode(encoded.input_ids)
        assert shown.startswith("<bos><start_of_turn>user\nThe first text is a hypothesis/claim, the second text is a")
        assert shown.endswith("```\nstance:<end_of_turn>\n<start_of_turn>model\n")
        assert f"hypothesis: ```{one.texts[0]}```\nsentence: ```{one.texts[1][:20]}" in shown
        assert encoded.truncated == (encoder.lengths([one])[0] > 400)


# --- examples --------------------------------------------------------------------------------------------------------

SHOWN = [
    Row("e1", ("Another claim.", "a bad idea"), 0),
    Row("e2", ("A third claim.", "no idea"), 1),
]


def test_examples_are_earlier_turns_of_the_chat(tokenizers, family):
    tokenizer = tokenizers[family]
    encoder = PromptEncoder(tokenizer, 128, DATASET, SHOWN)
    plain = PromptEncoder(tokenizer, 128, DATASET)
    if tokenizer.chat_template is None:
        shown = [plain.render(example.texts).removeprefix("You judge.\n\n") for example in SHOWN]
        text = f"You judge.\n\n{shown[0]} con\n\n{shown[1]} neu\n\n{BODY}"
    else:
        turns = []
        for example, word in zip(SHOWN, ("con", "neu"), strict=True):
            user = plain.messages(example.texts)[-1]["content"].removeprefix("You judge.\n\n")
            turns += [{"role": "user", "content": user}, {"role": "assistant", "content": word}]
        turns.append({"role": "user", "content": BODY})
        if plain.folds_system:
            turns[0]["content"] = f"You judge.\n\n{turns[0]['content']}"
        else:
            turns.insert(0, {"role": "system", "content": "You judge."})
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert encoder.render(row().texts) == text
    assert encoder.answer_ids == plain.answer_ids


def test_examples_do_not_shorten_a_row(tokenizers, family):
    long = Row("r1", ("A claim.", "good idea " * 200), 2)
    plain, shown = (PromptEncoder(tokenizers[family], 128, DATASET, rows) for rows in ((), SHOWN))
    [without], [with_examples] = plain.encode([long]), shown.encode([long])
    assert len(with_examples.input_ids) == len(without.input_ids) + shown.example_length
    assert with_examples.truncated and with_examples.input_ids[-40:] == without.input_ids[-40:]
    assert shown.lengths([long]) == plain.lengths([long])


def test_examples_need_a_system_text_without_columns(tokenizers):
    prompt = {"system": "Judge {claim}", "user": "{sentence}"}
    data = dataset(labels=["con", "neu", "pro"], prompt=prompt)
    PromptEncoder(tokenizers["qwen"], 128, data)
    with pytest.raises(ConfigError, match="names a column in its system text"):
        PromptEncoder(tokenizers["qwen"], 128, data, SHOWN)
