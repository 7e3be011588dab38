"""bitsandbytes on a GPU: our codes are its codes, its products are ours, and its paged optimizers learn."""

from __future__ import annotations

import bitsandbytes as bnb
import pytest
import torch
from torch import nn

from helpers import catalog, qlora
from helpers.quantization.four_bit import FourBitLinear
from helpers.quantization.packing import pack
from helpers.quantization.quantizers import fp4_code, nf4_code, to_code_book
from helpers.runtime import seed_everything

pytestmark = pytest.mark.gpu
CODES = {"nf4": nf4_code, "fp4": fp4_code}


@pytest.mark.parametrize("kind", CODES)
def test_our_codes_are_theirs(device, kind):
    weights = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    codes, scale = to_code_book(weights, CODES[kind](), 64)
    packed, state = bnb.functional.quantize_4bit(weights.to(device), blocksize=64, quant_type=kind)
    assert torch.equal(scale.flatten().float(), state.absmax.cpu().flatten())
    # A value halfway between two levels may go to either.
    assert (pack(codes, bits=4).flatten() != packed.cpu().flatten()).double().mean() < 0.001


def test_a_four_bit_layer_and_its_gradient(device):
    torch.manual_seed(0)
    base = nn.Linear(128, 64)
    theirs = bnb.nn.Linear4bit(128, 64, compute_dtype=torch.float32, compress_statistics=True, quant_type="nf4")
    theirs.load_state_dict(base.state_dict())
    theirs = theirs.to(device)
    inputs = [torch.randn(8, 128, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    ours_in, theirs_in = inputs[0].requires_grad_(), inputs[1].to(device).requires_grad_()
    ours_out, theirs_out = FourBitLinear(base)(ours_in), theirs(theirs_in)
    torch.testing.assert_close(theirs_out.cpu(), ours_out, atol=1e-3, rtol=1e-3)
    ours_out.sum().backward()
    theirs_out.sum().backward()
    torch.testing.assert_close(theirs_in.grad.cpu(), ours_in.grad, atol=1e-3, rtol=1e-3)


def step_losses(device: str, kind: type[torch.optim.Optimizer], method: str, steps: int = 12) -> list[float]:
    seed_everything(0)
    model = qlora.classifier(method, "pocket", num_labels=2, rank=4, device=device).train()
    optimizer = kind([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    ids = torch.randint(10, 4000, (16, 32), generator=torch.Generator().manual_seed(0)).to(device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(16, device=device) % 2}
    found = []
    for _ in range(steps):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("method", ["full", "qlora"])
@pytest.mark.parametrize("name", ["AdamW8bit", "PagedAdamW", "PagedAdamW8bit", "PagedAdamW32bit"])
def test_eight_bit_and_paged_optimizers_learn(device, name, method):
    plain = step_losses(device, torch.optim.AdamW, method)
    found = step_losses(device, getattr(bnb.optim, name), method)
    assert found[-1] < found[0]
    assert found[-1] == pytest.approx(plain[-1], abs=0.15)


def test_a_paged_optimizer_keeps_large_states_where_they_can_move(device):
    weight = nn.Parameter(torch.randn(1024, 1024, device=device))
    optimizer = bnb.optim.PagedAdamW8bit([weight], lr=1e-3)
    weight.square().mean().backward()
    optimizer.step()
    assert getattr(optimizer.state[weight]["state1"], "is_paged", False)


def test_a_model_in_four_bits_lies_on_the_gpu(device):
    from transformers import AutoModelForCausalLM

    source = catalog.model_source("decoder", "pocket")
    model = qlora.load_four_bit(AutoModelForCausalLM, source, device)
    assert {p.device.type for p in model.parameters()} == {device}
    ids = torch.arange(10, 30, device=device).unsqueeze(0)
    wide = catalog.causal_language_model("pocket").to(device).eval()
    with torch.inference_mode():
        near, exact = (one(input_ids=ids, labels=ids).loss.item() for one in (model.eval(), wide))
    assert near == pytest.approx(exact, rel=0.2)
