"""The exercises of lesson 07: counting adapters, joining a soft prompt, and an adapter that starts as the identity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.adapters import BottleneckAdapter
from helpers.checks import Wrong, attempted, exercise, expect, expect_calls, parts_of


@exercise(
    "07.1",
    hints=[
        "Count one adapter first: a layer from `hidden` to `size` and one back, each with a bias.",
        "`down` has hidden * size weights and size biases; `up` has size * hidden weights and hidden biases. Every "
        "block holds two adapters.",
        "return blocks * 2 * (2 * hidden * size + size + hidden)",
    ],
)
def adapter_parameters(answer: Callable) -> None:
    """answer(hidden, size, blocks): what two adapters in each block add; real adapters are counted beside it."""
    cases = [
        ((hidden, size, blocks), blocks * 2 * sum(one.numel() for one in BottleneckAdapter(hidden, size).parameters()))
        for hidden, size, blocks in ((8, 2, 1), (128, 16, 4), (64, 1, 3))
    ]
    expect_calls(answer, "adapter_parameters", cases)


@exercise(
    "07.2",
    hints=[
        "The prompt is the same for every text of the batch, and it comes first. What does the mask say about it?",
        "prompt.expand(len(words), -1, -1) repeats it for the batch; torch.cat joins along the words (dim=1). The mask "
        "gets as many ones in front as the prompt has vectors.",
        "return torch.cat([prompt.expand(len(words), -1, -1), words], dim=1), nn.functional.pad(attention_mask, "
        "(len(prompt), 0), value=1)",
    ],
)
def joined(answer: Callable) -> None:
    """answer(prompt, words, attention_mask): the joined vectors and their mask."""
    draws = torch.Generator().manual_seed(0)
    for rows, length, seq, hidden in ((2, 3, 4, 5), (1, 1, 2, 2), (3, 4, 1, 6)):
        prompt = torch.randn(length, hidden, generator=draws)
        words = torch.randn(rows, seq, hidden, generator=draws)
        mask = torch.ones(rows, seq, dtype=torch.long)
        mask[0, seq // 2 :] = 0
        wanted = "it should return two tensors, the vectors and their mask"
        vectors, got_mask = parts_of(answer(prompt, words, mask), 2, wanted)
        if isinstance(got_mask, Tensor) and got_mask.shape == mask.shape:
            raise Wrong("the mask still has one number per word: the prompt's vectors need theirs")
        expect("the joined vectors", vectors, torch.cat([torch.stack([prompt] * rows), words], dim=1))
        expect("the mask", got_mask, torch.cat([torch.ones(rows, length, dtype=torch.long), mask], dim=1))


@exercise(
    "07.3",
    hints=[
        "What does the faulty adapter give for an input of zeros? And what should it give?",
        "It adds up(...) to its input. For that to be nothing at the start, every number of `up` has to be 0: the "
        "weights are; what else does a linear layer have? (And leave `down` as it is: two layers of zeros would pass "
        "no gradient on.)",
        "adapter = FaultyAdapter(hidden, size); nn.init.zeros_(adapter.up.bias); return adapter",
    ],
)
def starts_as_the_identity(answer: Callable) -> None:
    """answer(hidden, size): an adapter that gives its input back at the start, and can learn."""
    torch.manual_seed(0)
    adapter = attempted(answer(8, 3))
    if not isinstance(adapter, nn.Module):
        raise Wrong(f"it should return the adapter, an nn.Module, not {type(adapter).__name__}")
    x = torch.randn(2, 5, 8)
    expect("what it gives for x before the first step", adapter(x), x, note=" (it should be x itself)")
    parameters = dict(adapter.named_parameters())
    if not parameters:
        raise Wrong("it has no parameters, so it can learn nothing")
    # Two steps towards a random target have to move every weight.
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    target, optimizer = torch.randn(2, 5, 8), torch.optim.SGD(parameters.values(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (adapter(x) - target).square().sum().backward()
        optimizer.step()
    for name, parameter in parameters.items():
        if torch.equal(parameter, start[name]):
            still = f"after two steps {name} has not moved"
            raise Wrong(f"it starts as the identity, but {still}: does a gradient reach it?")
