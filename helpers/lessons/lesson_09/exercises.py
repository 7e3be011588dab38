"""The exercises of lesson 09: adapters added up, DoRA with `peft`'s gradient, and what a saved folder lacks."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from helpers.checks import Wrong, exercise, expect, parts_of, returned


@exercise(
    "09.1",
    hints=[
        "A product of two matrices that are joined along the rank is a sum of products: "
        "[B1 B2] [A1; A2] = B1 A1 + B2 A2.",
        "A: torch.cat along dim 0, each part times its weight and its scale. B: torch.cat along dim 1, as they are.",
        "A = torch.cat([weight * scale * A for weight, (A, _, scale) in zip(weights, adapters)])\n"
        "B = torch.cat([B for _, B, _ in adapters], dim=1)\n"
        "return A, B",
    ],
)
def weighted_sum(answer: Callable) -> None:
    """answer(adapters, weights): A and B whose product is the weighted sum of the adapters' changes; `peft` judges."""
    for ranks, alphas, weights in (((2, 2), (4, 4), (0.5, 0.5)), ((1, 3), (2, 9), (1.0, -0.5))):
        model, adapters = _with_adapters(ranks, alphas)
        names = [f"a{index}" for index in range(len(ranks))]
        model.add_weighted_adapter(names, list(weights), "sum", combination_type="cat")
        wanted = model.base_model.model[0].get_delta_weight("sum").detach()
        found = parts_of(answer(copy.deepcopy(adapters), list(weights)), 2, "it should return two matrices, A and B")
        for name, matrix, shape in zip("AB", found, ((sum(ranks), 4), (6, sum(ranks))), strict=True):
            if tuple(getattr(matrix, "shape", ())) != shape:
                raise Wrong(f"for ranks {ranks}, {name} should have shape {shape}: join the adapters along the rank")
        changes = [(A, B, scale) for A, B, scale in adapters]
        unscaled = sum(w * B @ A for w, (A, B, _) in zip(weights, changes, strict=True))
        unweighted = sum(scale * B @ A for A, B, scale in changes)
        mistakes = {"each adapter's own scale is missing": unscaled, "the weights are missing": unweighted}
        expect(f"B @ A for ranks {ranks} and weights {weights}", found[1] @ found[0], wanted, 1e-4, mistakes=mistakes)


def _with_adapters(ranks: tuple[int, ...], alphas: tuple[int, ...]) -> tuple[Any, list[tuple[Tensor, Tensor, float]]]:
    """A 6 x 4 layer with several of `peft`'s adapters; and each one's A, B and scale."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model: Any = None
    adapters = []
    for index, (rank, alpha) in enumerate(zip(ranks, alphas, strict=True)):
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"])
        if model is None:
            model = get_peft_model(nn.Sequential(nn.Linear(4, 6)), config, adapter_name=f"a{index}")
        else:
            model.add_adapter(f"a{index}", config)
        layer: Any = model.base_model.model[0]
        nn.init.normal_(layer.lora_B[f"a{index}"].weight)
        A, B = layer.lora_A[f"a{index}"].weight.detach(), layer.lora_B[f"a{index}"].weight.detach()
        adapters.append((A.clone(), B.clone(), alpha / rank))
    return model, adapters


@exercise(
    "09.2",
    hints=[
        "The direction is the frozen weight plus the scaled B A: (out, in). Its rows are divided by their length and "
        "multiplied by the trained length, `magnitude` (out,).",
        "The forward pass is linear(x, weight, bias) with that weight. The gradient differs from peft's as long as the "
        "length of the rows carries one: the paper (section 4.3) takes it for a constant. .detach() makes it one.",
        "direction = weight + scale * B @ A\n"
        "length = direction.norm(dim=1, keepdim=True).detach()\n"
        "return nn.functional.linear(x, magnitude.unsqueeze(1) * direction / length, bias)",
    ],
)
def dora(answer: Callable) -> None:
    """answer(x, weight, bias, A, B, magnitude, scale): DoRA's output, and through it `peft`'s gradients."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    plain, x = nn.Linear(6, 5), torch.randn(3, 4, 6)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["0"], use_dora=True)
    adapted: Any = get_peft_model(nn.Sequential(copy.deepcopy(plain)), config)
    layer = adapted.base_model.model[0]
    A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    magnitude = layer.lora_magnitude_vector["default"].weight
    with torch.no_grad():
        B.normal_()
        magnitude.mul_(torch.linspace(0.5, 1.5, 5))  # as if it had been trained
    given = (plain.weight.detach(), plain.bias.detach(), A, B, magnitude, 3.0)
    got, wanted = returned(answer(x, *given), "the output, (..., out)"), layer(x)
    direction = plain.weight.detach() + 3.0 * (B @ A).detach()
    mistakes = {
        "the rows' own length is still in it: divide by it": linear(x, magnitude.unsqueeze(1) * direction, plain.bias),
        "the trained length is missing": linear(x, direction / direction.norm(dim=1, keepdim=True), plain.bias),
        "this is LoRA: the rows keep the length that they have": linear(x, direction, plain.bias),
    }
    expect("the output", got, wanted, 1e-4, mistakes={said: value.detach() for said, value in mistakes.items()})
    names, values = ("A", "B", "magnitude"), (A, B, magnitude)
    if not (isinstance(got, Tensor) and got.requires_grad):
        raise Wrong("no gradient passes through the output: compute it from A, B and magnitude themselves")
    ours = torch.autograd.grad(got.square().sum(), values, allow_unused=True)
    theirs = torch.autograd.grad(wanted.square().sum(), values)
    note = ": the output is right. Does the length of the rows carry a gradient? In peft it is a constant"
    for name, one, other in zip(names, ours, theirs, strict=True):
        expect(f"the gradient of {name}", one, other, 1e-3 * other.abs().max().item(), note=note)


@exercise(
    "09.3",
    hints=[
        "The file's tensors have the names of the parameters without the adapter's name. Print both once.",
        'In named_parameters() the adapter\'s name stands as ".default." (or ".modules_to_save.default."); in the file '
        'it does not. load_file(folder / "adapter_model.safetensors") returns the tensors by name.',
        "from safetensors.torch import load_file\n"
        'kept = set(load_file(folder / "adapter_model.safetensors"))\n'
        "def in_file(name):\n"
        '    return name.replace(".modules_to_save.default", "").replace(".default", "")\n'
        "return [name for name, value in adapted.named_parameters()\n"
        "        if value.requires_grad and in_file(name) not in kept]",
    ],
)
def missing_from_file(answer: Callable) -> None:
    """answer(adapted, folder): the trainable parameters of `peft`'s model that its saved folder lacks."""
    from peft import LoraConfig, get_peft_model

    for saved, opened in ((["head"], None), (None, "head"), (["head"], "norm")):
        torch.manual_seed(0)
        parts = {"body": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "head": nn.Linear(4, 2)}
        adapted: Any = get_peft_model(
            nn.Sequential(nn.ModuleDict(parts)), LoraConfig(r=1, target_modules=["body"], modules_to_save=saved)
        )
        if opened:
            adapted.base_model.model[0][opened].requires_grad_(True)
        start = f"base_model.model.0.{opened}."
        wanted = [name for name, value in adapted.named_parameters() if value.requires_grad and name.startswith(start)]
        with tempfile.TemporaryDirectory() as folder:
            adapted.save_pretrained(folder)
            found = returned(answer(adapted, Path(folder)), "a list of names")
        said = f"modules_to_save is {saved}" + (f" and {opened} was made trainable by hand" if opened else "")
        expect(f"what it returns where {said}", sorted(found), sorted(wanted))
