"""bfloat16 where the device has it: as good a loss, and no other weights than float32 ones."""

from __future__ import annotations

import pytest
import torch

from helpers import catalog
from helpers.memory.microbatches import MicrobatchPlan, free_bytes, plan_microbatches
from helpers.runtime import seed_everything, start
from helpers.training import half_precision, has_bfloat16, train

pytestmark = pytest.mark.gpu


def a_batch(rows: int = 16, length: int = 32) -> dict[str, torch.Tensor]:
    ids = torch.randint(10, 4000, (rows, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(rows) % 2}


def losses(device: str, halved: bool) -> list[float]:
    seed_everything(0)
    model = catalog.classifier("pocket").to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    if not halved:
        return train(model, [a_batch()], optimizer, epochs=8).losses
    with half_precision(torch.device(device)):
        return train(model, [a_batch()], optimizer, epochs=8).losses


def test_a_lesson_takes_the_device_that_is_there(device):
    assert start(track="pocket", budget="quick", seed=0).device == device


def test_bfloat16_is_used_only_where_it_exists(device):
    there = torch.device(device)
    assert has_bfloat16(there) == torch.cuda.is_bf16_supported()
    with half_precision(there):
        product = torch.ones(4, 4, device=device) @ torch.ones(4, 4, device=device)
    assert product.dtype == (torch.bfloat16 if has_bfloat16(there) else torch.float32)


def test_halved_precision_learns_the_same(device):
    full, halved = losses(device, halved=False), losses(device, halved=True)
    assert full[-1] < full[0]
    assert halved == pytest.approx(full, abs=0.05)


def test_the_gpu_gives_the_losses_of_the_cpu(device):
    assert losses(device, halved=False) == pytest.approx(losses("cpu", halved=False), abs=2e-3)


def test_the_memory_that_is_free_is_the_devices(device):
    assert free_bytes(device) == torch.cuda.mem_get_info()[0]
    model = catalog.classifier("pocket").to(device)
    assert plan_microbatches(model, {name: value.to(device) for name, value in a_batch().items()}) == MicrobatchPlan()
