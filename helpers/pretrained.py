"""From a folder to a model and a tokenizer: checked first, and in one sentence what is wrong with it.

A pickle is never opened and code that a folder brings is never run. torch and transformers are imported only where a
model is loaded: the command checks folders without them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.files import SUMS, changed_files
from helpers.paths import exists, unreachable
from helpers.runtime import UserError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
REMOTE_CODE = (
    "brings code of its own (trust_remote_code), which is never run here; choose a model and tokenizer of a family "
    "that transformers knows."
)
ONLY_PICKLE = (
    "holds only a pickle, which can run code when it is opened; convert it where you trust it: "
    "from_pretrained(folder), then save_pretrained(folder), which writes safetensors."
)
NO_WEIGHTS = "has no *.safetensors file with weights; save the model with save_pretrained(folder)."
# For a decoder without a template of its own; the tokens are those that SmolLM2 and Qwen have in their vocabularies.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ message['content'] }}<|im_end|>"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def load_model(kind: Any, folder: str, pretrained: bool = True) -> Any:
    """A model of an Auto class: with the folder's weights in float32, or of the same sizes with random ones.

    Raises:
        UserError: when it cannot be loaded, or models of this family are not of this kind.
    """
    import torch
    from transformers import AutoConfig

    config = _from_pretrained(AutoConfig, folder)
    check_kind(kind, config)
    # BERT's pooler would come with random weights that no lesson uses.
    options: dict[str, Any] = {"add_pooling_layer": False} if _has_pooler(kind, config) else {}
    options["dtype"] = torch.float32  # what a file holds is often bfloat16, too coarse for small steps
    if pretrained:
        return _from_pretrained(kind, folder, **options)
    return kind.from_config(config, **options)


def load_tokenizer(folder: str) -> Any:
    """The folder's tokenizer, with a padding token and no longer texts than its model has positions for.

    Raises:
        UserError: when it cannot be loaded or does not fit its model.
    """
    from transformers import AutoConfig, AutoTokenizer

    return fit_to_model(_from_pretrained(AutoTokenizer, folder), _from_pretrained(AutoConfig, folder), folder)


def fit_to_model(tokenizer: Any, config: Any, folder: str) -> Any:
    """Give the tokenizer a padding token and its model's length limit; changed in place and returned.

    One without a padding token pads with its end token: the attention mask hides padding, whatever it is.

    Raises:
        UserError: when it has no such token, or has tokens that its model does not know.
    """
    known = getattr(config, "vocab_size", None)
    unknown = {token for token, number in tokenizer.get_vocab().items() if known is not None and number >= known}
    if unknown - {tokenizer.pad_token}:
        raise UserError(
            f"model: the tokenizer in {folder} has {len(unknown):,} token(s) more than the {known:,} that its model "
            "knows; they do not belong together: save both again with save_pretrained(folder)."
        )
    if tokenizer.pad_token is None or tokenizer.pad_token in unknown:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise UserError(
            f"model: the tokenizer in {folder} has neither a padding token nor an end token to pad with; set "
            "tokenizer.pad_token to one of its tokens and save it with save_pretrained(folder)."
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions and tokenizer.model_max_length > positions:
        import torch
        from transformers import AutoModel

        with torch.device("meta"):  # the module tree without numbers
            tokenizer.model_max_length = positions - first_position(AutoModel.from_config(config))
    return tokenizer


def first_position(body: Any) -> int:
    """The position of the first word: 0, but in RoBERTa's family the one after the padding's number."""
    for name, module in body.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def add_chat_template(tokenizer: Any) -> Any:
    """Give a decoder's tokenizer the chat template that lessons need, if it has none; changed in place and returned.

    Raises:
        UserError: its vocabulary has no token to end a turn with.
    """
    if tokenizer.chat_template is None:
        if "<|im_end|>" not in tokenizer.get_vocab():
            raise UserError(
                "model: this tokenizer has no chat template, nor an <|im_end|> to make one with; choose another."
            )
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.chat_template = CHAT
    return tokenizer


def check_model_folder(folder: Path) -> Path:
    """Return `folder` if a model can be loaded from it.

    Raises:
        UserError: naming the folder or file, what is wrong with it and how to fix it.
    """
    if not exists(folder) or not folder.is_dir():
        raise UserError(f"model: there is no folder {folder}.")
    try:
        _check_config(folder)
        if not any(folder.glob("*.safetensors")):
            pickled = any(any(folder.glob(pattern)) for pattern in PICKLES)
            raise UserError(f"model: {folder} {ONLY_PICKLE if pickled else NO_WEIGHTS}")
        for path in changed_files(folder):
            state = "damaged or changed" if path.is_file() else "missing"
            raise UserError(
                f"model: {path} is {state} (its SHA-256 is not the one in {SUMS}); "
                "copy it again, or for the committed models: git checkout -- data/models"
            )
    except OSError as error:
        raise unreachable(folder, error) from None
    return folder


def check_kind(kind: Any, config: Any) -> None:
    """Refuse a decoder where blanks are to be filled, and an encoder where texts are to be continued.

    kind: an Auto class of `transformers`; config: the model's. What a family can do is read from the library's own
    tables.

    Raises:
        UserError: naming the family and what the lesson needs.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    fills = type(config) in AutoModelForMaskedLM._model_mapping
    if kind is AutoModelForMaskedLM and not fills:
        raise UserError(
            f"model: a {config.model_type} model is no encoder, and this needs one, as BERT: it fills blanks."
        )
    continues = type(config) in AutoModelForCausalLM._model_mapping and (not fills or config.is_decoder)
    if kind is AutoModelForCausalLM and not continues:
        raise UserError(
            f"model: a {config.model_type} model is no decoder, and this needs one, as Llama: it continues a text."
        )


def _from_pretrained(auto_class: Any, folder: str, **options: Any) -> Any:
    from safetensors import SafetensorError

    loader: Callable[..., Any] = auto_class.from_pretrained
    try:
        return loader(folder, trust_remote_code=False, **options)
    except SafetensorError as error:
        raise UserError(f"model: the weights in {folder} are damaged ({error}); copy them again.") from None
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise UserError(f"model: {folder} {REMOTE_CODE}") from None
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"model: {folder} cannot be loaded: {said[0]}") from None


def _has_pooler(kind: Any, config: Any) -> bool:
    if kind.__name__ != "AutoModel" or type(config) not in kind._model_mapping:
        return False
    return "add_pooling_layer" in inspect.signature(kind._model_mapping[type(config)].__init__).parameters


def _check_config(folder: Path) -> None:
    from transformers import CONFIG_MAPPING

    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            f"model: {folder} has no config.json, so its architecture is unknown; "
            "save a model with save_pretrained(folder) to get one."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        family = config.get("model_type")
    except (ValueError, AttributeError):
        raise UserError(f"model: {path} is not valid JSON; fetch or save it again.") from None
    if not family:
        raise UserError(f"model: {path} names no model_type; save the model again.")
    if family not in CONFIG_MAPPING:
        if "auto_map" in config or any(folder.glob("*.py")):
            raise UserError(f"model: {folder} {REMOTE_CODE}")
        raise UserError(f'model: {folder} is of the family "{family}", which the installed transformers does not know.')
