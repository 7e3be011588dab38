"""Loads models and tokenizers from folders, after checks that report each problem in one sentence.

Pickles are never opened, and code in a folder is never run. torch and transformers are imported only in the functions
that need them, so the command line starts without them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.files import SUMS, changed_files
from helpers.loading_report import check_finite, check_loading
from helpers.paths import exists, unreachable
from helpers.runtime import UserError
from helpers.weight_files import (
    INDEX,
    TOKENIZERS,
    WEIGHTS,
    check_adapter,
    tensor_headers,
    weight_paths,
    wrong_content,
)

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
ASK_FOR_PLAIN = (
    "the lessons train and quantize plain weights (float32, float16 or bfloat16): give the model that it was made from."
)
HOW_TO_GET_A_CONFIG = "save a model with save_pretrained(folder) to get one."
OTHER_FORMATS = {
    "*.gguf": "GGUF file", "tf_model*.h5": "TensorFlow file", "flax_model*.msgpack": "Flax file", "*.onnx": "ONNX file",
    "*.npz": "NumPy file", "*.tflite": "TensorFlow Lite file",
}  # fmt: skip
# The chat template for decoders that have none. The vocabularies of SmolLM2 and Qwen contain its special tokens.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ message['content'] }}<|im_end|>"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def load_model(kind: Any, folder: str, pretrained: bool = True, **options: Any) -> Any:
    """Load a model of an Auto class in float32: with the folder's weights, or with random ones of the same sizes.

    Args:
        options: for the model's configuration, such as num_labels. With `AutoModelForSequenceClassification` the head
            may be new; with every other class, all weights have to come from the folder.

    Raises:
        UserError: when the model cannot be loaded or run, its weights are missing, unexpected or of another shape, or
            its family does not fit this class.
    """
    import torch
    from transformers import AutoConfig

    config = _from_pretrained(AutoConfig, folder)
    check_kind(kind, config)
    # BERT's pooler would get random weights, and no lesson uses it.
    if _has_pooler(kind, config):
        options["add_pooling_layer"] = False
    options["dtype"] = torch.float32  # files often hold bfloat16, which is too coarse for small updates
    if pretrained:
        model = _with_weights(kind, folder, options)
    else:
        with _one_sentence(folder):
            model = kind.from_config(config, **options)
    _try_out(model, folder)
    return model


def load_config(folder: str) -> Any:
    """Return the folder's model configuration; raise a UserError if it cannot be read."""
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, folder)


def load_tokenizer(folder: str) -> Any:
    """Return the folder's tokenizer, with a padding token and with its model's maximum length.

    Raises:
        UserError: when the tokenizer cannot be loaded or does not fit its model.
    """
    from transformers import AutoConfig, AutoTokenizer

    config = _from_pretrained(AutoConfig, folder)
    if Path(folder).is_dir() and not any((Path(folder) / name).is_file() for name in TOKENIZERS):
        raise UserError(
            f"model: {folder} has no tokenizer (none of {', '.join(TOKENIZERS)}); copy the files of the tokenizer that "
            "the model was trained with, or save it with tokenizer.save_pretrained(folder)."
        )
    tokenizer = _from_pretrained(AutoTokenizer, folder)
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if not words:
        raise UserError(
            f"model: the tokenizer in {folder} knows no word: its vocabulary holds {len(tokenizer)} special tokens and "
            "nothing else; save the tokenizer again with save_pretrained(folder)."
        )
    return fit_to_model(tokenizer, config, folder)


def fit_to_model(tokenizer: Any, config: Any, folder: str) -> Any:
    """Set the tokenizer's padding token and its model's maximum length in place; return the tokenizer.

    A tokenizer without a padding token pads with its end token, which is safe because the attention mask hides padding.

    Raises:
        UserError: when no token can be used for padding, the tokenizer has ids that its model does not know, or it
            truncates a text to nothing.
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

        with torch.device("meta"):  # only the module tree is needed
            tokenizer.model_max_length = positions - first_position(AutoModel.from_config(config))
    marks = tokenizer.num_special_tokens_to_add()
    if tokenizer.model_max_length <= marks:
        raise UserError(
            f"model: the tokenizer in {folder} cuts texts to {tokenizer.model_max_length} tokens, and {marks} of them "
            "are special, so nothing of a text is left; correct model_max_length in tokenizer_config.json."
        )
    return tokenizer


def first_position(body: Any) -> int:
    """Return the position of a text's first token: 0, or in RoBERTa's family the padding index plus 1."""
    for name, module in body.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def add_chat_template(tokenizer: Any) -> Any:
    """Add the lessons' chat template to a decoder's tokenizer that has none, in place; return the tokenizer.

    Raises:
        UserError: when its vocabulary lacks the template's tokens for the start and end of a turn.
    """
    if tokenizer.chat_template is None:
        if not {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.get_vocab()):
            raise UserError(
                "model: this tokenizer has no chat template, nor an <|im_start|> and <|im_end|> to make one with; "
                "choose another, or set tokenizer.chat_template and save it with save_pretrained(folder)."
            )
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.chat_template = CHAT
    return tokenizer


def check_chat_template(tokenizer: Any, folder: str) -> Any:
    """Return `tokenizer` if its chat template can format a question, and a question with its answer.

    Raises:
        UserError: when the template raises, or leaves out the question or the answer.
    """
    question, answer = "a question", "an answer"
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    try:
        opened = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception as error:  # a template is a program and can raise anything
        raise UserError(
            f"model: the chat template of the tokenizer in {folder} fails on one user turn and its answer "
            f"({_first_line(error)}); correct chat_template.jinja, or take the template of the model's authors."
        ) from None
    if question not in opened or question not in whole or answer not in whole:
        raise UserError(
            f"model: the chat template of the tokenizer in {folder} leaves out what the user or the assistant says; "
            "correct chat_template.jinja: it has to write message['content'] of every turn."
        )
    return tokenizer


def check_model_folder(folder: Path) -> Path:
    """Return `folder` if a model can be loaded from it.

    Raises:
        UserError: names the folder or file, the problem and how to fix it.
    """
    if exists(folder) and folder.is_file():
        raise UserError(f"model: {folder} is a file; give the folder that it lies in, {folder.parent}.")
    if not exists(folder) or not folder.is_dir():
        raise UserError(f"model: there is no folder {folder}.")
    try:
        check_adapter(folder)
        _check_config(folder)
        if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
            weight_paths(folder)  # names the files that are missing
        if not any(folder.glob("*.safetensors")):
            raise UserError(f"model: {folder} {_instead_of_weights(folder)}")
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
    """Refuse an encoder-decoder, a decoder as a masked language model, and an encoder as a causal language model.

    kind: an Auto class of `transformers`; config: the model's. The mappings of the Auto classes decide which kinds a
    model family supports.

    Raises:
        UserError: names the family and the kind of model that the lesson needs.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"model: a {config.model_type} model is an encoder-decoder, and the lessons need an encoder alone, such as "
            "BERT, or a decoder alone, such as Llama."
        )
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


@contextmanager
def _one_sentence(folder: str) -> Iterator[None]:
    """Turn any exception that `transformers` raises while it loads a folder into a UserError of one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except UserError:
        raise
    except SafetensorError as error:
        raise UserError(f"model: the weights in {folder} are damaged ({error}); copy them again.") from None
    except ImportError as error:
        raise UserError(
            f"model: {folder} needs a package that is not installed here ({_first_line(error)}); give a model that "
            "transformers loads without it."
        ) from None
    except Exception as error:  # every layer can fail, down to the Rust tokenizers
        if "trust_remote_code" in str(error):
            raise UserError(f"model: {folder} {REMOTE_CODE}") from None
        said = _first_line(error)
        if not isinstance(error, OSError | ValueError):
            said = f"{type(error).__name__}: {said}"
        raise UserError(f"model: {folder} cannot be loaded: {said.rstrip('.')}.") from None


def _from_pretrained(auto_class: Any, folder: str, **options: Any) -> Any:
    loader: Callable[..., Any] = auto_class.from_pretrained
    with _one_sentence(folder):
        return loader(folder, trust_remote_code=False, **options)


def _with_weights(kind: Any, folder: str, options: dict[str, Any]) -> Any:
    from transformers import AutoModelForSequenceClassification

    # `check_loading` reports mismatched shapes too. By default the loader raises, and prints the names only to its log.
    asked = {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
    model, info = _from_pretrained(kind, folder, **options, **asked)
    new_head = kind is AutoModelForSequenceClassification
    check_loading(model, info, tensor_headers(Path(folder)), folder, new_head)
    check_finite(model, folder)
    return model


def _try_out(model: Any, folder: str) -> None:
    """Run two tokens through the model, so that an unusable model fails here and not in the middle of a lesson."""
    import torch

    training = model.training
    known = getattr(model.config, "vocab_size", None) or 2
    ids = torch.tensor([[0, min(1, known - 1)]])  # (batch, seq)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
        hidden = output.last_hidden_state if model.base_model is model else output.logits
        if model.base_model is model and tuple(hidden.shape) != (1, 2, model.config.hidden_size):
            raise ValueError(f"its output is {tuple(hidden.shape)}, not (batch, seq, hidden)")
    except Exception as error:  # the forward pass of any model family can raise anything
        raise UserError(
            f"model: a {model.config.model_type} model cannot read a text by its token numbers alone "
            f"({_first_line(error)}); the lessons need an encoder such as BERT or a decoder such as Llama."
        ) from None
    finally:
        model.train(training)


def _first_line(error: BaseException) -> str:
    """Return an error's first line, at most 300 characters; if the line ends in ":", also the next line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said if len(said) <= 300 else f"{said[:300]}..."


def _has_pooler(kind: Any, config: Any) -> bool:
    if kind.__name__ != "AutoModel" or type(config) not in kind._model_mapping:
        return False
    return "add_pooling_layer" in inspect.signature(kind._model_mapping[type(config)].__init__).parameters


def _instead_of_weights(folder: Path) -> str:
    if any(any(folder.glob(pattern)) for pattern in PICKLES):
        return ONLY_PICKLE
    for pattern, kind in OTHER_FORMATS.items():
        for path in sorted(folder.glob(pattern)):
            return (
                f"holds its weights as a {kind} ({path.name}) and the lessons read safetensors; "
                "load it with transformers and save it with save_pretrained(folder)."
            )
    return NO_WEIGHTS


def _check_config(folder: Path) -> None:
    from transformers import CONFIG_MAPPING

    path = folder / "config.json"
    if not path.is_file():
        inside = sorted(found.parent for found in folder.glob("*/config.json"))
        hint = f"give the folder that has one, {inside[0]}." if inside else HOW_TO_GET_A_CONFIG
        raise UserError(f"model: {folder} has no config.json, so its architecture is unknown; {hint}")
    wrong = wrong_content(path)
    if wrong:
        raise UserError(f"model: {path} {wrong}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        family = config.get("model_type")
    except (ValueError, AttributeError):
        raise UserError(f"model: {path} is not valid JSON; fetch or save it again.") from None
    if not family or not isinstance(family, str):
        raise UserError(f"model: {path} names no model_type; save the model again.")
    if family not in CONFIG_MAPPING:
        if "auto_map" in config or any(folder.glob("*.py")):
            raise UserError(f"model: {folder} {REMOTE_CODE}")
        raise UserError(
            f'model: {folder} is of the family "{family}", which the installed transformers does not know; choose a '
            "model of another family, such as BERT or Llama."
        )
    quantized = config.get("quantization_config") or config.get("compression_config")
    if quantized:
        raise UserError(f"model: {folder} is already quantized ({_how(quantized)}); {ASK_FOR_PLAIN}")


def _how(quantized: Any) -> str:
    """Return the method and bits of a quantization config, such as "gptq, 4 bits"."""
    if not isinstance(quantized, dict):
        return "quantization_config in config.json"
    bits = quantized.get("bits") or quantized.get("w_bit")
    bits = bits or (4 if quantized.get("load_in_4bit") else 8 if quantized.get("load_in_8bit") else None)
    return f"{quantized.get('quant_method', 'an unknown method')}" + (f", {bits} bits" if bits else "")
