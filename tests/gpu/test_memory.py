"""The memory ledger on a GPU: the formula against `torch.cuda.max_memory_allocated`."""

from __future__ import annotations

import pytest
import torch

from helpers import qlora
from helpers.memory.architecture import Architecture
from helpers.memory.measurement import allocator_peak, measure
from helpers.memory.prediction import Plan, predict
from helpers.runtime import seed_everything

pytestmark = pytest.mark.gpu
WORKSPACE = 64 * 2**20  # what cuBLAS keeps for itself, on top of any model


def test_the_peak_is_cudas_own(device):
    def work() -> None:
        held = torch.empty(2**20, device=device)  # four bytes each
        del held

    assert allocator_peak(work, device) == 4 * 2**20


@pytest.mark.parametrize("method", qlora.METHODS)
def test_the_ledger_holds_on_the_gpu(device, method):
    seed_everything(0)
    model = qlora.classifier(method, "pocket", num_labels=2, rank=8, device=device)
    plan = Plan(method, batch=16, length=64, rank=8, classes=2)
    ids = torch.randint(10, 4000, (16, 64), generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.zeros(16, dtype=torch.long, device=device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    wanted, found = predict(Architecture.of(model.config), plan), measure(model, batch, optimizer)
    for part in wanted.PARTS[:3]:  # numbers that are only counted
        assert getattr(found, part) == pytest.approx(getattr(wanted, part), rel=0.1), part
    # Other attention kernels keep other things than the CPU's.
    assert found.activations == pytest.approx(wanted.activations, rel=0.3)
    assert wanted.peak * 0.7 < found.peak < wanted.peak * 1.3 + WORKSPACE
