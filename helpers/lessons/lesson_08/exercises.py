"""The exercises of lesson 08: a LoRA layer, putting it into a model, PiSSA's start, and parameters that stand still."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from helpers.checks import Wrong, attempted, exercise, expect, parts_of, returned
from helpers.linear_layers import linear_layers
from helpers.lora import LoRALinear

FORWARD = {
    "the path is not scaled: multiply it by self.scaling": lambda base, path, _: base + path,
    "the path is missing: add B A x to what self.base(x) returns": lambda base, path, _: base,
    "this is the path alone: add it to what self.base(x) returns": lambda base, path, scale: path * scale,
}


@exercise(
    "08.1",
    hints=[
        "nn.functional.linear(x, self.lora_A) is A x for every vector of x: (..., in) -> (..., rank). The change is "
        "self.lora_B @ self.lora_A, times the scale.",
        "forward: if self.original is not None, return self.base(x). Else self.base(x) plus "
        "linear(linear(self.dropout(x), self.lora_A), self.lora_B) * self.scaling. merge: only when self.original is "
        "None, keep self.base.weight.clone(), then add self.change() in place.",
        "def forward(self, x):\n"
        "    if self.original is not None:\n"
        "        return self.base(x)\n"
        "    thin = nn.functional.linear(self.dropout(x), self.lora_A)\n"
        "    return self.base(x) + nn.functional.linear(thin, self.lora_B) * self.scaling\n"
        "def change(self):\n"
        "    return self.lora_B @ self.lora_A * self.scaling\n"
        "def merge(self):\n"
        "    if self.original is None:\n"
        "        self.original = self.base.weight.clone()\n"
        "        self.base.weight += self.change()\n"
        "def unmerge(self):\n"
        "    if self.original is not None:\n"
        "        self.base.weight.copy_(self.original)\n"
        "        self.original = None\n"
        "(merge and unmerge under @torch.no_grad())",
    ],
)
def lora_layer(answer: Callable) -> None:
    """answer: a class like `helpers.lora.LoRALinear`; `peft`'s layer is the judge of its outputs and gradients."""
    from peft import LoraConfig, get_peft_model

    for training in (False, True):
        torch.manual_seed(0)
        plain, share = nn.Linear(6, 5), 0.5 * training
        layer = attempted(answer(copy.deepcopy(plain), 2, 3.0, share)).train(training)
        nn.init.normal_(layer.lora_B)
        config = LoraConfig(r=2, lora_alpha=3, lora_dropout=share, target_modules=["0"])
        adapted: Any = get_peft_model(nn.Sequential(copy.deepcopy(plain)), config)
        theirs = adapted.base_model.model[0].train(training)
        with torch.no_grad():
            theirs.lora_A["default"].weight.copy_(layer.lora_A)
            theirs.lora_B["default"].weight.copy_(layer.lora_B)
        x = torch.randn(2, 4, 6)
        torch.manual_seed(1)
        got = returned(layer(x), "the output, (..., out)")
        torch.manual_seed(1)
        wanted = theirs(x)
        path = (x @ layer.lora_A.T @ layer.lora_B.T).detach()
        usual = {said: make(plain(x), path, layer.scaling) for said, make in FORWARD.items()}
        what = "forward's output" if not training else "forward's output with dropout in training"
        expect(what, got, wanted, mistakes={} if training else usual, note=" (peft's)")
        for result in (got, wanted):
            result.square().sum().backward()
        for name in ("lora_A", "lora_B"):
            expect(f"the gradient of {name}", getattr(layer, name).grad, getattr(theirs, name)["default"].weight.grad)
    _merges(layer.eval(), plain, x)


def _merges(layer: LoRALinear, plain: nn.Linear, x: Tensor) -> None:
    """Merging keeps the outputs, twice adds once, and unmerging returns the weight to the bit."""
    with torch.no_grad():
        wanted, change = layer(x), layer.lora_B @ layer.lora_A * layer.scaling
        expect("change()", returned(layer.change(), "what the path adds to the weight"), change)
        for again in ("after merge()", "after merge() twice"):
            if layer.merge() is ...:
                attempted(...)
            expect(f"self.base.weight {again}", layer.base.weight, plain.weight + change)
            expect(f"the output {again}", layer(x), wanted, note=": a merged layer is a plain one")
        layer.unmerge()
        if not torch.equal(layer.base.weight, plain.weight):
            raise Wrong("after unmerge() self.base.weight is not the old weight to the bit: copy self.original back")
        expect("the output after unmerge()", layer(x), wanted)


@exercise(
    "08.2",
    hints=[
        "model.requires_grad_(False) freezes everything. Then collect what isinstance(module, nn.Linear) accepts.",
        'The last part of a path is path.rpartition(".")[2]: it has to be in targets. setattr(parent, name, layer) '
        "replaces a module, and model.get_submodule(path of the parent) finds the parent.",
        "model.requires_grad_(False)\n"
        "linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}\n"
        'found = {path: module for path, module in linears.items() if path.rpartition(".")[2] in targets}\n'
        "for path, module in found.items():\n"
        '    parent, _, name = path.rpartition(".")\n'
        "    setattr(model.get_submodule(parent), name, LoRALinear(module, rank, alpha))\n"
        "return list(found)",
    ],
)
def injected(answer: Callable) -> None:
    """answer(model, targets, rank, alpha): a LoRA layer around every linear layer whose last name is a target."""
    for targets in (["query", "value"], ["output"], ["inner"]):
        model = _block()
        before = {path: layer.weight for path, layer in linear_layers(model).items()}
        wanted = [path for path in before if path.rpartition(".")[2] in targets]
        paths = returned(answer(model, targets, 2, 4.0), "the list of the paths")
        layers = {path: module for path, module in model.named_modules() if hasattr(module, "lora_A")}
        for path in before:
            if (path in layers) != (path in wanted):
                said = "should have a LoRALinear, and has none" if path in wanted else "should stay a plain layer"
                raise Wrong(f"with targets {targets}, {path} {said}")
        expect(f"what it returns for {targets}", sorted(paths), sorted(wanted))
        for path, layer in layers.items():
            if layer.base.weight is not before[path]:
                raise Wrong(f"the layer at {path} is around another layer than the one that was there")
        for name, value in model.named_parameters():
            should = name.endswith(("lora_A", "lora_B"))
            if value.requires_grad != should:
                raise Wrong(f"{name} should be {'trainable' if should else 'frozen'}, and it is not")


def _block() -> nn.Module:
    """Names that end alike and are not alike, and a target at the top level."""
    torch.manual_seed(0)
    attention = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("query", "value", "subquery")})
    feed_forward = nn.ModuleDict({"inner": nn.Linear(4, 8), "output": nn.Linear(8, 4), "norm": nn.LayerNorm(4)})
    return nn.ModuleDict({"attention": attention, "feed_forward": feed_forward, "output": nn.Linear(4, 2)})


@exercise(
    "08.3",
    hints=[
        "left, sizes, right = torch.linalg.svd(weight, full_matrices=False), the largest sizes first. scale * B @ A "
        "should be the first `rank` directions.",
        "So B @ A has the sizes divided by scale, and each side takes root = (sizes[:rank] / scale).sqrt().",
        "left, sizes, right = torch.linalg.svd(weight, full_matrices=False)\n"
        "root = (sizes[:rank] / scale).sqrt()\n"
        "A, B = root.unsqueeze(1) * right[:rank], left[:, :rank] * root\n"
        "return weight - scale * B @ A, A, B",
    ],
)
def pissa(answer: Callable) -> None:
    """answer(weight, rank, scale): the frozen rest, A and B of `peft`'s PiSSA start."""
    from peft import LoraConfig, get_peft_model

    for (outputs, inputs), rank, alpha in (((6, 4), 1, 1), ((5, 9), 2, 4), ((8, 8), 4, 2)):
        torch.manual_seed(0)
        plain, scale = nn.Linear(inputs, outputs), alpha / rank
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"], init_lora_weights="pissa")
        adapted: Any = get_peft_model(nn.Sequential(copy.deepcopy(plain)), config)
        theirs = adapted.base_model.model[0]
        weight = plain.weight.detach()
        rest, wide, tall = parts_of(answer(weight.clone(), rank, scale), 3, "it should return three: the rest, A and B")
        said = f"for a {outputs} x {inputs} weight at rank {rank}"
        for name, matrix, shape in (("A", wide, (rank, inputs)), ("B", tall, (outputs, rank))):
            if tuple(getattr(matrix, "shape", ())) != shape:
                raise Wrong(f"{said}, {name} should have shape {shape}")
        expect(f"rest + scale * B @ A {said}", rest + scale * tall @ wide, weight, 1e-4, note=" (the weight itself)")
        A, B = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
        mistakes = {"the scale is not taken out: divide the singular values by it": B @ A * scale}
        expect(f"B @ A {said}", tall @ wide, B @ A, 1e-4, mistakes=mistakes if scale != 1 else {})
        expect(f"the norm of A {said}", wide.norm(), A.norm(), 1e-4, note=": each side takes the square root")


@exercise(
    "08.4",
    hints=[
        "Keep a copy of every trainable parameter, train for a few steps, compare with torch.equal.",
        "value.detach().clone() is a copy. The loop is losses(model).backward(), optimizer.step(), "
        "optimizer.zero_grad(). Use weight_decay=0.0: decay moves a parameter that has no gradient to learn from.",
        "trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}\n"
        "old = {name: value.detach().clone() for name, value in trainable.items()}\n"
        "optimizer = torch.optim.AdamW(trainable.values(), lr=1e-2, weight_decay=0.0)\n"
        "for _ in range(steps):\n"
        "    losses(model).backward()\n"
        "    optimizer.step()\n"
        "    optimizer.zero_grad()\n"
        "return [name for name, value in trainable.items() if torch.equal(value, old[name])]",
    ],
)
def standing_still(answer: Callable) -> None:
    """answer(model, losses, steps=3): the names of the trainable parameters that training does not move."""
    for zero_a, frozen, cut, wanted in (
        (True, False, False, ["0.lora_A", "0.lora_B"]),
        (False, False, False, []),
        (False, True, False, []),
        (False, False, True, ["0.lora_A", "0.lora_B"]),
    ):
        torch.manual_seed(0)
        lora = LoRALinear(nn.Linear(6, 5), 2, 4.0)
        model = nn.Sequential(lora, nn.Linear(5, 2))
        model[1].requires_grad_(not frozen)
        if zero_a:
            nn.init.zeros_(lora.lora_A)
        x, target = torch.randn(16, 6), torch.randn(16, 2)

        def losses(model: nn.Sequential, x: Tensor = x, target: Tensor = target, cut: bool = cut) -> Tensor:
            hidden = model[0](x)
            return nn.functional.mse_loss(model[1](hidden.detach() if cut else hidden), target)

        given = returned(answer(model, losses), "a list of names")
        what = (
            "A and B are zero"
            if zero_a
            else "the head is frozen"
            if frozen
            else "the graph is cut"
            if cut
            else "all is well"
        )
        expect(f"what it returns where {what}", sorted(given), wanted)
