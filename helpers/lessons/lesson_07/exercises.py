"""The exercises of lesson 07: a bottleneck adapter, folded IA3, a joined soft prompt, and LoRA within a budget."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.adapters import BottleneckAdapter, Rescale
from helpers.checks import Wrong, attempted, exercise, expect, parts_of, returned


@exercise(
    "07.1",
    hints=[
        "Two layers: self.down = nn.Linear(hidden, size) and self.up = nn.Linear(size, hidden). forward adds "
        "up(gelu(down(hidden))) to its input.",
        "At the start up(...) has to be 0 for every input: zero its weight and its bias. Leave `down` as it is: two "
        "layers of zeros would pass no gradient on.",
        "In __init__:\n"
        "self.down, self.up = nn.Linear(hidden, size), nn.Linear(size, hidden)\n"
        "nn.init.zeros_(self.up.weight)\n"
        "nn.init.zeros_(self.up.bias)\n"
        "and forward gives hidden + self.up(nn.functional.gelu(self.down(hidden)))",
    ],
)
def bottleneck(answer: Callable) -> None:
    """answer(hidden, size): an adapter that returns its input at the start, can learn, and computes the paper's sum."""
    torch.manual_seed(0)
    adapter = attempted(answer(8, 3))
    if not isinstance(adapter, nn.Module):
        raise Wrong(f"it should be a class of modules, not of {type(adapter).__name__}")
    x = torch.randn(2, 5, 8)
    got = returned(adapter(x), "the new hidden states")
    expect("what it returns for x before the first step", got, x, note=" (it should be x itself)")
    counted, right = sum(p.numel() for p in adapter.parameters()), BottleneckAdapter(8, 3)
    expect("the number of its parameters", counted, sum(p.numel() for p in right.parameters()))
    for name in ("down", "up"):
        layer, shape = getattr(adapter, name, None), getattr(right, name).weight.shape
        if not isinstance(layer, nn.Linear) or layer.weight.shape != shape:
            raise Wrong(f"self.{name} should be a linear layer with a weight of shape {tuple(shape)}")
    _can_learn(adapter, x)
    right.load_state_dict(adapter.state_dict())
    inner = torch.randn(2, 5, 8)
    relu = inner + right.up(nn.functional.relu(right.down(inner)))
    linear = inner + right.up(right.down(inner))
    mistakes = {
        "there is no gelu between the two layers": linear,
        "this is relu: this lesson's adapter has a gelu": relu,
    }
    expect("what it returns after two steps", adapter(inner), right(inner), mistakes=mistakes)


def _can_learn(adapter: nn.Module, x: Tensor) -> None:
    """Two steps towards a random target have to move every weight."""
    start = {name: parameter.detach().clone() for name, parameter in adapter.named_parameters()}
    target, optimizer = torch.randn(x.shape), torch.optim.SGD(adapter.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (adapter(x) - target).square().sum().backward()
        optimizer.step()
    for name, parameter in adapter.named_parameters():
        if torch.equal(parameter, start[name]):
            raise Wrong(
                f"it starts as the identity, but after two steps {name} has not moved: does a gradient reach it?"
            )


@exercise(
    "07.2",
    hints=[
        "A factor for an output multiplies one row of the weight, and that output's bias. A factor for an input "
        "multiplies one column.",
        "weight is (out, in). outputs.unsqueeze(1) is (out, 1), one factor a row; inputs (in,) multiplies the columns.",
        "return outputs.unsqueeze(1) * weight * inputs, outputs * bias",
    ],
)
def folded(answer: Callable) -> None:
    """answer(weight, bias, inputs, outputs): the plain layer that computes what the rescaled one computes."""
    for inputs, outputs in ((4, 3), (2, 5), (3, 3)):
        torch.manual_seed(0)
        layer, before, after = nn.Linear(inputs, outputs), Rescale(inputs), Rescale(outputs)
        with torch.no_grad():
            before.scale.uniform_(0.5, 1.5), after.scale.uniform_(0.5, 1.5)
            given = [value.detach().clone() for value in (layer.weight, layer.bias, before.scale, after.scale)]
            wanted = "it should return two tensors, the weight and the bias"
            weight, bias = parts_of(answer(*copy.deepcopy(given)), 2, wanted)
            rows, columns = given[3].unsqueeze(1), given[2]
            mistakes = {}
            if inputs == outputs:
                mistakes = {"rows and columns are swapped": columns.unsqueeze(1) * given[0] * given[3]}
            said = f"of a layer of {inputs} inputs and {outputs} outputs"
            expect(f"the weight {said}", weight, rows * given[0] * columns, mistakes=mistakes)
            unscaled = {"the outputs' factors multiply the bias as well": given[1]}
            expect(f"the bias {said}", bias, given[3] * given[1], mistakes=unscaled)
            x = torch.randn(2, inputs)
            expect(f"the output {said}", nn.functional.linear(x, weight, bias), after(layer(before(x))), 1e-4)


@exercise(
    "07.3",
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
    "07.4",
    hints=[
        "LoRA on a layer of `in` inputs and `out` outputs has r * (in + out) parameters. body.named_modules() gives "
        "every path and module.",
        "Take the nn.Linear modules whose path ends with one of the names (path.rpartition('.')[2] is its last part). "
        "Sum in_features + out_features over them: that is what one rank costs. How often does it fit the budget?",
        "layers = [layer for path, layer in body.named_modules()\n"
        "          if isinstance(layer, nn.Linear) and path.rpartition('.')[2] in names]\n"
        "each = sum(layer.in_features + layer.out_features for layer in layers)\n"
        "return LoraConfig(r=budget // each, lora_alpha=16, target_modules=list(names))",
    ],
)
def within_budget(answer: Callable) -> None:
    """answer(body, names, budget): a LoraConfig with the largest rank that fits; `peft` counts the parameters."""
    from peft import LoraConfig, get_peft_model  # slow to import

    def body() -> nn.Module:
        def block() -> nn.Module:
            return nn.ModuleDict({"query": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "dense": nn.Linear(4, 7)})

        return nn.ModuleDict({"word": nn.Embedding(9, 4), "blocks": nn.ModuleList([block(), block()])})

    for names, budget in ((["query"], 50), (["query", "dense"], 200), (["dense"], 66), (["query"], 16)):
        config = returned(answer(body(), list(names), budget), "a LoraConfig")
        if not isinstance(config, LoraConfig):
            raise Wrong(f"it should return a LoraConfig, not {type(config).__name__}")
        said = f"for the layers called {' and '.join(names)} and {budget} parameters"
        if set(config.target_modules or ()) != set(names):
            raise Wrong(f"{said}, target_modules should be {sorted(names)}, not {config.target_modules}")
        if config.lora_alpha != 16:
            raise Wrong(f"{said}, lora_alpha should be 16, not {config.lora_alpha}")
        if not isinstance(config.r, int) or config.r < 1:
            raise Wrong(f"{said}, r should be a whole number from 1, not {config.r!r}")
        count = sum(p.numel() for p in get_peft_model(body(), config).parameters() if p.requires_grad)
        if count > budget:
            raise Wrong(f"{said}, r = {config.r} is too large: `peft` trains {count} parameters")
        if count + count // config.r <= budget:
            raise Wrong(f"{said}, r = {config.r} trains {count} parameters, so a larger rank fits too")
