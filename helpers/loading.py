"""From a checked folder to a model or tokenizer, and in one sentence what stopped it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from helpers.model_folder import check_kind
from helpers.runtime import UserError

__all__ = ["load", "load_model"]


def load(loader: Callable[..., Any], source: str, **options: Any) -> Any:
    """Call the `from_pretrained` of an Auto class; code that a folder brings is never run.

    Raises:
        UserError: naming the folder and what the library said first.
    """
    from safetensors import SafetensorError

    try:
        return loader(source, trust_remote_code=False, **options)
    except SafetensorError as error:
        raise UserError(f"model: the weights in {source} are damaged ({error}); copy them again.") from None
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise UserError(
                f"model: {source} brings code of its own (trust_remote_code), which is never run here; choose a model "
                "and tokenizer of a family that transformers knows."
            ) from None
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"model: {source} cannot be loaded: {said[0]}") from None


def load_model(kind: Any, source: str, pretrained: bool = True) -> Any:
    """A model of an Auto class: with the folder's weights in float32, or of the same sizes with random ones.

    Raises:
        UserError: as `load`, or when models of this family are not of this kind.
    """
    import torch
    from transformers import AutoConfig

    config = load(AutoConfig.from_pretrained, source)
    check_kind(kind, config)
    # BERT's pooler would come with random weights that no lesson uses.
    options: dict[str, Any] = {"add_pooling_layer": False} if _has_pooler(kind, config) else {}
    options["dtype"] = torch.float32  # what a file holds is often bfloat16, too coarse for small steps
    if pretrained:
        return load(kind.from_pretrained, source, **options)
    return kind.from_config(config, **options)


def _has_pooler(kind: Any, config: Any) -> bool:
    if kind.__name__ != "AutoModel" or type(config) not in kind._model_mapping:
        return False
    return "add_pooling_layer" in inspect.signature(kind._model_mapping[type(config)].__init__).parameters
