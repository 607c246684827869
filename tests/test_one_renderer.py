"""Training, baseline, evaluation and prediction see the same token ids, by the scripts themselves, for every family."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_causal
from marks import slow_except
from transformers import AutoConfig

from common.config import catalog
from common.core import files
from common.hub import locate
from common.model import heads, layouts, prompt_head
from common.model.load import load_tokenizer
from common.model.prompt_head import PromptHead
from common.smoke import fake_data, tiny_models

ROWS = 6  # of every split


@pytest.fixture
def same_rows(tmp_path, rows_dir) -> Path:
    """Rows whose three splits hold the same texts."""
    records = files.read_jsonl(rows_dir / "train.jsonl")[:ROWS]
    records[3]["sentence"] = "good {claim} </s><end_of_turn> 👩‍👩‍👧 idea " + "really " * 300  # too long
    folder = tmp_path / "same"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        files.write_jsonl(folder / f"{split}.jsonl", [r | {"id": f"{split}-{r['id']}"} for r in records])
    return folder


@pytest.fixture
def arguments(tiny_causal_model, same_rows, tmp_path):
    """`arguments("qwen", quantization="nf4")` → words of the scripts."""

    def words(family: str, folder: Path | None = None, **changes: object) -> list[str]:
        recipe = {"training__epochs": 1, "training__batch_size": 4, "max_length": 160, **changes}
        settings = tiny_causal.words(family, folder or tiny_causal_model(family), **recipe)
        places = ["--data-dir", str(same_rows), "--outputs", str(tmp_path / "outputs")]
        return ["--model", "minilm-lora", "--set", *settings, *places]

    return words


@pytest.fixture
def recorded(monkeypatch):
    """What the prompt head feeds to its model: {"train": …, "score": …, "generate": …}, a list of token ids each.

    In training these are the prompts with the answers' tokens, of which the model sees all but the last.
    """
    seen: dict[str, list[list[int]]] = {"train": [], "score": [], "generate": []}
    kinds = {"training_batch": "train", "scoring_batch": "score", "generate": "generate"}
    now = []
    laid_out, padded = layouts.TreeLayout.batch, prompt_head.left_padded

    def record_tree(self, rows):
        batch = laid_out(self, rows)
        for row in rows:
            seen[now[-1]] += [row.prompt + answer for answer in row.answers] if now[-1] == "train" else [row.prompt]
        fed = set(batch["input_ids"][0].tolist())
        assert fed == {token for row in rows for sequence in row.sequences() for token in sequence}
        return batch

    def record_padded(sequences, pad_token_id):
        seen[now[-1]] += sequences
        return padded(sequences, pad_token_id)

    monkeypatch.setattr(layouts.TreeLayout, "batch", record_tree)
    monkeypatch.setattr(prompt_head, "left_padded", record_padded)
    for name, kind in kinds.items():
        original = getattr(PromptHead, name)

        def wrapped(self, rows, original=original, kind=kind):
            now.append(kind)
            try:
                return original(self, rows)
            finally:
                now.pop()

        monkeypatch.setattr(PromptHead, name, wrapped)

    def taken(kind: str) -> list[list[int]]:
        """Return the different sequences, and forget all."""
        found = [list(ids) for ids in sorted(set(map(tuple, seen[kind])))]
        for kept in seen.values():
            kept.clear()
        return found

    return taken


@pytest.mark.parametrize("family", slow_except(["gemma"], tiny_causal.FAMILIES))
def test_all_scripts_see_the_same_prompts(
    run_script, arguments, recorded, same_rows, tiny_causal_model, tmp_path, family
):
    words = arguments(family, decoding="generate")
    assert run_script("train", *words)[0] == 0
    tokenizer = load_tokenizer(locate.Base(str(tiny_causal_model(family)), None))
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    assert files.read_json(folder / "metrics.json")["train_truncated_count"] == 1
    whole = recorded("train")
    assert run_script("baseline", *words)[0] == 0
    prompts = recorded("score")
    assert len(prompts) == ROWS and len(whole) == ROWS
    assert run_script("evaluate", *words, "--split", "test")[0] == 0
    assert recorded("generate") == prompts
    assert run_script("evaluate", *words, "--split", "validation")[0] == 0
    assert recorded("score") == prompts
    table = tmp_path / "new.jsonl"
    files.write_jsonl(table, files.read_jsonl(same_rows / "test.jsonl"))
    assert run_script("predict", "--run", str(folder), "--input", str(table))[0] == 0
    assert recorded("score") == prompts
    # Training: the same prompts, then the answer and the end of turn, and nothing behind it.
    end = tiny_causal.FAMILIES[family][5]
    gold = {r["sentence"][:15]: r["stance"] for r in files.read_jsonl(same_rows / "train.jsonl")}
    for ids in whole:
        [prompt] = [prompt for prompt in prompts if ids[: len(prompt)] == prompt]
        answer = tokenizer.decode(ids[len(prompt) :])
        sentence = tokenizer.decode(prompt).partition("Sentence: ")[2][:15]
        assert answer.strip() == f"{gold[sentence]}{end}" and answer.endswith(end)
        assert len(ids) <= 160
    for prompt in prompts:
        text = tokenizer.decode(prompt)
        assert text.count("You are an assistant that classifies arguments.") == 1
        if tokenizer.bos_token:
            assert prompt[0] == tokenizer.bos_token_id and prompt.count(tokenizer.bos_token_id) == 1
        if family == "gemma":
            assert text.startswith(
                "<bos><start_of_turn>user\nYou are an assistant that classifies arguments.\n\nIs the"
            )
            assert text.endswith("<end_of_turn>\n<start_of_turn>model\n")


# A job of every family of which tiny models are made.
FAMILIES = {
    "bert": "minilm-lora",
    "distilbert": "distilbert-imdb-adapters",
    "modernbert": "modernbert-large",
    "deberta-v2": "deberta-v3-large",
    "mistral": "mistral-7b-v0.3",
    "llama": "llama-3-8b",
    "gemma2": "gemma-2-9b-it",
    "qwen2": "qwen2.5-3b-instruct-classification",
    "smollm2": "smollm2-135m-classification",
    "qwen3": "qwen3-4b-instruct-classification",
}


def test_every_family_has_a_job_here():
    assert list(FAMILIES) == list(tiny_models.FAMILIES)


@pytest.mark.parametrize("family", slow_except(["llama"], FAMILIES))
def test_all_scripts_see_the_same_pairs(run_script, same_rows, tmp_path, monkeypatch, family):
    """The classification head, on the job's own tokenizer, attention and method; decoders may lack a pad token."""
    job, _ = catalog.load_job(FAMILIES[family])
    folder = tiny_models.make_tiny_model(job.model, tmp_path / "model")
    assert AutoConfig.from_pretrained(folder).model_type == {"smollm2": "llama"}.get(family, family)
    settings = [f'model="{folder}"', "head=classification", "dataset=stance-sample", "max_length=160"]
    settings += ["quantization=none", "double_quantization=false", "dtype=float32", "precision=float32"]
    settings += ["training.batch_size=4", *fake_data.overrides(job)]
    words = ["--model", FAMILIES[family], "--set", *settings]
    words += ["--data-dir", str(same_rows), "--outputs", str(tmp_path / "outputs")]
    seen: dict[str, set[tuple[int, ...]]] = {"training_batch": set(), "scoring_batch": set()}
    for name in seen:
        original = getattr(heads.ClassificationHead, name)

        def wrapped(self, rows, original=original, name=name):
            batch = original(self, rows)
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
                seen[name].add(tuple(ids[mask.bool()].tolist()))
            return batch

        monkeypatch.setattr(heads.ClassificationHead, name, wrapped)
    code, _, err = run_script("train", *words)
    assert code == 0, err
    trained = seen["training_batch"]
    assert len(trained) == ROWS and seen["scoring_batch"] == trained
    assert max(map(len, trained)) == 160  # the long row, cut
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    table = tmp_path / "new.jsonl"
    files.write_jsonl(table, files.read_jsonl(same_rows / "test.jsonl"))
    commands = (
        ("baseline", *words),
        ("evaluate", *words, "--split", "test"),
        ("predict", "--run", str(folder), "--input", str(table)),
    )
    for command in commands:
        seen["scoring_batch"].clear()
        code, _, err = run_script(*command)
        assert (code, err) == (0, "") and seen["scoring_batch"] == trained


def test_metrics_of_a_generating_run(run_script, arguments, tmp_path):
    assert run_script("train", *arguments("qwen", decoding="generate"))[0] == 0
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    document = files.read_json(folder / "metrics.json")
    records = files.read_jsonl(folder / "predictions-test.jsonl")
    invalid = [record for record in records if record["predicted"] is None]
    assert document["test_invalid_share"] == len(invalid) / ROWS
    assert document["test_accuracy"] == document["test_f1_micro"]
    assert document["test_accuracy"] == sum(r["gold"] == r["predicted"] for r in records) / ROWS
    assert all(isinstance(record["generated"], str) for record in records)


def test_a_zero_shot_baseline(run_script, arguments, tmp_path):
    words = arguments("gemma")
    code, out, err = run_script("baseline", *words)
    assert (code, err) == (0, "") and "test (n=6): accuracy" in out
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    document = files.read_json(folder / "metrics.json")
    assert folder.name == "baseline-zero-shot" and document["head"] == "prompt"
    assert document["params_trainable_count"] == 0 and document["decoding"] == "score"
    assert run_script("baseline", *words, "--baseline", "untuned")[0] == 2


LORA = {"name": "lora", "r": 4, "target_modules": "all-linear"}


@pytest.mark.parametrize("head", slow_except(["prompt"], ["prompt", "classification"]))
@pytest.mark.parametrize(
    "method",
    slow_except(
        [LORA],
        [
            LORA,
            LORA | {"use_dora": True},
            LORA | {"use_rslora": True},
            LORA | {"init_lora_weights": "olora"},
            LORA | {"init_lora_weights": "eva"},
            {"name": "lora-from-scratch", "r": 4},
            {"name": "adapters", "size": 4},
            {"name": "last-layers", "k": 0},
        ],
    ),
    ids=lambda method: "-".join(map(str, method.values())),
)
def test_quantised_runs_reload_with_the_same_scores(run_script, arguments, tmp_path, head, method):
    """The script itself compares the saved model with the trained one, number by number."""
    words = arguments("mistral", quantization="nf4", dtype="bfloat16", precision="bfloat16", head=head, method=method)
    code, _, err = run_script("train", *words)
    assert (code, err) == (0, "")
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    before = (folder / "predictions-test.jsonl").read_bytes()
    (folder / "predictions-test.jsonl").unlink()
    assert run_script("evaluate", *words)[0] == 0
    assert (folder / "predictions-test.jsonl").read_bytes() == before
    document = files.read_json(folder / "metrics.json")
    assert 0 < document["params_trainable_count"] < document["params_total_count"]


def test_an_adapter_of_a_causal_model_from_elsewhere(run_script, arguments, tiny_causal_model, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_causal_model("qwen"))
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "adapter")
    words = [*arguments("qwen"), "--adapter", str(tmp_path / "adapter")]
    code, out, err = run_script("evaluate", *words)
    assert (code, err) == (0, "") and "test (n=6): accuracy" in out
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings | {"task_type": "SEQ_CLS"}))
    shutil.rmtree(tmp_path / "outputs")
    code, _, err = run_script("evaluate", *words)
    assert code == 4 and "its task_type is SEQ_CLS; needed is CAUSAL_LM (head: prompt)" in err


def test_predicting_one_text(run_script, arguments, tmp_path):
    words = arguments("llama")  # a base model without a chat template: plain text
    assert run_script("train", *words)[0] == 0
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    code, out, err = run_script("predict", "--run", str(folder), "--text", "Claim 1. || good {idea}")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] in ("con", "neu", "pro") and len(out.splitlines()) == 4
