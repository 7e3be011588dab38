"""Computes the memory ledger by formula: weights, gradients, optimizer states, activations, and the peak.

A parameter trained with Adam needs memory for its weight, its gradient and two optimizer states. Activations are the
tensors that the forward pass saves for the backward pass. Source: Dettmers et al. 2023, "QLoRA", sections 2 and 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from helpers.memory.architecture import Architecture
from helpers.runtime import check_number, choose

METHODS = ("full", "lora", "qlora")
BLOCK = 64  # number of weights that share a scale
OUTER_BLOCK = 256  # number of scales that share a scale of scales
SMALL = 4096  # bitsandbytes keeps 32-bit states for tensors with fewer elements
STATE_BLOCK = 256  # number of 8-bit states that share a scale
TEMPORARIES = {32: 2, 8: 5}  # state bits -> float32 copies of a tensor in a CPU step, which dequantizes 8-bit states


@dataclass(frozen=True)
class Plan:
    """The training settings that determine memory.

    classes: the number of classes of a new, fully trained head; 0 means next-token prediction.
    value_bytes: bytes of an unquantized weight, a gradient or an activation: 4 (float32) or 2 (bfloat16).
    checkpointed: keep only the input of every block, and recompute the rest in the backward pass.
    """

    method: str
    batch: int
    length: int
    rank: int = 8
    classes: int = 0
    value_bytes: int = 4
    optimizer_bits: int = 32
    checkpointed: bool = False

    def __post_init__(self) -> None:
        choose("method", self.method, METHODS)
        for name in ("batch", "length", "rank"):
            check_number(name, getattr(self, name), 1, 10**9, integer=True)

    @property
    def tokens(self) -> int:
        return self.batch * self.length


@dataclass(frozen=True)
class MemoryLedger:
    """The bytes of each part, and the peak bytes that are held at one time."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int

    PARTS = ("weights", "gradients", "optimizer", "activations")

    @property
    def parts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.PARTS}


def four_bit_bytes(numbers: int) -> int:
    """Return the bytes of a matrix in NF4 with double quantization: codes, 1-byte scales, scales of scales, tables.

    The tables are the 16 levels of NF4, the 256 levels of the scales, and the scales' mean: 1,092 bytes per matrix,
    which is a large share of a small matrix.
    """
    scales = math.ceil(numbers / BLOCK)
    tables = 4 * (16 + 256 + 1)
    return math.ceil(numbers / 2) + scales + 4 * math.ceil(scales / OUTER_BLOCK) + tables


def adam_bytes(sizes: list[int], bits: int = 32) -> int:
    """Return the bytes of Adam's two moments for tensors of these sizes; 8-bit states have one scale per block.

    Raises:
        UserError: when bits is neither 32 nor 8.
    """
    choose("optimizer_bits", str(bits), ("32", "8"))
    if bits == 32:
        return sum(8 * size + 4 for size in sizes)  # two 32-bit moments per weight, and a 4-byte step count per tensor
    large = [size for size in sizes if size >= SMALL]
    shared_tables = 2 * 4 * 256 if large else 0
    compact = sum(2 * size + 2 * 4 * math.ceil(size / STATE_BLOCK) for size in large)
    return compact + shared_tables + sum(8 * size for size in sizes if size < SMALL)


def adapter_sizes(shape: Architecture, rank: int) -> list[int]:
    """Return the number of elements of every A and B if all matrices of all blocks get an adapter."""
    return [rank * side for pair in shape.matrices for side in pair] * shape.layers


def trained_sizes(shape: Architecture, plan: Plan) -> list[int]:
    """Return the number of elements of every trainable tensor."""
    head = [shape.hidden * plan.classes, plan.classes] if plan.classes else []
    if plan.method == "full":
        return shape.matrix_sizes + shape.other_sizes + head
    return adapter_sizes(shape, plan.rank) + head


def weight_bytes(shape: Architecture, plan: Plan) -> int:
    """Return the bytes of all weights, including adapters and a new head."""
    numbers = sum(shape.other_sizes)
    quantized = 0
    if plan.method == "qlora":
        quantized = sum(map(four_bit_bytes, shape.matrix_sizes))
    else:
        numbers += sum(shape.matrix_sizes)
    if plan.method != "full":
        numbers += sum(adapter_sizes(shape, plan.rank))
    return quantized + plan.value_bytes * (numbers + (shape.hidden + 1) * plan.classes)


def block_floats(shape: Architecture, plan: Plan) -> int:
    """Return how many numbers one block saves per token for the backward pass."""
    full = plan.method == "full"
    attention = 2 * (shape.queries + shape.keys) + shape.heads  # queries, keys, values, output; one sum per head
    if shape.attention_dropout:  # a CPU then uses no fused kernel and saves probabilities, mask and product
        attention += (3 * plan.length - 1) * shape.heads
    elif shape.family == "gpt2":  # the queries keep the combined tensor alive; the cache copies keys and values
        attention += 2 * shape.keys
    if shape.head_norms:  # the norms' inputs, and one root per head; trained scales need a second tensor
        heads = shape.heads * (shape.queries + shape.keys) // shape.queries
        attention += (2 if full else 1) * (shape.queries + shape.keys) + heads
    inputs = 2 * shape.hidden  # inputs of the matrices after the two norms, needed for the gradients of W or A
    thin = 0 if full else plan.rank * len(shape.matrices)  # the inputs of the B matrices
    dropped = shape.dropout * shape.hidden
    if shape.family == "llama":
        norms = (4 if full else 2) * shape.hidden + 2  # trained scales need a second tensor per norm
        inner = (shape.activation + 2) * shape.inner  # the gate's activation, the up projection, their product
    else:
        norms, inner = 2 * shape.hidden + 4, shape.activation * shape.inner
    return attention + inputs + thin + dropped + norms + inner


def end_floats(shape: Architecture, plan: Plan) -> int:
    """Return how many numbers are saved per token outside the blocks: at the embeddings, the last norm, the logits."""
    full = plan.method == "full"
    # The logits, and their input if the output matrix is trained. A new head needs only the mask for mean pooling.
    scores = 1 if plan.classes else shape.vocabulary + full * shape.hidden
    # Frozen embeddings save nothing, unless checkpointing makes `transformers` require a gradient of their output.
    embedded = full or plan.checkpointed
    if shape.family == "llama":
        # With frozen norms, the last norm saves its input, and the first block's norm, counted in the block, does not.
        return scores + (2 * shape.hidden + 1 if full else (shape.hidden + 1) * plan.checkpointed)
    dropped = shape.hidden * (shape.dropout > 0)
    return scores + (shape.hidden + 2 + dropped) * embedded


def workspace(shape: Architecture, plan: Plan, width: int) -> int:
    """Return how many numbers the backward pass needs at a tensor (tokens, width) in addition to saved tensors.

    These are two tensors of this size, or one and a dequantized matrix if that is larger.
    """
    unpacked = max(shape.matrix_sizes) if plan.method == "qlora" else 0
    return plan.tokens * width + max(plan.tokens * width, unpacked)


def predict(shape: Architecture, plan: Plan) -> MemoryLedger:
    """Return the ledger of one training step with Adam.

    Activations are those held when the backward pass begins. The peak occurs then, or in a recomputed block, or in
    the optimizer step (gradients, and temporary copies of the largest tensor).
    """
    shape = replace(shape, tied=shape.tied or plan.classes > 0)  # a new head replaces the output matrix
    sizes = trained_sizes(shape, plan)
    block, end = (plan.tokens * count(shape, plan) for count in (block_floats, end_floats))
    scores = 0 if plan.classes else shape.vocabulary
    if plan.checkpointed:
        held = plan.tokens * shape.hidden * shape.layers
        again = held + block + workspace(shape, plan, shape.inner)
        most = max(again, held + end + workspace(shape, plan, scores))
    else:
        held = shape.layers * block
        most = held + end + workspace(shape, plan, max(shape.inner, scores))
    weights, gradients = weight_bytes(shape, plan), plan.value_bytes * sum(sizes)
    optimizer = adam_bytes(sizes, plan.optimizer_bits)
    in_step = gradients + TEMPORARIES[plan.optimizer_bits] * 4 * max(sizes)
    peak = weights + optimizer + max(plan.value_bytes * most, in_step)
    return MemoryLedger(weights, gradients, optimizer, plan.value_bytes * (held + end), peak)
