"""The embedding baseline: logistic regression on the hidden states of a job's backbone, which stays as it is."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from common.core.errors import ModelError
from common.core.progress import Progress
from common.data.rows import Row
from common.evaluation.classical import Regression
from common.evaluation.memory_limit import Halving
from common.model.batching import collate, moved, pinned
from common.model.heads import Head
from common.model.inspect import inner_model
from common.model.pooling import is_causal, pool


class EmbeddingRegression:
    """Logistic regression on pooled hidden states of the backbone's last layer.

    A row is encoded as for the job's head: as a pair of texts, or as the prompt up to the answer. The states are pooled
    by their mean over the row's tokens; those of a causal model also by the last token, and the pooling with the better
    macro-F1 on validation is taken.

    Args:
        head: the untrained model.
        train: rows to learn from.
        validation: rows to choose pooling and regularisation by; without them the mean is taken, and C is 1.
        classes: number of labels C.
        token_budget: most padded tokens of a forward pass.

    Attributes:
        pooling: "mean" or "last".
        regression: the fitted regression.
        seconds, cpu_seconds: wall-clock and CPU time of all of it.
    """

    def __init__(
        self, head: Head, train: Sequence[Row], validation: Sequence[Row], classes: int, token_budget: int
    ) -> None:
        inner = inner_model(head.model)
        if inner.config.is_encoder_decoder:
            raise ModelError(
                f"BASELINE=embedding is not supported for {type(inner).__name__}, an encoder with a decoder."
            )
        start, cpu_start = time.perf_counter(), time.process_time()
        self.head, self.token_budget = head, token_budget
        poolings = ("mean", "last") if validation and is_causal(inner) else ("mean",)
        states = self._states(train, poolings, "embed train")
        checked = self._states(validation, poolings, "embed validation") if validation else {}
        fitted: dict[str, tuple[StandardScaler, Regression]] = {}
        for pooling in poolings:
            scaler = StandardScaler().fit(states[pooling])
            known = scaler.transform(checked[pooling]) if validation else None
            regression = Regression(scaler.transform(states[pooling]), train, known, validation, classes)
            fitted[pooling] = scaler, regression
        self.pooling = max(poolings, key=lambda pooling: fitted[pooling][1].validation_score)
        self._scaler, self.regression = fitted[self.pooling]
        self.seconds, self.cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start

    def score(self, rows: Sequence[Row], split: str) -> np.ndarray:
        """Return natural-log probabilities (N, C) float32."""
        states = self._states(rows, (self.pooling,), f"embed {split}")[self.pooling]
        return self.regression.score(self._scaler.transform(states))

    def _states(self, rows: Sequence[Row], poolings: Sequence[str], what: str) -> dict[str, np.ndarray]:
        """Return the pooled states (N, d) float32 by pooling."""
        encoded = self.head.encoder.encode(rows)
        inner = inner_model(self.head.model)
        backbone: Any = inner.base_model
        without_cache = {"use_cache": False} if is_causal(inner) else {}
        halving, found = Halving("embedding", self.head), dict[str, np.ndarray]()

        def embed(indices: Sequence[int]) -> dict[str, np.ndarray]:
            batch = collate([encoded[index] for index in indices], self.head.pad_token_id)
            inputs = {key: value for key, value in batch.items() if key not in ("labels", "weights")}
            inputs = moved(pinned(inputs, self.head.device), self.head.device)
            with self.head.autocast():
                hidden = backbone(**inputs, **without_cache).last_hidden_state  # (B, L, d)
            pooled = {pooling: pool(hidden, inputs["attention_mask"], pooling) for pooling in poolings}
            return {pooling: states.cpu().numpy() for pooling, states in pooled.items()}  # (B, d)

        self.head.model.eval()
        with Progress(what, len(rows), "row") as progress, torch.inference_mode():
            for indices in self.head.scoring_groups(encoded, self.token_budget):
                for part, pooled in halving.run(indices, embed):
                    for pooling, states in pooled.items():
                        found.setdefault(pooling, np.empty((len(rows), states.shape[1]), np.float32))[part] = states
                progress.update(len(indices))
        return found
