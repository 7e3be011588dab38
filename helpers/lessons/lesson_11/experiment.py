"""Lesson 11: what it shows on real text, and the functions of its page that its checks and its benchmark need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from helpers import catalog, qlora, real
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.evaluation import predict
from helpers.memory.architecture import Architecture
from helpers.memory.measurement import measure
from helpers.memory.prediction import MemoryLedger
from helpers.models import MeanPoolClassifier
from helpers.recipes import recipe
from helpers.runtime import seed_everything

REAL_LABELS, REAL_TEST_ROWS, REAL_TOKENS = 480, 600, 128
WeightOf = Callable[[Tensor, Tensor], Tensor]  # (original weight, LoRA's update) -> the weight of a plain layer


def through_nf4(weights: Tensor) -> Tensor:
    """The weights as they come back from NF4 with double quantization, by bitsandbytes. Same shape."""
    import bitsandbytes as bnb

    packed, state = bnb.functional.quantize_4bit(weights, blocksize=64, quant_type="nf4", compress_statistics=True)
    return bnb.functional.dequantize_4bit(packed, state)


WAYS: dict[str, tuple[str, WeightOf]] = {  # how an adapter is used: who trained it, and the weight of the plain layer
    "lora": ("lora", lambda weight, update: weight + update),
    "lora_then_4_bits": ("lora", lambda weight, update: through_nf4(weight) + update),
    "lora_merged_4_bits": ("lora", lambda weight, update: through_nf4(weight + update)),
    "qlora_merged": ("qlora", lambda weight, update: through_nf4(weight) + update),
    "qlora_merged_wrong": ("qlora", lambda weight, update: weight + update),
    "qlora_merged_4_bits": ("qlora", lambda weight, update: through_nf4(through_nf4(weight) + update)),
    "qlora_merged_file_4_bits": ("qlora", lambda weight, update: through_nf4(weight + update)),
    "qlora_without_adapter": ("qlora", lambda weight, update: through_nf4(weight)),
}
INTO_4_BITS = ("qlora_merged_4_bits", "qlora_merged_file_4_bits")  # merges whose rounding may drop the update


def merged(original: Tensor, layer: Any) -> nn.Linear:
    """LoRA's update on the unpacked weights of the 4-bit layer below it, as a plain layer; the solution of 11.3."""
    import bitsandbytes as bnb

    base = layer.get_base_layer()
    plain = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None)
    unpacked = bnb.functional.dequantize_4bit(base.weight.data, base.weight.quant_state)
    plain.weight.data = unpacked + layer.get_delta_weight("default")
    if base.bias is not None:
        plain.bias.data = base.bias.data.clone()
    return plain


def adapter_on(rounded: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """(original weight, `peft`'s layer) -> the weight of a plain layer: the layer's adapter on a rounded base."""
    return lambda original, layer: rounded(original) + layer.get_delta_weight("default")


@torch.no_grad()
def exported(plain: Any, trained: Any, weight_of: WeightOf) -> nn.Module:
    """`plain`, a classifier in float32, with the head of `trained`, and `weight_of(original, update)` in its layers."""
    plain.get_submodule("head").load_state_dict(trained.get_submodule("head").state_dict())
    for path, layer in trained.body.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            original = plain.body.get_submodule(path).weight
            original.copy_(weight_of(original, layer.get_delta_weight("default")))
    return plain.eval()


@torch.no_grad()
def kept_of_update(body: nn.Module, trained: Any, weight_of: WeightOf) -> tuple[float, float]:
    """The share of QLoRA's update in a merge's weights, and the update's mean size in units of the mean rounding error.

    Args:
        body: the encoder as its file has it, in float32.
        trained: a classifier with adapters on the rounded encoder.
        weight_of: (original weight, update) -> the merged weight.
    """
    product, square, size, error = 0.0, 0.0, 0.0, 0.0
    for path, layer in trained.body.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            weight, update = body.get_submodule(path).weight, layer.get_delta_weight("default")
            rounded = through_nf4(weight)  # type: ignore[arg-type]
            product += ((weight_of(weight, update) - rounded) * update).sum().item()  # type: ignore[arg-type]
            square += update.square().sum().item()
            size += update.abs().sum().item()
            error += (weight - rounded).abs().sum().item()  # type: ignore[operator]
    return product / square, size / error


def block_numbers(shape: Architecture, rank: int) -> dict[str, int]:
    """What one LLaMA block with frozen weights and LoRA keeps of one token until the backward pass, in numbers."""
    return {
        "queries, keys, values, their mix": 2 * (shape.queries + shape.keys) + shape.heads,
        "what the two norms read": 2 * shape.hidden + 2,
        "what the matrices behind the norms read": 2 * shape.hidden,
        "gate, its activation, up, their product": 4 * shape.inner,
        "what every B reads": len(shape.matrices) * rank,
    }


def qlora_memory(
    shape: Architecture, tokens: int, rank: int, width: int = 4, checkpointed: bool = True, weight_bits: float = 4.127
) -> dict[str, float]:
    """The bytes of one training step with QLoRA and Adam, by part.

    Args:
        shape: of a LLaMA-like language model.
        tokens: of the whole batch.
        width: bytes of what is not quantized: embeddings, norms, activations. Adapters always take 4, and so do the
            three copies of the scores: `transformers` computes the loss in float32.
        checkpointed: keep only the input of every block.
        weight_bits: of a weight in the blocks' matrices.
    """
    adapters = rank * shape.layers * sum(one + other for one, other in shape.matrices)
    kept = shape.hidden if checkpointed else sum(block_numbers(shape, rank).values())
    return {
        "weights": sum(shape.matrix_sizes) * weight_bits / 8 + width * sum(shape.other_sizes) + 4 * adapters,
        "gradients": 4 * adapters,
        "optimizer": 8 * adapters,
        "kept": width * tokens * shape.layers * kept,
        "logits": 3 * 4 * tokens * shape.vocabulary,
    }


def accuracies_on_real_text(seed: int, labels: int = REAL_LABELS, test_rows: int = REAL_TEST_ROWS) -> dict[str, float]:
    """MiniLM on rated sentences, trained with LoRA and with QLoRA: the accuracy of each way to use the adapters.

    Also the share of QLoRA's update that each merge into 4 bits keeps.
    """
    sentences, tokenizer = catalog.dataset("reviews", "real"), catalog.tokenizer("encoder", "real")
    splits = {
        "train": sample_rows(sentences["train"], labels, seed),
        "test": sentences["test"].select(range(test_rows)),
    }
    rows = {name: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for name, part in splits.items()}
    collate = pad(tokenizer)

    def accuracy(classifier: nn.Module) -> float:
        logits, true = predict(classifier, length_batches(rows["test"], collate, 64, shuffle=False))
        return (logits.argmax(dim=-1) == true).double().mean().item()

    found, trained = {}, {}
    for method in ("lora", "qlora"):
        settings = recipe(method, "published")
        seed_everything(seed)
        trained[method] = classifier = qlora.classifier(method, "real")
        rate, epochs = settings.learning_rate, settings.epochs
        qlora.fit(classifier, rows["train"], collate, learning_rate=rate, epochs=epochs, seed=seed)
        found[f"accuracy_{method}"] = accuracy(classifier)
    for name, (method, weight_of) in WAYS.items():
        if name not in trained:
            plain = MeanPoolClassifier(catalog.body("encoder", "real"))
            found[f"accuracy_{name}"] = accuracy(exported(plain, trained[method], weight_of))
    body = catalog.body("encoder", "real")
    for name in INTO_4_BITS:
        share, found["update_size_qlora"] = kept_of_update(body, trained["qlora"], WAYS[name][1])
        found[f"update_kept_{name}"] = share
    return found


def smollm2_config() -> Any:
    """The configuration of SmolLM2-135M, so that its sizes are known without its files."""
    from transformers import LlamaConfig

    sizes: Any = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "vocab_size": 49152}
    return LlamaConfig(**sizes, num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True)


def smollm2_ledger(method: str, tokens: int = REAL_TOKENS, rank: int = qlora.RANK) -> MemoryLedger:
    """What a training step of SmolLM2-135M on one text of so many tokens takes: measured. method: "lora", "qlora"."""
    from transformers import AutoModelForCausalLM

    folder = str(real.model_folder("decoder"))
    seed_everything(0)
    if method == "qlora":
        model = qlora.load_four_bit(AutoModelForCausalLM, folder)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = qlora.with_lora(model.requires_grad_(False), rank)
    ids = torch.randint(5, 1000, (1, tokens))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    return measure(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}, optimizer)
