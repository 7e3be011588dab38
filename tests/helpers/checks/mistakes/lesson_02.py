"""Answers to the exercises of lesson 02: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

from torch import nn

from helpers.models import blocks, freeze_all_but


def frozen(*, last=True, attribute=False, head=True, returns=True):
    """The answer to exercise 02.1 with one thing done wrongly."""

    def freeze(model, trainable_blocks):
        if attribute:
            model.requires_grad = trainable_blocks is None  # sets an attribute of the module and freezes nothing
            return model
        freeze_all_but(model, trainable_blocks)
        if trainable_blocks and not last:
            for block in blocks(model.body):
                block.requires_grad_(False)
            for block in blocks(model.body)[:trainable_blocks]:
                block.requires_grad_(True)
        if not head and trainable_blocks is not None:
            model.head.requires_grad_(False)
        return model if returns else None

    return freeze


def all_at_zero(model, trainable_blocks):
    model.requires_grad_(trainable_blocks is None)
    model.head.requires_grad_(True)
    if trainable_blocks is not None:
        for block in blocks(model.body)[-trainable_blocks:]:
            block.requires_grad_(True)
    return model


def untouched_at_none(model, trainable_blocks):
    return model if trainable_blocks is None else freeze_all_but(model, trainable_blocks)


def step(*, clip=True, update=True, schedule="after", clear=True, number=True, twice=False):
    """The answer to exercise 02.2 with one thing done wrongly."""

    def training_step(model, batch, optimizer, scheduler):
        loss = model(**batch).loss
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        if schedule == "before":
            scheduler.step()
        if update:
            optimizer.step()
        if schedule == "after":
            scheduler.step()
        if twice:
            scheduler.step()
        if clear:
            optimizer.zero_grad()
        return loss.item() if number else loss

    return training_step


def features(of=lambda state, mask: (state * mask).sum(dim=1) / mask.sum(dim=1), first=0):
    """The answer to exercise 02.3; `of` pools one layer, and the layers before `first` are left out."""

    def layer_features(body, input_ids, attention_mask):
        states = body(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states
        return [of(state, attention_mask.unsqueeze(-1)) for state in states[first:]]

    return layer_features


def loop(*, step_scheduler="each", order="after", step_optimizer=True, clear=True, returns=True):
    """The loop of exercise 02.4 with one thing done wrongly."""

    def train(model, batches, optimizer, scheduler):
        rates = []
        for batch in batches:
            if order == "before":
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
            model(**batch).loss.backward()
            if step_optimizer:
                optimizer.step()
            if order == "after" and step_scheduler == "each":
                scheduler.step()
            if clear:
                optimizer.zero_grad()
        if step_scheduler == "once":
            scheduler.step()
        return rates if returns else None

    return train


RIGHT = {"02.1": freeze_all_but, "02.2": step(), "02.3": features(), "02.4": loop()}

MISTAKES = [
    ("02.1", frozen(attribute=True), r"trainable_blocks = 0 the parameter body.embeddings.* should be frozen"),
    ("02.1", all_at_zero, r"trainable_blocks = 0 the parameter body.encoder.layer.0.* should be frozen"),
    ("02.1", untouched_at_none, "trainable_blocks = None .*should be trainable.*frozen when it came in"),
    ("02.1", frozen(last=False), r"trainable_blocks = 1 the parameter body.encoder.layer.0.* should be frozen"),
    ("02.1", frozen(head=False), r"trainable_blocks = 0 the parameter head.weight should be trainable"),
    ("02.1", frozen(returns=False), "returns None"),
    ("02.2", step(clip=False), r"after step 1 at \[0, 0\] .*clip the gradient to a norm of 1.0"),
    ("02.2", step(update=False), "optimizer.step\\(\\) is missing"),
    ("02.2", step(schedule="before"), "optimizer.step\\(\\) comes before"),
    ("02.2", step(schedule="never"), "scheduler moved 0 times"),
    ("02.2", step(twice=True), "scheduler moved 2 times"),
    ("02.2", step(clear=False), "gradient is still there"),
    ("02.2", step(number=False), "loss.item"),
    ("02.3", features(lambda state, _: state.mean(dim=1)), "the mean includes padding"),
    ("02.3", features(lambda state, mask: (state * mask).sum(dim=1)), "this is the sum"),
    ("02.3", features(lambda state, mask: (state * mask).mean(dim=1)), "length of the padded row"),
    ("02.3", features(lambda state, _: state[:, 0]), "first token's state"),
    ("02.3", features(first=1), "3 items, not 4"),
    ("02.4", loop(step_scheduler="never"), "same at every step"),
    ("02.4", loop(step_scheduler="once"), "stepped 1 times in 6 batches"),
    ("02.4", loop(order="before"), "step the scheduler after the optimizer"),
    ("02.4", loop(step_optimizer=False), "weights did not change"),
    ("02.4", loop(clear=False), "trained weights"),
    ("02.4", loop(returns=False), "returns None"),
]
