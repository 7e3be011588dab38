"""helpers.qlora: a 4-bit layer by hand is the library's, and the recipe trains what it should."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from helpers import qlora
from helpers.batches import TokenizedReviews
from helpers.memory.measurement import saved_bytes
from helpers.memory.microbatches import MicrobatchPlan
from helpers.models import MeanPoolClassifier
from helpers.quantization.four_bit import FourBitLinear, QLoRALinear
from helpers.runtime import UserError


class Tiny(nn.Module):
    """One linear layer, for `peft` to find."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def library_layer(base: nn.Linear) -> nn.Module:
    import bitsandbytes as bnb

    bias = base.bias is not None
    layer = bnb.nn.Linear4bit(
        base.in_features, base.out_features, bias, compute_dtype=torch.float32, quant_type="nf4"
    )  # double quantization is its default
    layer.load_state_dict(base.state_dict())
    return qlora.keep_packing(layer.to("cpu"))


def both(inputs: int, outputs: int, bias: bool = True) -> tuple[nn.Module, nn.Module]:
    """The same 4-bit layer with the same LoRA branch: by hand, and by bitsandbytes and peft."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = nn.Linear(inputs, outputs, bias)
    ours = QLoRALinear(FourBitLinear(base), rank=4, alpha=8)
    theirs = get_peft_model(Tiny(library_layer(base)), LoraConfig(r=4, lora_alpha=8, target_modules=["layer"]))
    found = theirs.base_model.model.layer
    with torch.no_grad():
        ours.lora_B.normal_()
        found.lora_A["default"].weight.copy_(ours.lora_A)
        found.lora_B["default"].weight.copy_(ours.lora_B)
    return ours, found


@pytest.mark.parametrize(("inputs", "outputs", "bias"), [(128, 512, True), (512, 128, True), (192, 192, False)])
def test_forward_and_gradients_equal_the_librarys(inputs, outputs, bias):
    ours, theirs = both(inputs, outputs, bias)
    x, direction = torch.randn(3, 5, inputs, requires_grad=True), torch.randn(3, 5, outputs) / outputs
    values, gradients = [], []
    for layer, trained in (
        (ours, [ours.lora_A, ours.lora_B]),
        (theirs, [theirs.lora_A["default"].weight, theirs.lora_B["default"].weight]),
    ):
        values.append(layer(x))
        gradients.append(torch.autograd.grad((values[-1] * direction).sum(), [x, *trained]))
    assert (values[0] - values[1]).abs().max() < 1e-6 * values[1].abs().max()
    for one, other in zip(*gradients, strict=True):
        assert (one - other).abs().max() < 1e-6 * max(1.0, other.abs().max())


def test_the_weight_is_never_kept_unpacked():
    base = FourBitLinear(nn.Linear(128, 512))
    layer = QLoRALinear(base, rank=4, alpha=8)
    x = torch.randn(4, 128, requires_grad=True)
    assert saved_bytes(layer, lambda: layer(x).sum())[1] == 4 * 4 * (128 + 4)  # x, and what B reads
    assert saved_bytes(base, lambda: base(x).sum())[1] == 128 * 512 * 4


def test_an_evaluation_in_between_changes_nothing():
    """Without `keep_packing`, on a CPU with bfloat16, this evaluation would cut the gradient."""
    layer = library_layer(nn.Linear(128, 64, bias=False))
    x = torch.randn(4, 128, requires_grad=True)
    before = torch.autograd.grad(layer(x).sum(), x)[0]
    layer.eval()
    with torch.inference_mode():
        layer(x.detach())
    layer.train()
    assert torch.equal(torch.autograd.grad(layer(x).sum(), x)[0], before)


def test_only_that_notice_is_dropped(caplog):
    qlora.drop_two_notices()
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    with caplog.at_level(logging.WARNING, logger=logger.name):
        logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "no such module")
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_only_that_warning_is_dropped(recwarn):
    qlora.drop_two_notices()
    warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed", FutureWarning, stacklevel=1)
    warnings.warn("something else is deprecated", FutureWarning, stacklevel=1)
    assert [str(found.message) for found in recwarn] == ["something else is deprecated"]


def test_an_unknown_method_is_said():
    with pytest.raises(UserError, match='Did you mean "qlora"'):
        qlora.classifier("qlorra", "pocket")


@pytest.mark.parametrize("rank", [0, -1, 9, 2.0])
def test_an_impossible_rank_is_said(rank):
    with pytest.raises(UserError, match=f"rank is {rank}"):
        qlora.with_lora(nn.Sequential(nn.Linear(16, 8)), rank)


@pytest.mark.parametrize("method", qlora.METHODS)
def test_the_recipe_trains_what_it_should_and_no_more(method):
    from helpers import catalog
    from helpers.batches import pad

    torch.manual_seed(0)
    model = qlora.classifier(method, "pocket")
    assert isinstance(model, MeanPoolClassifier)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    rows = TokenizedReviews([[5 + i, 6, 7] for i in range(32)], [i % 2 for i in range(32)])
    collate = pad(catalog.tokenizer("encoder", "pocket"))
    assert qlora.fit(model, rows, collate, learning_rate=1e-2, epochs=1) > 0
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert "head.weight" in moved
    if method == "full":
        assert "body.encoder.layer.0.attention.self.query.weight" in moved
    else:
        assert all("lora_" in name or name.startswith("head.") for name in moved)
        assert any("layer.0" in name and "lora_B" in name for name in moved)  # the gradient came all the way down


@pytest.mark.slow
def test_where_memory_is_short_the_trainer_takes_parts_and_learns_the_same(monkeypatch):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=30, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes)
    rows = TokenizedReviews([[row % 29 + 1, 5, 6] for row in range(2 * qlora.BATCH_SIZE)], [0, 1] * qlora.BATCH_SIZE)
    widths, learned = [], {}

    def collate(some):
        widths.append(len(some))
        ids = torch.tensor([row["input_ids"] for row in some])
        labels = torch.tensor([row["labels"] for row in some])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    for way in (MicrobatchPlan(), MicrobatchPlan(4, checkpointed=True)):
        monkeypatch.setattr(qlora, "plan_microbatches", lambda *_, way=way: way)
        torch.manual_seed(0)
        model = MeanPoolClassifier(BertModel(config, add_pooling_layer=False))
        qlora.fit(model, rows, collate, learning_rate=1e-2, epochs=1)
        learned[way] = model.head.weight.detach().clone()
    assert {qlora.BATCH_SIZE, qlora.BATCH_SIZE // 4} == set(widths)
    torch.testing.assert_close(
        learned[MicrobatchPlan()], learned[MicrobatchPlan(4, checkpointed=True)], atol=1e-4, rtol=1e-3
    )


WIDTHS = [32, 64, 80, 96, 128, 312]  # 312: what TinyBERT has; no multiple of 16, so no AVX-512 code takes it


def scales_counted_by_row(columns: int) -> bool:
    """The round trip of `qlora.unpacks_rightly` as bitsandbytes' AVX-512 code does it (0.50.2)."""
    scales = torch.arange(1.0, columns + 1)
    row, column = torch.arange(qlora.BLOCK)[:, None], torch.arange(columns)[None, :]
    packed = scales[(row * columns + column) // qlora.BLOCK]
    if columns % 16:
        return True  # it leaves such rows to the plain code
    return torch.equal(scales[row * (columns // qlora.BLOCK) + column // qlora.BLOCK], packed)


def test_the_round_trip_shows_what_avx512_code_gets_wrong():
    assert [width for width in WIDTHS if not scales_counted_by_row(width)] == [32, 80, 96]


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_are_refused_only_where_they_come_back_wrong(width):
    body = Tiny(nn.Linear(width, 128))
    qlora.check_rows(body, round_trip=lambda columns: True)
    with pytest.raises(UserError, match=rf"rows of {width} weights. With this processor's .*multiple of 64 wide"):
        qlora.check_rows(body, round_trip=lambda columns: False)
    qlora.check_rows(body, "cuda", round_trip=lambda columns: False)


def test_the_first_wrong_width_is_named():
    body = nn.Sequential(nn.Linear(128, 96), nn.Linear(96, 32), nn.Linear(32, 64))
    with pytest.raises(UserError, match="rows of 32 weights"):
        qlora.check_rows(body, round_trip=scales_counted_by_row)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_verdict_is_what_the_library_does_on_this_processor(width):
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    torch.manual_seed(0)
    weight = torch.randn(128, width)
    unpacked = dequantize_4bit(*quantize_4bit(weight, blocksize=64, quant_type="nf4"))
    error = (unpacked - weight).abs().mean() / weight.abs().mean()
    assert qlora.unpacks_rightly(width) == (error < 0.12)  # .09 is NF4's own error; wrong scales give .20 or more


def test_each_width_is_asked_once(monkeypatch):
    from bitsandbytes import functional

    asked, quantize = [], functional.quantize_4bit
    monkeypatch.setattr(functional, "quantize_4bit", lambda *a, **k: asked.append(1) or quantize(*a, **k))
    qlora.unpacks_rightly.cache_clear()
    for _ in range(3):
        qlora.check_rows(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 128), nn.Linear(128, 64)))
    assert len(asked) == 2


def test_where_avx512_is_absent_every_width_comes_back():
    from bitsandbytes.cextension import lib

    if lib.has_avx512f_cpu():
        pytest.skip("this processor has AVX-512: its plain code is never taken")
    assert all(qlora.unpacks_rightly(width) for width in WIDTHS)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_librarys_own_generic_code_gets_every_width_right(width, monkeypatch):
    """Another path that every processor has: bitsandbytes takes it for 2,048 weights to a scale with AVX-512."""
    from bitsandbytes.backends.cpu import ops
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    monkeypatch.setattr(ops, "_has_avx512", True)
    blocks = torch.arange(1.0, width + 1).repeat_interleave(2048).reshape(2048, width)
    assert torch.equal(dequantize_4bit(*quantize_4bit(blocks, blocksize=2048, quant_type="nf4")), blocks)
