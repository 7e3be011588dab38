"""A GGUF file becomes a folder that plain transformers loads, its weights dequantized and rounded to bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants

from helpers.runtime import UserError
from workbook.real.conversion import convert

HIDDEN, INTERMEDIATE, LAYERS, HEADS = 64, 128, 2, 4
PIECES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz .?", "th", "the"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A random Llama of two layers as GGUF, its matrices in Q4_1, and the dequantized matrices."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(PIECES))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(PIECES)
    writer.add_token_types([3, 3, 3, *([1] * (len(PIECES) - 3))])
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    draws, exact = np.random.default_rng(0), {}

    def matrix(name: str, rows: int, columns: int) -> None:
        packed = quants.quantize(draws.normal(0, 0.3, (rows, columns)).astype(np.float32), GGMLQuantizationType.Q4_1)
        exact[name] = quants.dequantize(packed, GGMLQuantizationType.Q4_1)
        writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q4_1)

    def norm(name: str) -> None:
        exact[name] = draws.normal(1, 0.1, HIDDEN).astype(np.float32)
        writer.add_tensor(name, exact[name])

    matrix("token_embd.weight", len(PIECES), HIDDEN)
    norm("output_norm.weight")
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{name}.weight", HIDDEN, HIDDEN)
        matrix(f"blk.{layer}.ffn_gate.weight", INTERMEDIATE, HIDDEN)
        matrix(f"blk.{layer}.ffn_up.weight", INTERMEDIATE, HIDDEN)
        matrix(f"blk.{layer}.ffn_down.weight", HIDDEN, INTERMEDIATE)
        norm(f"blk.{layer}.attn_norm.weight")
        norm(f"blk.{layer}.ffn_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, exact


def test_a_gguf_file_becomes_a_plain_model_and_tokenizer(small, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, exact = small
    folder = tmp_path / "model"
    convert(path, folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16 and not hasattr(model.config, "quantization_config")
    own = model.state_dict()
    pairs = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.1.mlp.down_proj.weight": "blk.1.ffn_down.weight",
        "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
    }
    for name, source in pairs.items():
        assert torch.equal(own[name], torch.tensor(exact[source]).bfloat16()), name
    assert tokenizer.chat_template == TEMPLATE and tokenizer.model_max_length == 128
    assert tokenizer.eos_token == "<|im_end|>"
    ids = tokenizer("the cat", return_tensors="pt")
    answer = model.generate(**ids, max_new_tokens=3, do_sample=False)
    assert torch.isfinite(model(**ids).logits).all() and answer.shape[1] <= ids["input_ids"].shape[1] + 3
    both = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    for name, value in both.state_dict().items():
        assert torch.equal(value.bfloat16(), own[name]), name


def test_a_file_that_is_no_gguf_is_named(tmp_path):
    (tmp_path / "none.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"none\.gguf cannot be read as a GGUF model"):
        convert(tmp_path / "none.gguf", tmp_path / "model")
