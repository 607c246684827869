"""Check that a model's embedding has a row for every token id: otherwise training ends in an IndexError."""

from collections.abc import Sequence
from typing import Any

from common.core.errors import ModelError


def embedding_rows(config: Any) -> int | None:
    """Return the number of rows of the token embedding by a model's config, None for a model without one."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return None if rows is None else int(rows)


def check_ids(tokenizer: Any, ids: Sequence[int], limit: int | None, where: str) -> None:
    """Check that token ids are below the number of rows of the embedding.

    Args:
        tokenizer: of the base model.
        ids: of a row, or those that the tokenizer itself adds.
        limit: rows of the embedding; None checks nothing.
        where: the row, for the message.

    Raises:
        ModelError: one is not.
    """
    if limit is None or not ids or (largest := max(ids)) < limit:
        return
    raise ModelError(
        f"{where}: the token '{tokenizer.convert_ids_to_tokens(largest)}' has the id {largest}, but the model's "
        f"embedding has {limit} rows (vocab_size), for the ids 0 to {limit - 1}; the tokenizer has {len(tokenizer)} "
        "tokens. Perhaps the tokenizer is of another model, or got new tokens: name a folder in which both fit, or "
        "save the model after model.resize_token_embeddings(len(tokenizer))."
    )
