"""The exercises of lesson 11: a QLoRA layer's two passes, the memory of a training step, and the right merge."""

from __future__ import annotations

import functools
import tempfile
import weakref
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from helpers import qlora
from helpers.checks import Wrong, attempted, exercise, expect, returned
from helpers.lessons.lesson_11.experiment import qlora_memory
from helpers.memory.architecture import Architecture
from helpers.memory.measurement import measure
from helpers.memory.prediction import MemoryLedger
from helpers.quantization.four_bit import FourBitLinear

RANK, ALPHA, TOKENS = 4, 8, 96


@exercise(
    "11.1",
    hints=[
        "Forward: the sum of two paths. Save what the gradients of A and B need, and the layer itself, which is small. "
        "Backward: W is read once more, so unpack it once more.",
        "With thin = x A^T and upstream gradient g: the gradient of x is g W + (scaling g B) A. "
        "That of A is (scaling g B)^T x, that of B is scaling g^T thin, both summed over all tokens (flatten(0, -2)).",
        "forward: thin = x @ lora_A.T; ctx.save_for_backward(x, thin, lora_A, lora_B); "
        "ctx.layer, ctx.scaling = layer, scaling; "
        "return linear(x, layer.weight(), layer.bias) + scaling * thin @ lora_B.T\n"
        "backward: x, thin, lora_A, lora_B = ctx.saved_tensors; gradient_thin = ctx.scaling * gradient @ lora_B; "
        "return (gradient @ ctx.layer.weight() + gradient_thin @ lora_A, "
        "gradient_thin.flatten(0, -2).T @ x.flatten(0, -2), "
        "ctx.scaling * gradient.flatten(0, -2).T @ thin.flatten(0, -2), None, None)",
    ],
)
def qlora_product(answer: Any) -> None:
    """answer: a torch.autograd.Function; apply(x, lora_A, lora_B, layer, scaling) as bitsandbytes and peft compute."""
    if not (isinstance(answer, type) and issubclass(answer, torch.autograd.Function)):
        attempted(answer(*[None] * 5))  # a blank function
        raise Wrong("it should be a class derived from torch.autograd.Function")
    base, ours, theirs, x, gradient = _layers()
    lora_A, lora_B = (part.weight for part in (theirs.lora_A["default"], theirs.lora_B["default"]))
    scaling, context = ALPHA / RANK, SimpleNamespace(save_for_backward=lambda *tensors: None)
    returned(answer.forward(context, x, lora_A, lora_B, ours, scaling), "the output")

    unpacked: list[weakref.ref] = []
    layer = _watched(ours, unpacked)
    given = [tensor.detach().requires_grad_() for tensor in (x, lora_A, lora_B)]
    value = answer.apply(*given, layer, scaling)
    path = (x @ lora_A.T @ lora_B.T).detach()
    wanted = theirs(x)
    mistakes = {
        "the LoRA path is missing": wanted - scaling * path,
        "the LoRA path has to be scaled": wanted + (1 - scaling) * path,
        "the bias is missing": wanted - base.bias,
    }
    expect("the output", value, wanted, 1e-4, mistakes=mistakes)
    if any(one() is not None for one in unpacked):
        raise Wrong(
            f"the forward pass keeps the unpacked matrix, {4 * base.weight.numel():,} bytes, for the backward pass: "
            "keep the layer, and unpack again"
        )
    found = torch.autograd.grad(value, given, gradient, allow_unused=True)
    right = torch.autograd.grad(theirs(x), [x, lora_A, lora_B], gradient)
    weight = ours.weight()
    through_w, through_path = gradient @ weight, right[0] - gradient @ weight
    expect(
        "the gradient of x",
        found[0],
        right[0],
        1e-3,
        mistakes={
            "the way through A and B is missing": through_w,
            "the way through W is missing": through_path,
            "the way through A and B has to be scaled": through_w + through_path / scaling,
        },
    )
    for name, one, other in zip(("A", "B"), found[1:], right[1:], strict=True):
        expect(f"the gradient of {name}", one, other, 1e-3, mistakes={"it has to be scaled": other / scaling})


@exercise(
    "11.2",
    hints=[
        "Start with the adapters: each matrix (in, out) has rank * (in + out) numbers, in all `layers` blocks.",
        "weights: the matrices in `weight_bits`, `shape.other_sizes` in `width` bytes, adapters in 4. Gradients: 4 "
        "bytes for each adapter number; Adam: 8. kept: per token and block, `shape.hidden` numbers when checkpointed, "
        "else the sum of block_numbers. logits: three times tokens * vocabulary, 4 bytes each.",
        "adapters = rank * shape.layers * sum(one + other for one, other in shape.matrices)\n"
        "kept = shape.hidden if checkpointed else sum(block_numbers(shape, rank).values())\n"
        'return {"weights": sum(shape.matrix_sizes) * weight_bits / 8 + width * sum(shape.other_sizes)\n'
        '        + 4 * adapters, "gradients": 4 * adapters, "optimizer": 8 * adapters,\n'
        '        "kept": width * tokens * shape.layers * kept, "logits": 3 * 4 * tokens * shape.vocabulary}',
    ],
)
def memory_calculator(answer: Callable) -> None:
    """answer(shape, tokens, rank, width, checkpointed, weight_bits): bytes by part, as counted in a small LLaMA."""
    for checkpointed in (False, True):
        shape, counted = _counted(checkpointed)
        call = f"checkpointed={checkpointed}"
        got = attempted(answer(shape, TOKENS, RANK, 4, checkpointed, 4.127))
        if not isinstance(got, Mapping) or set(got) != {"weights", "gradients", "optimizer", "kept", "logits"}:
            raise Wrong("it should return a dictionary with weights, gradients, optimizer, kept and logits")
        # One copy of the logits is among them, and with checkpointing what the last norm reads.
        kept = counted.activations - 4 * TOKENS * (shape.vocabulary + checkpointed * (shape.hidden + 1))
        wanted = {
            "weights": counted.weights,
            "gradients": counted.gradients,
            "optimizer": counted.optimizer,
            "kept": kept,
            "logits": 12 * TOKENS * shape.vocabulary,
        }
        for part, size in wanted.items():
            _near(f"{part}, with {call}, in MB", got[part], size, shape, part)
    shape = Architecture.published("13B")
    for options in ((4096, 16, 2, True, 4.5), (2048, 8, 4, False, 16.0)):
        right = qlora_memory(shape, *options)
        got = answer(shape, *options)
        for part, wanted_bytes in right.items():
            name = f"{part} of LLaMA 13B with (tokens, rank, width, checkpointed, weight_bits) = {options}, in GB"
            in_width = {"the loss is computed in float32, whatever `width` is": wanted_bytes * options[2] / 4e9}
            mistakes = in_width if part == "logits" else {}
            expect(name, got[part] / 1e9, wanted_bytes / 1e9, 1e-3 * wanted_bytes / 1e9, mistakes=mistakes)


@exercise(
    "11.3",
    hints=[
        "What did the adapter see while it learned: the weight from the file, or the weight out of 4 bits?",
        "bnb.functional.dequantize_4bit(base.weight.data, base.weight.quant_state) unpacks the base; "
        'layer.get_delta_weight("default") is the scaled update. The bias moves over as it is.',
        "base = layer.get_base_layer()\n"
        "plain = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None)\n"
        "unpacked = bnb.functional.dequantize_4bit(base.weight.data, base.weight.quant_state)\n"
        'plain.weight.data = unpacked + layer.get_delta_weight("default")\n'
        "if base.bias is not None: plain.bias.data = base.bias.data.clone()\n"
        "return plain",
    ],
)
def merged(answer: Callable) -> None:
    """answer(original, layer): an nn.Linear with the outputs of peft's LoRA layer on bitsandbytes' 4-bit layer."""
    base, ours, theirs, x, _ = _layers()
    wanted = theirs(x).detach()
    plain = returned(answer(base.weight.detach().clone(), theirs), "an nn.Linear")
    if not isinstance(plain, nn.Linear):
        raise Wrong(f"it should return an nn.Linear, not {type(plain).__name__}")
    update = theirs.get_delta_weight("default")
    if tuple(plain.weight.shape) != tuple(base.weight.shape):
        raise Wrong(f"its weight should have shape {tuple(base.weight.shape)}, not {tuple(plain.weight.shape)}")
    if not torch.equal(theirs(x), wanted):
        raise Wrong("it changes the layer that it was given: return a new one")
    unpacked = ours.weight()
    mistakes = {
        "the update sits on the weight from the file, which the adapter never saw": base.weight + update,
        "the base is unpacked, but the update is missing": unpacked,
        "the update has to be scaled (get_delta_weight does it)": unpacked + update * RANK / ALPHA,
        "the update is subtracted": unpacked - update,
    }
    expect("the merged weight", plain.weight, unpacked + update, 1e-5, mistakes=mistakes)
    if plain.bias is None:
        raise Wrong("the bias of the base is lost")
    expect("the merged layer's output", plain(x), wanted, 1e-4)


def _near(what: str, got: Any, wanted: float, shape: Architecture, part: str) -> None:
    """Raise `Wrong` unless a part is within a tenth of what was counted; name the usual mistakes."""
    adapters = RANK * shape.layers * sum(one + other for one, other in shape.matrices)
    one_block = RANK * sum(one + other for one, other in shape.matrices)
    mistakes = {
        "weights": {
            "bits, not bytes": wanted + 7 / 8 * sum(shape.matrix_sizes) * 4.127,
            "embeddings and norms are missing": wanted - 4 * sum(shape.other_sizes),
        },
        "gradients": {"only one block is counted": 4.0 * one_block},
        "optimizer": {"Adam keeps two numbers for each": 4.0 * adapters},
        "kept": {"every block keeps something": wanted / shape.layers},
        "logits": {"three copies are alive when the backward pass begins": wanted / 3},
    }[part]
    numbers = {why: value / 1e6 for why, value in mistakes.items()}
    if not isinstance(got, int | float):
        raise Wrong(f"{what} should be a number, not {type(got).__name__}")
    expect(what, got / 1e6, wanted / 1e6, 0.1 * wanted / 1e6, mistakes=numbers)


@functools.cache
def _counted(checkpointed: bool) -> tuple[Architecture, MemoryLedger]:
    """A small random LLaMA in 4 bits with LoRA: its sizes, and what a training step of it takes, counted."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes: Any = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=500, num_key_value_heads=2, tie_word_embeddings=False, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        model = qlora.load_four_bit(AutoModelForCausalLM, folder)
    if checkpointed:
        model.config.use_cache = False
        model.activation_checkpointing_enable({"use_reentrant": False})
    model = qlora.with_lora(model, RANK, ALPHA)
    ids = torch.arange(5, 5 + TOKENS).unsqueeze(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    return Architecture.of(config), measure(model, batch, optimizer)


def _layers() -> tuple[nn.Linear, FourBitLinear, Any, Tensor, Tensor]:
    """A layer, the same in 4 bits by hand, the library's with an adapter that has learned, inputs, and a gradient."""
    import bitsandbytes as bnb
    from peft import LoraConfig, get_peft_model

    draw = torch.Generator().manual_seed(0)
    base = nn.Linear(64, 32)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    quantized = bnb.nn.Linear4bit(64, 32, compute_dtype=torch.float32, quant_type="nf4")  # double: its default
    quantized.load_state_dict(base.state_dict())
    quantized = qlora.keep_packing(quantized.to("cpu"))
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0"])
    adapted: Any = get_peft_model(nn.Sequential(quantized), config)
    theirs = adapted.base_model.model[0]
    with torch.no_grad():
        for part in (theirs.lora_A["default"].weight, theirs.lora_B["default"].weight):
            part.copy_(0.3 * torch.randn(part.shape, generator=draw))
    x = torch.randn(3, 5, 64, generator=draw).requires_grad_()
    return base, FourBitLinear(base), theirs, x, torch.randn(3, 5, 32, generator=draw)


def _watched(layer: FourBitLinear, unpacked: list[weakref.ref]) -> Any:
    """The layer, which notes every matrix that it unpacks without keeping it alive."""

    def weight() -> Tensor:
        found = layer.weight()
        unpacked.append(weakref.ref(found))
        return found

    return SimpleNamespace(
        weight=weight, bias=layer.bias, in_features=layer.in_features, out_features=layer.out_features
    )
