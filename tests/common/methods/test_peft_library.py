"""Each method of the peft library attaches, starts at the base, learns and reloads, or is refused."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from marks import slow_except
from peft import LoraConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.lora import LoraLayer
from peft_cases import (
    CAUSAL,
    CHANGES_THE_START,
    CONFIGS,
    MISFITS,
    NAMES,
    OF_WEIGHTS,
    OPTIONS,
    POSSIBLE,
    UNUSABLE,
    WITHOUT_HEAD,
    method,
    tiny_model,
)
from safetensors.torch import save_file
from toy_runs import dataset
from transformers import AutoModelForSequenceClassification, set_seed

from common.config import method_rules
from common.config.job import Job
from common.config.methods import SET_BY_TRAINING, Lora
from common.core.errors import ConfigError, ModelError
from common.methods import adalora, attach, eva, peft_library
from common.model.build import count_parameters
from common.model.heads import ClassificationHead
from common.model.inspect import parameter_counts
from common.model.saved_model import load_trained_state, trained_state

# The methods that `make test` tries; all others are slow.
REPRESENTATIVES = [("bert", "ia3"), ("bert", "prompt_tuning"), ("llama", "lora")]


def batch() -> dict[str, torch.Tensor]:
    """Return six rows of nine tokens, three of them padded on the right."""
    ids = torch.randint(1, 50, (6, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row in range(3):
        ids[row, 8 - row :] = mask[row, 8 - row :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch()).logits


def losses_of_training(model: torch.nn.Module, steps: int = 15, rate: float = 1e-2) -> list[float]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    found = []
    for _ in range(steps):
        output = model.train()(**batch()).logits
        output = output[:, -1] if output.dim() == 3 else output
        loss = F.cross_entropy(output, torch.tensor([0, 1, 2, 0, 1, 2]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


# --- names and keys --------------------------------------------------------------------------------------------------


def test_the_schema_knows_every_method_of_the_library():
    assert sorted(NAMES) == sorted(kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING)


def test_loras_keys_are_the_librarys():
    fields = {field.name for field in dataclasses.fields(LoraConfig)}
    known = {*Lora.model_fields, *Lora.OPTIONS} - {"name"}
    assert known <= fields
    others = {"loftq_config", "corda_config", "lora_ga_config", "arrow_config", "monteclora_config"}  # want more inputs
    others |= {"megatron_config", "megatron_core", "runtime_config", "layer_replication", "alora_invocation_tokens"}
    assert fields - known == others | {"use_qalora", "qalora_group_size"} | set(SET_BY_TRAINING)


@pytest.mark.parametrize("key", SET_BY_TRAINING)
@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_what_the_training_sets_is_refused(name, key):
    with pytest.raises(ConfigError, match=f"'{key}' follows from the job"):
        method(name, **{key: "SEQ_CLS"})


def test_an_unknown_key_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown key 'init_lora_weight'\. Did you mean 'init_lora_weights'\?"):
        method("lora", init_lora_weight="pissa")
    with pytest.raises(ConfigError) as caught:
        attach(tiny_model("llama"), method("ia3", feedforward_module=["down_proj"]))
    for part in ("'method.feedforward_module'", "Did you mean 'feedforward_modules'?", "init_ia3_weights"):
        assert part in str(caught.value)
    assert "inference_mode" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"'method\.eva_config\.roh'.*Did you mean 'rho'\?"):
        attach(tiny_model("llama"), method("lora", init_lora_weights="eva", eva_config={"roh": 1.0}))


@pytest.mark.parametrize(
    ("name", "options", "error", "part"),
    [
        ("loha", {"r": -1}, ModelError, "`r` should be a positive integer"),
        ("loha", {"r": "four"}, ModelError, "method loha"),
        ("lora", {"init_lora_weights": "pisa"}, ModelError, "pisa"),
        ("lora", {"bias": "some"}, ModelError, "some"),
        ("adalora", {"total_step": 10, "tinit": 9, "tfinal": 5}, ConfigError, "schedule"),
        ("ia3", {"target_modules": ["q_proj"], "feedforward_modules": ["down_proj"]}, ConfigError, "subset"),
        ("loha", {"target_modules": ["query"]}, ModelError, "Linear layers of this model: down_proj"),
        (
            "lora",
            {"trainable_token_indices": [3, 50]},
            ModelError,
            "names token 50, but the model's vocabulary has 50;",
        ),
        ("lora", {"trainable_token_indices": {"embed_tokens": [-1]}}, ModelError, "token -1, but"),
        ("trainable_tokens", {"token_indices": [49, 99]}, ModelError, "method.token_indices names token 99"),
        ("ln_tuning", {"target_modules": ["norm9"]}, ModelError, "Norms of this model: input_layernorm"),
    ],
)
def test_a_value_that_peft_refuses_is_one_message(name, options, error, part):
    with pytest.raises(error) as caught:
        attach(tiny_model("llama"), method(name, **options))
    assert part in str(caught.value) and "\n" not in str(caught.value)


# --- every method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"), slow_except(REPRESENTATIVES, POSSIBLE), ids=["-".join(case) for case in POSSIBLE]
)
def test_every_method_learns_and_reloads(kind, name, tmp_path):
    base = tiny_model(kind)
    start, names = logits(base), {key for key, _ in base.named_parameters()}
    set_seed(1)
    model = attach(base, method(name, kind))
    open_ = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    plain = {key.removeprefix("base_model.").removeprefix("model.") for key in open_}
    head = {key for key in plain if key.startswith(("classifier.modules_to_save.", "score.modules_to_save."))}
    assert head and plain - head
    assert not plain & names  # no weight of the base itself
    difference = (logits(model) - start).abs().max().item()
    assert (difference > 1e-6) if name in CHANGES_THE_START else (difference < 1e-4)
    found = losses_of_training(model)
    assert found[-1] < 0.8 * found[0]
    trained = logits(model)

    model.save_pretrained(str(tmp_path / "saved"), save_embedding_layers=False)
    set_seed(99)
    assert torch.equal(logits(peft_library.reload(tiny_model(kind), tmp_path / "saved")), trained)

    # A resumed run rebuilds the model with the run's seed and loads what trains.
    set_seed(1)
    fresh = attach(tiny_model(kind), method(name, kind))
    save_file(trained_state(model), tmp_path / "checkpoint.safetensors")
    load_trained_state(fresh, tmp_path / "checkpoint.safetensors")
    assert torch.equal(logits(fresh), trained)


@pytest.mark.parametrize(
    ("kind", "name"), slow_except(REPRESENTATIVES, [case for case in POSSIBLE if case[1] not in OF_WEIGHTS])
)
def test_every_method_is_counted_without_weights(kind, name):
    with torch.device("meta"):
        counted = attach(AutoModelForSequenceClassification.from_config(CONFIGS[kind]), method(name, kind))
    assert parameter_counts(counted) == parameter_counts(attach(tiny_model(kind), method(name, kind)))


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_a_method_made_of_the_weights_is_checked_but_not_counted(tiny_job, name):
    unknown = {"params_total_count": None, "params_trainable_count": None}
    assert count_parameters(job(tiny_job, name), dataset()) == unknown
    with pytest.raises(ConfigError, match=r"unknown key 'method\.ranks'"):
        count_parameters(job(tiny_job, name, {"ranks": 4}), dataset())
    with pytest.raises(ModelError, match="'nowhere' names no module"):
        count_parameters(job(tiny_job, name, {"target_modules": ["nowhere"]}), dataset())


@pytest.mark.parametrize(("kind", "name"), sorted(MISFITS))
def test_a_method_that_fits_no_such_model_is_refused(kind, name):
    with pytest.raises(ModelError, match=f"method {name}"):
        attach(tiny_model(kind), method(name, kind))


@pytest.mark.parametrize("name", slow_except(["lora", "ia3"], CAUSAL))
def test_every_method_on_a_causal_model(name, tmp_path):
    base = tiny_model("llama", "prompt")
    start = logits(base)
    model = attach(base, method(name))
    assert model.peft_config["default"].task_type == "CAUSAL_LM"
    assert not [key for key, p in model.named_parameters() if p.requires_grad and "lm_head" in key]
    if name not in CHANGES_THE_START:
        torch.testing.assert_close(logits(model), start, rtol=0, atol=1e-4)
    found = losses_of_training(model, rate=5e-2)  # the language-model head is frozen: more must move
    assert found[-1] < 0.9 * found[0]
    trained = logits(model)
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    assert torch.equal(logits(peft_library.reload(tiny_model("llama", "prompt"), tmp_path)), trained)


@pytest.mark.parametrize("name", slow_except(["lora", "ia3"], [name for kind, name in POSSIBLE if kind == "llama"]))
def test_a_decoders_classification_head_computes_with_what_trains(name):
    set_seed(1)
    model = attach(tiny_model("llama"), method(name)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))  # as if trained
    head = ClassificationHead(model, SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0)), precision="float32")
    found = head.logits(batch())  # before the model has been called as a whole
    found.square().sum().backward()
    reached = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    own = model(**batch()).logits
    torch.testing.assert_close(found, own, rtol=0, atol=1e-5)
    model.zero_grad()
    own.square().sum().backward()
    assert reached == {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("score" not in key for key in reached)


def test_padding_does_not_change_what_virtual_tokens_give():
    model = attach(tiny_model("bert"), method("prefix_tuning")).eval()
    whole = batch()
    alone = {key: value[2:3, :6] for key, value in whole.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**alone).logits, model(**whole).logits[2:3], rtol=0, atol=1e-5)


# --- LoRA's options --------------------------------------------------------------------------------------------------

STARTS = ["gaussian", "olora", "pissa", "pissa_niter_4", "orthogonal", "eva", "mica"]
VARIANTS = [
    *({"init_lora_weights": start} for start in (*STARTS, False)),
    {"use_dora": True},
    {"use_rslora": True},
    {"use_dora": True, "use_rslora": True},
    {"lora_bias": True},
    {"bias": "lora_only"},
    {"bias": "all"},
    {"layers_to_transform": [1], "layers_pattern": "layers", "target_modules": ["q_proj"]},
    {"exclude_modules": ["q_proj"]},
    {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 4}},
    {"trainable_token_indices": [3, 4]},
    {"modules_to_save": ["norm"]},
    {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 2, "match_strict": False}},
    {"velora_config": {}},
    {"kasa_config": {}},
]


@pytest.mark.parametrize("options", slow_except([{"use_dora": True}, {"lora_bias": True}], VARIANTS), ids=str)
def test_every_option_of_lora_learns_reloads_and_merges(options, tmp_path):
    base = tiny_model("llama")
    start = logits(base)
    set_seed(1)
    model = attach(base, method("lora", **options))
    # KaSA leaves out the base's smallest singular values.
    changes = options.get("init_lora_weights") is False or "kasa_config" in options
    assert ((logits(model) - start).abs().max() > 1e-4) == changes
    found = losses_of_training(model)
    assert found[-1] < 0.5 * found[0]
    trained = logits(model)
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    set_seed(99)
    assert torch.equal(logits(peft_library.reload(tiny_model("llama"), tmp_path)), trained)
    if "lora_bias" not in options:  # Llama has no bias to merge it into
        torch.testing.assert_close(logits(model.merge_and_unload()), trained, rtol=1e-4, atol=1e-4)


def test_patterns_choose_ranks_and_layers():
    model = attach(tiny_model("llama"), method("lora", rank_pattern={"q_proj": 2}, exclude_modules=["down_proj"]))
    shapes = {name: p.shape[0] for name, p in model.named_parameters() if "lora_A" in name}
    assert {size for name, size in shapes.items() if "q_proj" in name} == {2}
    assert {size for name, size in shapes.items() if "k_proj" in name} == {4}
    assert not [name for name in shapes if "down_proj" in name]


def test_rslora_scales_by_the_root_of_the_rank():
    modules = attach(tiny_model("llama"), method("lora", r=4, use_rslora=True)).modules()
    scales = {module.scaling["default"] for module in modules if isinstance(module, LoraLayer)}
    assert scales == {32 / 4**0.5}


# --- EVA -------------------------------------------------------------------------------------------------------------


def eva_model() -> torch.nn.Module:
    set_seed(1)
    model = attach(tiny_model("llama"), method("lora", init_lora_weights="eva", eva_config={"rho": 2.0}))
    assert eva.needs_batches(model)
    eva.initialise(model, [batch()] * 4, torch.device("cpu"), lambda rows: model(**rows))
    return model


def test_eva_spreads_ranks_by_the_data_and_is_the_same_again(tmp_path):
    base = logits(tiny_model("llama"))
    model, again = eva_model(), eva_model()
    ranks = [p.shape[0] for name, p in model.named_parameters() if "lora_A" in name]
    assert len(set(ranks)) > 1 and sum(ranks) <= 14 * 4
    assert torch.equal(logits(model), base)  # B is zero still
    state = trained_state(model)
    assert state.keys() == trained_state(again).keys()
    assert all(torch.equal(value, trained_state(again)[name]) for name, value in state.items())
    losses_of_training(model)
    trained = logits(model)
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    assert torch.equal(logits(peft_library.reload(tiny_model("llama"), tmp_path)), trained)


def test_eva_stops_where_directions_do_not_settle():
    model = attach(tiny_model("llama"), method("lora", init_lora_weights="eva"))
    few = {key: value[:1, :3] for key, value in batch().items()}  # three tokens span no eight directions
    with pytest.raises(ModelError, match="not converged after 200 batches"):
        eva.initialise(model, [few], torch.device("cpu"), lambda rows: model(**rows))


def test_only_eva_needs_batches():
    assert not eva.needs_batches(attach(tiny_model("llama"), method("lora")))
    assert not eva.needs_batches(attach(tiny_model("llama"), method("ia3")))
    assert not eva.needs_batches(tiny_model("llama"))


# --- AdaLoRA ---------------------------------------------------------------------------------------------------------


def test_adalora_prunes_ranks_and_carries_its_schedule():
    def steps(model: torch.nn.Module, first: int, last: int) -> None:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for step in range(first, last):
            F.cross_entropy(model.train()(**batch()).logits, torch.tensor([0, 1, 2, 0, 1, 2])).backward()
            optimizer.step()
            adalora.allocator(model).update_and_allocate(step + 1)
            optimizer.zero_grad()

    def fresh() -> torch.nn.Module:
        set_seed(1)
        options = {"total_step": 8, "tfinal": 2, "target_r": 2, "init_r": 4, "target_modules": ["q_proj", "v_proj"]}
        return attach(tiny_model("llama"), method("adalora", **options))

    whole = fresh()
    steps(whole, 0, 10)
    kept = sum(int((p != 0).sum()) for name, p in whole.named_parameters() if "lora_E" in name)
    assert kept <= 4 * 2  # of 4 * 4
    for cut in (4, 7):  # while ranks move, and after they are settled
        first, second = fresh(), fresh()
        steps(first, 0, cut)
        second.load_state_dict(trained_state(first), strict=False)
        adalora.load_allocator_state(second, adalora.allocator_state(first))
        steps(second, cut, 10)
        assert torch.equal(logits(second), logits(whole))
    assert adalora.allocator_state(tiny_model("llama")) == {}


# --- refusals --------------------------------------------------------------------------------------------------------


def job(tiny_job, name: str, options: dict | None = None, **changes: object) -> Job:
    document = {**(options or {}), "name": name}
    return tiny_job("minilm-full", method=document, **changes)


@pytest.mark.parametrize(
    ("name", "options", "changes", "part"),
    [
        *((name, {}, {}, f"method {name} cannot be used") for name in sorted(UNUSABLE)),
        *((name, OPTIONS[name], {}, "cannot train a classification head") for name in sorted(WITHOUT_HEAD)),
        *(("lora", {"init_lora_weights": start}, {}, "cannot be used") for start in ("loftq", "corda", "lora_ga")),
        ("adamss", {"use_asa": True}, {}, "own callback"),
        ("shira", {"mask_type": "magnitude"}, {}, "mask_type is magnitude"),
        ("adalora", {}, {}, "give total_step"),
        ("adalora", {"total_step": 9, "init_lora_weights": "pissa"}, {}, "has its own initialisation"),
        ("adalora", {"total_step": 9, "orth_reg_weight": 0.1}, {}, "no effect"),
        ("shadow", {"auxiliary_loss_weight": 0.1}, {}, "no effect"),
        *((name, {}, {"quantization": "nf4"}, " rounds") for name in method_rules.NOT_QUANTIZED["nf4"]),
        *((name, {}, {"quantization": "int8"}, " rounds") for name in method_rules.NOT_QUANTIZED["int8"]),
        *(
            ("lora", {"init_lora_weights": start}, {"quantization": "nf4"}, "needs quantization: none")
            for start in ("pissa", "pissa_niter_4", "orthogonal", "mica")
        ),
        ("lora", {"use_dora": True}, {"quantization": "int8"}, "use nf4 or none"),
        ("prefix_tuning", {}, {"runtime.activation_checkpointing": True}, "activation_checkpointing"),
        *((name, {}, {"head": "prompt"}, "prompt head counts positions") for name in method_rules.VIRTUAL_TOKENS),
        ("shadow", {}, {"dtype": "bfloat16", "precision": "bfloat16"}, "dtype: float32"),
        ("p_tuning", {}, {"precision": "bfloat16"}, "precision: float32"),
        ("prefix_tuning", {"prefix_projection": True}, {"precision": "bfloat16"}, "precision: float32"),
        *((name, {}, {}, f"method {name} needs num_virtual_tokens") for name in method_rules.VIRTUAL_TOKENS),
    ],
)
def test_what_cannot_work_is_refused_from_the_job_alone(tiny_job, name, options, changes, part):
    with pytest.raises(ConfigError, match=part):
        job(tiny_job, name, options, **changes)


def test_virtual_tokens_take_positions(tiny_job):
    fits = job(tiny_job, "prefix_tuning", {"num_virtual_tokens": 16}, max_length=240)
    count_parameters(fits, dataset())
    with pytest.raises(ModelError, match=r"256 positions and the method takes 17 of them; allowed is 8 to 239"):
        count_parameters(job(tiny_job, "prefix_tuning", {"num_virtual_tokens": 17}, max_length=240), dataset())
