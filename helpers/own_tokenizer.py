"""What a tokenizer of any origin has to have before a lesson can use it."""

from __future__ import annotations

from typing import Any

from helpers.runtime import UserError

__all__ = ["ready"]


def ready(tokenizer: Any, config: Any, source: str) -> Any:
    """The tokenizer, with a padding token and no longer texts than its model has places for; changed in place.

    One without a padding token pads with its end token: the attention mask hides padding, whatever stands there.

    Raises:
        UserError: when it has no such token, or knows tokens that its model does not.
    """
    known = getattr(config, "vocab_size", None)
    strange = {token for token, number in tokenizer.get_vocab().items() if known is not None and number >= known}
    if strange - {tokenizer.pad_token}:
        raise UserError(
            f"model: the tokenizer in {source} has {len(strange):,} token(s) more than the {known:,} that its model "
            "knows; they do not belong together: save both again with save_pretrained(folder)."
        )
    if tokenizer.pad_token is None or tokenizer.pad_token in strange:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise UserError(
            f"model: the tokenizer in {source} has neither a padding token nor an end token to pad with; set "
            "tokenizer.pad_token to one of its tokens and save it with save_pretrained(folder)."
        )
    places = getattr(config, "max_position_embeddings", None)
    if places and tokenizer.model_max_length > places:
        tokenizer.model_max_length = places - _first_place(config)
    return tokenizer


def _first_place(config: Any) -> int:
    """The position of a text's first word, from a model without numbers: RoBERTa's does not begin at 0."""
    import torch
    from transformers import AutoModel

    from helpers.models import first_position

    with torch.device("meta"):
        return first_position(AutoModel.from_config(config))
