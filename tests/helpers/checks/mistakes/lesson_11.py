"""Answers to the exercises of lesson 11: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import bitsandbytes as bnb
import torch
from torch import nn
from torch.nn.functional import linear

from helpers.lessons.lesson_11.experiment import qlora_memory
from helpers.quantization.four_bit import QLoRAProduct


def product(forward_scale=True, bias=True, path=True, keep=False, through_w=True, through_path=True, scale_a=True):
    class Answer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lora_A, lora_B, layer, scaling):
            ctx.save_for_backward(x, lora_A, lora_B)
            ctx.layer, ctx.scaling, weight = layer, scaling, layer.weight()
            ctx.weight = weight if keep else None
            found = linear(x, weight, layer.bias if bias else None)
            return found + (scaling if forward_scale else 1) * x @ lora_A.T @ lora_B.T if path else found

        @staticmethod
        def backward(ctx, gradient):
            x, lora_A, lora_B = ctx.saved_tensors
            thin = ctx.scaling * gradient @ lora_B
            back = gradient @ ctx.layer.weight() * through_w + thin @ lora_A * through_path
            found_a = thin.flatten(0, -2).T @ x.flatten(0, -2)
            found_b = ctx.scaling * gradient.flatten(0, -2).T @ (x @ lora_A.T).flatten(0, -2)
            return back, found_a if scale_a else found_a / ctx.scaling, found_b, None, None

    return Answer


def memory(**factors):
    """The right parts, each times a factor."""

    def answer(*given):
        return {part: size * factors.get(part, 1) for part, size in qlora_memory(*given).items()}

    return answer


def merged(original, layer):
    base = layer.get_base_layer()
    plain = nn.Linear(base.in_features, base.out_features)
    unpacked = bnb.functional.dequantize_4bit(base.weight.data, base.weight.quant_state)
    plain.weight.data = unpacked + layer.get_delta_weight("default")
    plain.bias.data = base.bias.data.clone()
    return plain


def merge(weight_of, bias=True):
    def answer(original, layer):
        plain = merged(original, layer)
        plain.weight.data = weight_of(original, plain.weight.data, layer.get_delta_weight("default"))
        if not bias:
            plain.bias = None
        return plain

    return answer


def in_place(original, layer):
    layer.lora_B["default"].weight.data.zero_()
    return merged(original, layer)


def every_time_the_same(shape, tokens, rank, width, checkpointed, weight_bits):
    return qlora_memory(shape, tokens, rank, 4, checkpointed, 4.127)


def loss_in_width(shape, tokens, rank, width, *rest):
    parts = qlora_memory(shape, tokens, rank, width, *rest)
    return parts | {"logits": parts["logits"] * width / 4}


RIGHT = {"11.1": QLoRAProduct, "11.2": qlora_memory, "11.3": merged}


MISTAKES = [
    ("11.1", lambda *given: given[0], "class derived from torch.autograd.Function"),
    ("11.1", product(path=False), "the LoRA path is missing"),
    ("11.1", product(forward_scale=False), "the LoRA path has to be scaled"),
    ("11.1", product(bias=False), "the bias is missing"),
    ("11.1", product(keep=True), "keeps the unpacked matrix, 8,192 bytes"),
    ("11.1", product(through_path=False), "the gradient of x.*: the way through A and B is missing"),
    ("11.1", product(through_w=False), "the gradient of x.*: the way through W is missing"),
    ("11.1", product(scale_a=False), "the gradient of A.*: it has to be scaled"),
    ("11.2", memory(weights=8), "weights, with checkpointed=False"),
    ("11.2", memory(gradients=1 / 3), "gradients.*only one block is counted"),
    ("11.2", memory(optimizer=1 / 2), "optimizer.*Adam keeps two numbers for each"),
    ("11.2", memory(kept=1 / 3), "kept, with checkpointed=False.*every block keeps something"),
    ("11.2", memory(logits=1 / 3), "logits.*three copies"),
    ("11.2", every_time_the_same, "of LLaMA 13B with"),
    ("11.2", loss_in_width, "the loss is computed in float32"),
    ("11.2", lambda *given: sum(qlora_memory(*given).values()), "a dictionary with weights, gradients"),
    ("11.3", merge(lambda original, right, update: original + update), "the weight from the file"),
    ("11.3", merge(lambda original, right, update: right - update), "the update is missing"),
    ("11.3", merge(lambda original, right, update: right - update / 2), "the update has to be scaled"),
    ("11.3", merge(lambda original, right, update: right.T), r"its weight should have shape \(32, 64\)"),
    ("11.3", merge(lambda original, right, update: right, bias=False), "the bias of the base is lost"),
    ("11.3", in_place, "changes the layer"),
    ("11.3", lambda original, layer: original + layer.get_delta_weight("default"), "return an nn.Linear, not Tensor"),
    ("11.3", lambda original, layer: None, "returns None"),
]
