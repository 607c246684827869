"""What in a job's recipe stops no run but may spoil it."""

from common.config.job import Job
from common.config.methods import Full, LastLayers, Untrained

# Full fine-tuning of language models is done with 1e-5 to 5e-5; LoRA's best rate is about ten times that of full
# fine-tuning. Source: Schulman et al. (2025), "LoRA Without Regret", https://thinkingmachines.ai/blog/lora/.
_LOW_FOR_ADAPTERS, _HIGH_FOR_FULL = 5e-5, 5e-4


def hints(job: Job) -> list[str]:
    """Return sentences about a learning rate that belongs to another kind of method."""
    rate, method = job.training.learning_rate, job.method
    if isinstance(method, Untrained | LastLayers):
        return []
    if isinstance(method, Full) and rate > _HIGH_FOR_FULL:
        return [
            f"training.learning_rate {rate:g} is high for method {method.name}, which trains the base's own weights: "
            "usual are 1e-5 to 1e-4."
        ]
    if not isinstance(method, Full) and rate < _LOW_FOR_ADAPTERS:
        return [
            f"training.learning_rate {rate:g} is usual for full fine-tuning; method {method.name} learns best with "
            f"about ten times that: try {10 * rate:g}."
        ]
    return []
