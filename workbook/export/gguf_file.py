"""Writes a Llama-like decoder to one GGUF file in float32, with its tokenizer and chat template.

Tensor names, metadata and the row order of the query and key matrices follow llama.cpp's convert_hf_to_gguf.py.
llama.cpp computes with this order; `transformers` (`gguf_file=`) restores its own order when it loads the file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, GGUFWriter, TokenType, get_tensor_name_map
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.runtime import UserError
from helpers.sft import end_of_turn

PLAIN_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# These template tags mark the assistant's text for a trainer and print nothing.
TRAINING_TAGS = re.compile(r"\{% (?:end)?generation %\}")


def why_not(folder: Path) -> str:
    """The reason, as a clause, why the decoder in a folder cannot be written as GGUF here; "" if it can."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "llama":
        return f"a {config.get('model_type')} model has another layout than Llama, the only one that is written here"
    if config.get("attention_bias") or config.get("mlp_bias"):
        return "its linear layers have biases, which GGUF's layout of Llama does not hold"
    if (config.get("rope_parameters") or {}).get("rope_type", "default") != "default":
        return "its rotary positions are scaled, which is not written here"
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    splits = {**PLAIN_BYTES, **(tokenizer.get("pre_tokenizer") or {"type": "none"})}
    plain = tokenizer["model"].get("type") == "BPE" and tokenizer.get("normalizer") is None and splits == PLAIN_BYTES
    return "" if plain else "its tokenizer is not GPT-2's plain byte-level BPE, the only one that is written here"


def write_gguf(folder: Path, path: Path) -> Path:
    """Write the decoder in `folder` to `path`; `why_not(folder)` has to be empty."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer = GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(0)  # float32
    _add_tokenizer(writer, tokenizer, config.vocab_size)
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # the embeddings, which are already written
        weights = value.float().numpy()
        for part, count in heads.items():
            if f".{part}." in name:
                weights = _interleaved(weights, count)
        known_as = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known_as is None:
            raise UserError(f"export: GGUF has no name for the weights {name} of this model.")
        writer.add_tensor(known_as, np.ascontiguousarray(weights))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Reorder each head's rows as llama.cpp does: alternate rows of the two halves that rotary embedding pairs."""
    rows = weights.shape[0] // heads
    halves = weights.reshape(heads, 2, rows // 2, *weights.shape[1:])  # (heads, 2, rows / 2, in)
    return halves.swapaxes(1, 2).reshape(weights.shape)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Any, vocab_size: int) -> None:
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["id"] for token in backend["added_tokens"] if token["special"]}
    added = {token["id"] for token in backend["added_tokens"]} - special
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens, kinds = [], []
    for number in range(vocab_size):
        kind = TokenType.CONTROL if number in special else TokenType.USER_DEFINED if number in added else None
        tokens.append(by_id.get(number, f"[PAD{number}]"))
        kinds.append(kind or (TokenType.NORMAL if number in by_id else TokenType.UNUSED))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in backend["model"]["merges"]])
    begins = tokenizer("")["input_ids"] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(begins)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    end = end_of_turn(tokenizer)  # a GGUF file has one stop token, and a chat model must stop at the end of a turn
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    writer.add_chat_template(TRAINING_TAGS.sub("", tokenizer.chat_template))
