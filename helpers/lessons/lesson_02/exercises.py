"""The exercises of lesson 02: freezing, the training step, the states of every layer, a schedule that counts passes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from transformers import BertConfig, BertModel

from helpers.checks import Wrong, attempted, exercise, expect, returned
from helpers.models import HeadClassifier, MeanPoolClassifier, blocks, freeze_all_but, mean_pool

STEPS = 6
RATE = 0.5
USUAL_MISTAKES: dict[str, dict[str, Any]] = {
    "clip the gradient to a norm of 1.0 between loss.backward() and optimizer.step()": {"max_norm": 1e9},
    "optimizer.step() comes before scheduler.step()": {"early": True},
    "optimizer.step() is missing: the weights did not change": {},
}


@exercise(
    "02.1",
    hints=[
        "`model.requires_grad_(False)` (with the underscore at the end) freezes every parameter of a module, and "
        "`module.requires_grad_(True)` makes the parameters of one part trainable again.",
        "The head is always trainable. `blocks(model.body)` behaves like a list: the last two blocks are "
        "`blocks(model.body)[-2:]`. Take care with 0: `[-0:]` is the whole list.",
        "model.requires_grad_(trainable_blocks is None)\n"
        "model.head.requires_grad_(True)\n"
        "if trainable_blocks:\n"
        "    for block in blocks(model.body)[-trainable_blocks:]:\n"
        "        block.requires_grad_(True)\n"
        "return model",
    ],
)
def freeze(answer: Callable) -> None:
    """answer(model, trainable_blocks): the model, with the right parameters trainable."""
    for count, before in ((None, True), (0, True), (1, True), (2, False), (None, False), (0, False)):
        torch.manual_seed(0)
        model, twin = (MeanPoolClassifier(_bert()) for _ in range(2))
        model.requires_grad_(before)  # what an earlier call has left
        found = returned(answer(model, count), "the model")
        if not isinstance(found, nn.Module):
            raise Wrong(f"it should return the model, not {type(found).__name__}")
        freeze_all_but(twin, count)
        for (name, got), wanted in zip(found.named_parameters(), twin.parameters(), strict=True):
            if got.requires_grad != wanted.requires_grad:
                words = "trainable" if wanted.requires_grad else "frozen"
                said = f"with trainable_blocks = {count} the parameter {name} should be {words}, and it is not"
                raise Wrong(said if before else f"{said}: the model was frozen when it came in")


@exercise(
    "02.2",
    hints=[
        "The order is: loss, backward pass, clip the gradient, update the weights, move the learning rate, clear the "
        "gradient. Each of these is one call.",
        "`model(**batch).loss` is the loss. `loss.backward()`, `nn.utils.clip_grad_norm_(model.parameters(), "
        "max_norm=1.0)`, `optimizer.step()`, `scheduler.step()` and `optimizer.zero_grad()` do the rest.",
        "loss = model(**batch).loss\n"
        "loss.backward()\n"
        "nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n"
        "optimizer.step()\n"
        "scheduler.step()\n"
        "optimizer.zero_grad()\n"
        "return loss.item()",
    ],
)
def training_step(answer: Callable) -> None:
    """answer(model, batch, optimizer, scheduler): one step of training; returns the loss as a number."""
    model, batches, optimizer, scheduler = _toy()
    twin, _, its_optimizer, its_scheduler = _toy()
    first = {words: _first_weights(**wrong) for words, wrong in USUAL_MISTAKES.items()}
    for step, batch in enumerate(batches, start=1):
        scheduled = scheduler.last_epoch
        loss = returned(answer(model, dict(batch), optimizer, scheduler), "the loss as a number")
        wanted = _one_step(twin, batch, its_optimizer, its_scheduler)
        if isinstance(loss, Tensor) and loss.requires_grad:
            raise Wrong(
                "it returns a tensor that still holds the graph of this step: return loss.item(), else a list of "
                "losses keeps the activations of every step in memory"
            )
        expect(f"the loss of step {step}", float(loss), wanted)
        if scheduler.last_epoch != scheduled + 1:
            raise Wrong(f"in step {step} the scheduler moved {scheduler.last_epoch - scheduled} times instead of once")
        if any(p.grad is not None and bool(p.grad.any()) for p in model.parameters()):
            raise Wrong(f"after step {step} the gradient is still there: the next backward pass would add to it")
        mistakes = first if step == 1 else {}
        expect(f"the head's weights after step {step}", model.head.weight, twin.head.weight, mistakes=mistakes)


@exercise(
    "02.3",
    hints=[
        "`body(..., output_hidden_states=True).hidden_states` is a tuple: the output of the embedding layer, then the "
        "output of each block.",
        "Each item has shape (batch, seq, hidden). Multiply it by the mask, sum over the tokens (dim=1), and divide by "
        "the number of real tokens.",
        "states = body(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states\n"
        "mask = attention_mask.unsqueeze(-1)\n"
        "return [(state * mask).sum(dim=1) / mask.sum(dim=1) for state in states]",
    ],
)
def layer_features(answer: Callable) -> None:
    """answer(body, input_ids, attention_mask): one (batch, hidden) tensor for the embedding layer and each block."""
    torch.manual_seed(0)
    body = _bert().eval()
    ids = torch.randint(5, 30, (3, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]])
    with torch.no_grad():
        states = body(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        got = returned(answer(body, ids, mask), "a list with one tensor per layer")
    if not isinstance(got, (list, tuple)):
        raise Wrong(f"it should be a list with one tensor per layer, not {type(got).__name__}")
    if len(got) != len(states):
        raise Wrong(
            f"the list has {len(got)} items, not {len(states)}: the embedding layer, then each of the "
            f"{len(states) - 1} blocks"
        )
    for layer, (one, state) in enumerate(zip(got, states, strict=True)):
        name = "the embedding layer" if layer == 0 else f"block {layer}"
        mistakes = {
            "the mean includes padding: multiply by the mask, and divide by its sum": state.mean(dim=1),
            "this is the sum: divide it by the number of real tokens": (state * mask.unsqueeze(-1)).sum(dim=1),
            "divide by the number of real tokens, not by the length of the padded row": (
                (state * mask.unsqueeze(-1)).mean(dim=1)
            ),
            "this is the first token's state: take the mean over the real tokens": state[:, 0],
        }
        expect(f"the features of {name}", attempted(one), mean_pool(state, mask), mistakes=mistakes)


@exercise(
    "02.4",
    hints=[
        "Follow the learning rate through the loop: which line changes it, and how often does that line run?",
        "A scheduler changes the optimizer's learning rate when its `step` is called. This schedule counts batches, "
        "and the loop calls it once for a whole pass.",
        "Move `scheduler.step()` into the loop, right after `optimizer.step()`.",
    ],
)
def stepped_schedule(answer: Callable) -> None:
    """answer(model, batches, optimizer, scheduler): trains and returns the learning rate of every step."""
    model, batches, optimizer, scheduler = _toy()
    start = model.head.weight.detach().clone()
    rates = returned(answer(model, batches, optimizer, scheduler), "the list of learning rates")
    if torch.equal(model.head.weight, start):
        raise Wrong("the weights did not change: are loss.backward() and optimizer.step() still there?")
    if scheduler.last_epoch == 0:
        raise Wrong("the learning rate is the same at every step: nothing tells the scheduler that a step has passed")
    if scheduler.last_epoch != STEPS:
        raise Wrong(f"the scheduler was stepped {scheduler.last_epoch} times in {STEPS} batches: it counts batches")
    wanted = [RATE * (1 - step / STEPS) for step in range(STEPS)]
    note = " (note the rate before the step that uses it, and step the scheduler after the optimizer)"
    expect("the learning rate of each step", list(rates), wanted, note=note)
    twin, batches, optimizer, scheduler = _toy()
    for batch in batches:
        twin(**batch).loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    expect("the trained weights", model.head.weight, twin.head.weight)


def _bert() -> BertModel:
    """A small encoder of three blocks with random weights."""
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    body = BertModel(config, add_pooling_layer=False)
    assert len(blocks(body)) == 3
    return body


def _toy() -> tuple[HeadClassifier, list[dict[str, Tensor]], SGD, LambdaLR]:
    """A head on random features, six batches, and a rate that falls linearly to zero; gradient norms exceed 1."""
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(4, 2)
    with torch.no_grad():
        head.weight.copy_(torch.randn(2, 4, generator=generator))
        head.bias.zero_()
    features = 5 * torch.randn(STEPS, 8, 4, generator=generator)
    batches = [{"features": batch, "labels": (batch.sum(dim=1) > 0).long()} for batch in features]
    made = SGD(head.parameters(), lr=RATE)
    return HeadClassifier(head), batches, made, LambdaLR(made, lambda step: 1 - step / STEPS)


def _one_step(
    model: nn.Module,
    batch: dict[str, Tensor],
    optimizer: SGD,
    scheduler: LambdaLR,
    max_norm: float = 1.0,
    early: bool = False,
) -> float:
    """One step of training; returns the loss. early: move the learning rate before the update, which is a mistake."""
    loss = model(**batch).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    if early:
        scheduler.step()
    optimizer.step()
    if not early:
        scheduler.step()
    optimizer.zero_grad()
    return loss.item()


def _first_weights(**wrong: Any) -> Tensor:
    """The head's weights after a first step with a mistake in it."""
    model, batches, optimizer, scheduler = _toy()
    if not wrong:
        return model.head.weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a schedule that moves first; here it is planted
        _one_step(model, batches[0], optimizer, scheduler, **wrong)
    return model.head.weight
