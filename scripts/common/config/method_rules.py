"""Find out, before anything is loaded, why a method of the peft library cannot work with the other settings of a job.

Rules without another reason were measured with peft 0.21 and bitsandbytes 0.50 on a CPU.
"""

import re
from typing import Any

from common.config.methods import LibraryMethod
from common.core.errors import choices, nearest

# Methods and initialisations of the peft library that no job can use: {name: reason}.
_UNUSABLE = {
    "cartridge": "its model gives other scores after reloading (peft 0.21); prefix_tuning is similar",
    "cpt": "its prompt consists of token ids of labelled examples, which a job cannot give",
    "lily": "it mixes its experts by all tokens of a batch, so that a row's score depends on the rows beside it",
    "multitask_prompt_tuning": "it learns several tasks at once; a job has one. Use prompt_tuning",
    "poly": "it learns several tasks at once; a job has one",
    "xlora": "it combines adapters that were trained before",
}
_UNUSABLE_INITS = {
    "corda": "it needs covariances of sampled activations, computed before the method is attached",
    "loftq": "it needs the unquantised weights beside the quantised ones",
    "lora_ga": "it needs gradients of the whole base, computed before the method is attached",
}
_INITS = r"gaussian|olora|pissa|pissa_niter_\d+|orthogonal|eva|mica"
_OWN_HEAD = ("adaption_prompt", "trainable_tokens")
VIRTUAL_TOKENS = ("p_tuning", "prefix_tuning", "prompt_tuning")
# Methods that read the bytes of quantised weights as numbers; measured with bitsandbytes 0.50 and peft 0.21.
_DECOMPOSING = ("adamss", "deft", "delora", "frod", "glora", "hra", "osf", "peanut", "psoft", "supertuning", "tinylora")
NOT_QUANTIZED = {
    "nf4": (*_DECOMPOSING, "loha", "lokr"),
    "int8": _DECOMPOSING,
}
_LOSS_WEIGHTS = {"adalora": "orth_reg_weight", "shadow": "auxiliary_loss_weight"}  # of terms beside the cross-entropy
_INITS_NOT_QUANTIZED = ("pissa", "orthogonal", "mica")


def find_method_conflict(job: Any, method: LibraryMethod) -> str | None:
    """Return the reason why a method of the peft library cannot work in a job, None if it can.

    Args:
        job: a `config.job.Job`, whose module imports this one.
        method: the job's method.
    """
    name, options = method.name, method.model_extra or {}  # type: ignore[attr-defined]
    init = options.get("init_lora_weights", True)
    if name in _UNUSABLE:
        return f"method {name} cannot be used: {_UNUSABLE[name]}"
    if init in _UNUSABLE_INITS:
        return f"method.init_lora_weights {init} cannot be used: {_UNUSABLE_INITS[init]}"
    if name == "lora" and not (init is True or init is False or re.fullmatch(_INITS, str(init))):
        allowed = ["true", "false", *_INITS.replace("pissa_niter_\\d+", "pissa_niter_<n>").split("|")]
        return f"method.init_lora_weights is {init}.{nearest(init, allowed)} Allowed: {choices(allowed)}"
    if name == "adalora" and not isinstance(init, bool):
        return f"method adalora has its own initialisation: leave init_lora_weights {init} out, or use method lora"
    if (weight := _LOSS_WEIGHTS.get(name)) in options:
        return f"method {name}: {weight} would have no effect, since our loss is the cross-entropy alone"
    if name == "adalora" and not options.get("total_step"):
        return "method adalora plans its ranks over the run: give total_step, epochs times rows over batch_size"
    if name == "adalora" and job.precision == "float16":
        return "method adalora reads every gradient, and float16 leaves out steps whose gradients are not finite"
    if name == "adamss" and options.get("use_asa"):
        return "method adamss: use_asa needs the library's own callback between steps; leave it out"
    if name == "shira" and options.get("mask_type", "random") != "random":
        return f"method shira: mask_type is {options['mask_type']}; a job can only name the library's own, random"
    if name in _OWN_HEAD and job.head == "classification":
        return f"method {name} cannot train a classification head beside it, which would stay random; use another"
    if name in VIRTUAL_TOKENS and job.head == "prompt":
        return f"method {name} puts virtual tokens before the text, but the prompt head counts positions; use another"
    if name in VIRTUAL_TOKENS and job.pooling != "default":
        return f"method {name} works in the model's own forward pass, which ends in its own head: leave pooling out"
    if name == "prefix_tuning" and job.runtime.activation_checkpointing:
        return f"method {name} feeds the layers' caches, which runtime.activation_checkpointing removes"
    if name in NOT_QUANTIZED.get(job.quantization, ()):
        return f"method {name} computes with the base's weights, which quantization {job.quantization} rounds"
    if job.quantization != "none" and str(init).startswith(_INITS_NOT_QUANTIZED):
        return f"method.init_lora_weights {init} decomposes the base's weights: it needs quantization: none"
    if getattr(method, "use_dora", False) and job.quantization == "int8":
        return "method.use_dora needs the weights' norms, which peft cannot compute with int8: use nf4 or none"
    if name == "shadow" and job.dtype != "float32":
        return "method shadow trains in the base's dtype: it needs dtype: float32"
    if (name == "p_tuning" or options.get("prefix_projection")) and job.precision in ("bfloat16", "float16"):
        return f"method {name} saves the output of its encoder, which rounds differently: it needs precision: float32"
    if name in VIRTUAL_TOKENS and not options.get("num_virtual_tokens"):
        return f"method {name} needs num_virtual_tokens, the number of tokens before the text, for example 16"
    return None
