"""The lines of Python by which an exported model labels a text: those of its model card."""

import json
from pathlib import Path

from common.core.files import read_json
from common.export.base import ExportedBase
from common.export.source import TrainedRun
from common.hub.locate import SAVED
from common.runs.exported import MERGED, ONNX

_PLAIN_TEXTS = 2  # more are joined, which `classifier.py` does

_PLAIN = (
    "The same in plain Python. It differs only for rows that are too long (there, `classifier.py` cuts the longest "
    "text alone) and for texts that spell a special token of the model."
)
_GENERATED = (
    "In plain Python the model generates its answer, which is mostly the same label; `classifier.py` compares the "
    "probabilities of all labels' answers, as training and evaluation did."
)


def text(folder: Path, run: TrainedRun, base: ExportedBase, kind: str) -> str:
    """Return the section of the card that shows how to label a text."""
    names = run.dataset.text
    examples = [json.dumps(f"A {name}.", ensure_ascii=False) for name in names]
    if kind != ONNX and read_json(folder / SAVED)["joins_pairs"]:
        plain_examples = [json.dumps("\n".join(f"A {name}." for name in names), ensure_ascii=False)]
    else:
        plain_examples = examples
    example = ", ".join(examples)
    given = "" if kind != "peft" or base.hub else ', base="<folder of the base>"'
    needs = "onnxruntime and tokenizers" if kind == ONNX else "transformers" + (" and peft" if kind == "peft" else "")
    exact = (
        f"Exactly as in training, with {needs} alone (`classifier.py` is in this folder):\n\n"
        "```python\nimport sys\n\n"
        'sys.path.insert(0, "<this folder>")\nfrom classifier import Classifier\n\n'
        f'print(Classifier("<this folder>"{given}).label({example}))\n```'
    )
    check = "python check.py" + (" --base <folder of the base>" if given else "")
    proof = f"`{check}` checks the files and the scores; with `--rows <test rows>.jsonl` those of the test rows, too."
    plain = "\n".join(plain_lines(folder, run, base, kind, plain_examples))
    if not plain:
        return f"{exact}\n\n{proof}"
    note = _GENERATED if run.job.head == "prompt" else _PLAIN
    return f"{exact}\n\n{note}\n\n```python\n{plain}\n```\n\n{proof}"


def plain_lines(folder: Path, run: TrainedRun, base: ExportedBase, kind: str, examples: list[str]) -> list[str]:
    """Return the lines of transformers and peft that label one text, [] for a format that has none."""
    if kind == ONNX or len(run.dataset.text) > _PLAIN_TEXTS:
        return []
    if run.job.head == "prompt":
        return _prompt_lines(folder, run, base, kind)
    if kind == MERGED:
        keys = ("text", "text_pair")
        row = ", ".join(f'"{key}": {value}' for key, value in zip(keys, examples, strict=False))
        return [
            "from transformers import pipeline",
            "",
            'classify = pipeline("text-classification", "<this folder>")',
            f"print(classify({{{row}}}, truncation=True, max_length={run.job.max_length}))",
        ]
    return [
        "from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer",
        *_trained_imports(folder),
        "",
        'config = AutoConfig.from_pretrained("<this folder>")',
        'tokenizer = AutoTokenizer.from_pretrained("<this folder>")',
        f'base = AutoModelForSequenceClassification.from_pretrained({_place(base)}, config=config, dtype="float32")',
        *_trained_lines(folder),
        f'limits = {{"truncation": True, "max_length": {run.job.max_length}}}',
        f'inputs = tokenizer({", ".join(examples)}, **limits, return_tensors="pt")',
        "print(config.id2label[int(model(**inputs).logits.argmax())])",
    ]


def _trained_imports(folder: Path) -> list[str]:
    is_adapter = (folder / "adapter_config.json").is_file()
    return ["from peft import PeftModel" if is_adapter else "from safetensors.torch import load_file"]


def _trained_lines(folder: Path) -> list[str]:
    if (folder / "adapter_config.json").is_file():
        return ['model = PeftModel.from_pretrained(base, "<this folder>").eval()']
    return [
        'base.load_state_dict(load_file("<this folder>/parameters.safetensors"), strict=False)',
        "model = base.eval()",
    ]


def _place(base: ExportedBase) -> str:
    return f'"{base.hub}", revision="{base.commit}"' if base.hub else '"<folder of the base>"'


def _rendering(chat: bool) -> list[str]:
    if not chat:
        return ['ids = tokenizer("\\n\\n".join(turn["content"] for turn in turns), return_tensors="pt")']
    return [
        "rendered = tokenizer.apply_chat_template(",
        '    turns, tokenize=False, add_generation_prompt=True, **prompt["template_options"]',
        ")",
        'ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")',
    ]


def _prompt_lines(folder: Path, run: TrainedRun, base: ExportedBase, kind: str) -> list[str]:
    values = ", ".join(f"{json.dumps(name)}: {json.dumps(f'A {name}.')}" for name in run.dataset.text)
    where = '"<this folder>"' if kind == MERGED else _place(base)
    load = f'AutoModelForCausalLM.from_pretrained({where}, dtype="float32")'
    return [
        "import json",
        "",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        *(["from peft import PeftModel"] if kind != MERGED else []),
        "",
        'prompt = json.load(open("<this folder>/prompt.json", encoding="utf-8"))',
        'tokenizer = AutoTokenizer.from_pretrained("<this folder>")',
        f"model = {load}",
        *(['model = PeftModel.from_pretrained(model, "<this folder>").eval()'] if kind != MERGED else []),
        f"texts = {{{values}}}",
        'turns = [turn | {"content": turn["content"].format(**texts)} for turn in prompt["messages"]]',
        *_rendering(read_json(folder / "prompt.json")["chat"]),
        'longest = max(map(len, prompt["answers"].values()))',
        "answer = model.generate(**ids, max_new_tokens=longest, do_sample=False)[0, ids.input_ids.shape[1] :]",
        "print(tokenizer.decode(answer, skip_special_tokens=True).strip())",
    ]
