"""The loop against one written out, what it costs, and a stop when it diverges."""

from __future__ import annotations

import math
import time

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments, get_linear_schedule_with_warmup

from helpers import catalog
from helpers.batches import TokenizedReviews, length_batches, pad
from helpers.cost import PeakMemory, Stopwatch
from helpers.models import HeadClassifier, MeanPoolClassifier, freeze_all_but
from helpers.runtime import UserError
from helpers.training import (
    History,
    decay_groups,
    train,
    trainable_parameters,
    warmup_linear,
)


class Padding:
    pad_token_id = 0


def toy(seed: int = 0) -> tuple[HeadClassifier, list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    features = torch.randn(5, 8, 3, generator=generator)
    batches = [{"features": batch, "labels": (batch[:, 0] > 0).long()} for batch in features]
    return HeadClassifier(nn.Linear(3, 2)), batches


def test_the_loop_equals_one_written_out():
    model, batches = toy()
    twin, _ = toy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    history = train(model, batches, optimizer, warmup_linear(optimizer, 10), epochs=2)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.1)
    scheduler = get_linear_schedule_with_warmup(optimizer, 1, 10)
    losses = []
    for batch in batches * 2:
        loss = nn.functional.cross_entropy(twin.head(batch["features"]), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    assert history.losses == losses
    assert torch.equal(model.head.weight, twin.head.weight)
    assert history.losses[-1] < history.losses[0] and history.seconds > 0


def test_a_frozen_parameter_does_not_move():
    model, batches = toy()
    model.head.bias.requires_grad_(False)
    bias, weight = model.head.bias.clone(), model.head.weight.clone()
    train(model, batches, torch.optim.AdamW(model.parameters(), lr=0.1))
    assert torch.equal(model.head.bias, bias) and not torch.equal(model.head.weight, weight)


def test_large_gradients_are_clipped():
    model, batches = toy()
    before = model.head.weight.detach().clone()
    huge = [{"features": batches[0]["features"] * 1e6, "labels": 1 - batches[0]["labels"]}]
    train(model, huge, torch.optim.SGD(model.parameters(), lr=1.0), max_grad_norm=0.5)
    assert (model.head.weight - before).norm() <= 0.5 + 1e-4


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_in_one_sentence_before_the_weights_are_spoilt(poison):
    model, batches = toy()
    batches[2]["features"][0, 0] = poison
    with pytest.raises(UserError, match=r"The loss became (nan|inf) at step 3.*lower learning rate"):
        train(model, batches, torch.optim.AdamW(model.parameters(), lr=0.1))
    assert torch.isfinite(model.head.weight).all()


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epochs_are_refused(epochs):
    model, batches = toy()
    with pytest.raises(UserError, match="at least 1"):
        train(model, batches, torch.optim.AdamW(model.parameters()), epochs=epochs)


def test_the_schedule_is_the_librarys():
    def rates(schedule):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
        scheduler = schedule(optimizer)
        found = []
        for _ in range(37):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    ours = rates(lambda optimizer: warmup_linear(optimizer, 37, 0.1))
    assert ours == rates(lambda optimizer: get_linear_schedule_with_warmup(optimizer, 4, 37))
    assert max(ours) == 0.3


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_weight_decay_pulls_what_trainer_lets_it_pull(role, tmp_path):
    model = catalog.body(role, "pocket")
    trainer = Trainer(model, TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"))
    theirs = {id(model.get_parameter(name)) for name in trainer.get_decay_parameter_names(model)}
    pulled, spared = decay_groups(model, 0.1)
    assert {id(parameter) for parameter in pulled["params"]} == theirs
    assert len(pulled["params"]) + len(spared["params"]) == len(list(model.parameters()))
    assert (pulled["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_parameters_are_counted_when_they_may_move():
    model, _ = toy()
    assert trainable_parameters(model) == 3 * 2 + 2
    model.head.bias.requires_grad_(False)
    assert trainable_parameters(model) == 6


def test_the_mean_of_the_last_losses():
    assert History([9.0, 1.0, 2.0]).mean_loss(last=2) == 1.5


def test_the_stopwatch_sees_time_pass():
    with Stopwatch() as watch:
        time.sleep(0.02)
    assert 0.02 <= watch.seconds < 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the allocator's own peak is read")
def test_peak_memory_sees_a_block_that_is_gone_again():
    size = 80_000_000
    with PeakMemory() as memory:
        block = torch.ones(size // 4)
        time.sleep(0.05)
        del block
    assert 0.8 * size < memory.added < 2 * size


def test_peak_memory_ends_its_thread_when_the_block_fails():
    memory = PeakMemory()
    with pytest.raises(ZeroDivisionError), memory:
        _ = 1 / 0
    assert torch.cuda.is_available() or not memory._thread.is_alive()


def test_the_progress_bar_honours_its_switch(monkeypatch, capsys):
    model, batches = toy()
    monkeypatch.setenv("TQDM_DISABLE", "1")
    train(model, batches, torch.optim.AdamW(model.parameters()))
    assert capsys.readouterr().err == ""


def test_training_only_the_last_block_lowers_the_loss():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    model = freeze_all_but(MeanPoolClassifier(BertModel(config, add_pooling_layer=False)), 1)
    rows = TokenizedReviews([[5 + row % 2, 7, 8] for row in range(16)], [row % 2 for row in range(16)])
    free = [p for p in model.parameters() if p.requires_grad]
    history = train(model, length_batches(rows, pad(Padding()), 8), torch.optim.AdamW(free, lr=5e-3), epochs=12)
    assert history.losses[-1] < 0.5 * history.losses[0]
