"""The memory ledger by formula: weights, gradients, optimizer states, activations, and the most at any one time.

A number that is trained with Adam costs its weight, its gradient and two states. Activations are what the backward
pass needs from the forward pass. Source of the parts: Dettmers et al. 2023, "QLoRA", sections 2 and 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from helpers.memory.architecture import Architecture
from helpers.runtime import check_number, choose

METHODS = ("full", "lora", "qlora")
BLOCK = 64  # weights that share a scale
OUTER_BLOCK = 256  # scales that share a scale of scales
SMALL = 4096  # bitsandbytes keeps 32-bit states for tensors with fewer numbers
STATE_BLOCK = 256  # 8-bit states that share a scale
TEMPORARIES = {32: 2, 8: 5}  # float32 copies during a step on a CPU; 8-bit states are unpacked there


@dataclass(frozen=True)
class Plan:
    """How a model is to be trained.

    classes: of a new head that is trained in full; 0 means predicting the next token.
    value_bytes: of a weight that is not quantized, a gradient, an activation: 4 (float32) or 2 (bfloat16).
    checkpointed: keep only the input of every block, and compute the rest again in the backward pass.
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
    """Bytes of each part, and of the most that is held at any one time."""

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
    """A matrix in NF4 with double quantization: codes, scales of one byte, scales of scales, and what reads them.

    The last are the 16 levels of NF4, the 256 levels of the scales, and the scales' mean: 1,092 bytes for each matrix,
    much for a small one.
    """
    scales = math.ceil(numbers / BLOCK)
    tables = 4 * (16 + 256 + 1)
    return math.ceil(numbers / 2) + scales + 4 * math.ceil(scales / OUTER_BLOCK) + tables


def adam_bytes(sizes: list[int], bits: int = 32) -> int:
    """Adam's two running means for tensors of these sizes; 8-bit states come in blocks with a scale each.

    Raises:
        UserError: when bits is neither 32 nor 8.
    """
    choose("optimizer_bits", str(bits), ("32", "8"))
    if bits == 32:
        return sum(8 * size + 4 for size in sizes)  # and the number of steps so far
    large = [size for size in sizes if size >= SMALL]
    shared_tables = 2 * 4 * 256 if large else 0
    compact = sum(2 * size + 2 * 4 * math.ceil(size / STATE_BLOCK) for size in large)
    return compact + shared_tables + sum(8 * size for size in sizes if size < SMALL)


def adapter_sizes(shape: Architecture, rank: int) -> list[int]:
    """The numbers in every A and B when all matrices of all blocks get an adapter."""
    return [rank * side for pair in shape.matrices for side in pair] * shape.layers


def trained_sizes(shape: Architecture, plan: Plan) -> list[int]:
    """The numbers in every tensor that the optimizer may change."""
    head = [shape.hidden * plan.classes, plan.classes] if plan.classes else []
    if plan.method == "full":
        return shape.matrix_sizes + shape.other_sizes + head
    return adapter_sizes(shape, plan.rank) + head


def weight_bytes(shape: Architecture, plan: Plan) -> int:
    """All weights, adapters and a new head included."""
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
    """What one block keeps of one token for the backward pass, in numbers."""
    full = plan.method == "full"
    attention = 2 * (shape.queries + shape.keys) + shape.heads  # queries, keys, values, their mix; one sum per head
    if shape.attention_dropout:  # no fused kernel on a CPU then: the shares, what is dropped of them, what is left
        attention += (3 * plan.length - 1) * shape.heads
    elif shape.family == "gpt2":  # queries hold the tensor of all three; the library's cache copies the other two
        attention += 2 * shape.keys
    if shape.head_norms:  # what went in and one root for each head; twice as much where the scales are trained
        heads = shape.heads * (shape.queries + shape.keys) // shape.queries
        attention += (2 if full else 1) * (shape.queries + shape.keys) + heads
    inputs = 2 * shape.hidden  # of the matrices behind the two normalisations: a gradient of W or A needs them
    thin = 0 if full else plan.rank * len(shape.matrices)  # the input of B
    dropped = shape.dropout * shape.hidden
    if shape.family == "llama":
        norms = (4 if full else 2) * shape.hidden + 2  # twice as much where the norms' own scales are trained
        inner = (shape.activation + 2) * shape.inner  # the gate's activation, up, their product
    else:
        norms, inner = 2 * shape.hidden + 4, shape.activation * shape.inner
    return attention + inputs + thin + dropped + norms + inner


def end_floats(shape: Architecture, plan: Plan) -> int:
    """What is kept of one token outside the blocks: around the embeddings, the last norm, the scores."""
    full = plan.method == "full"
    # The scores and what they are made of; a new head needs only the mask of the mean over the tokens.
    scores = 1 if plan.classes else shape.vocabulary + full * shape.hidden
    # Frozen embeddings need nothing, unless checkpointing makes the library ask for their gradient.
    embedded = full or plan.checkpointed
    if shape.family == "llama":
        # With frozen norms the last one needs its input, and the first one, which belongs to a block, does not.
        return scores + (2 * shape.hidden + 1 if full else (shape.hidden + 1) * plan.checkpointed)
    dropped = shape.hidden * (shape.dropout > 0)
    return scores + (shape.hidden + 2 + dropped) * embedded


def workspace(shape: Architecture, plan: Plan, width: int) -> int:
    """What the gradient needs on its way back past a tensor (tokens, width): two of it, or one and an unpacked matrix.

    In numbers.
    """
    unpacked = max(shape.matrix_sizes) if plan.method == "qlora" else 0
    return plan.tokens * width + max(plan.tokens * width, unpacked)


def predict(shape: Architecture, plan: Plan) -> MemoryLedger:
    """The ledger of one training step with Adam.

    Activations are those held when the backward pass begins. The peak is there, or in a block that is computed again,
    or in the optimizer's step (gradients, and temporaries of the largest tensor).
    """
    shape = replace(shape, tied=shape.tied or plan.classes > 0)  # a new head takes the output matrix's place
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
