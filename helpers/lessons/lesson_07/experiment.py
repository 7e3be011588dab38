"""Lesson 07: what each method trains, with one recipe for the lesson and its reference table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from helpers.adapters import add_bottlenecks, add_ia3, open_biases
from helpers.batches import Batch
from helpers.evaluation import Outcome, bag_of_words, evaluate, majority
from helpers.lessons.lesson_02.experiment import Task
from helpers.linear_layers import attention_targets
from helpers.lora import inject
from helpers.models import MeanPoolClassifier, blocks
from helpers.prompt_tuning import add_prefix, add_soft_prompt
from helpers.recipes import Recipe, origin_of, recipe
from helpers.runtime import UserError, seed_everything
from helpers.training import half_precision, train_on_features, train_on_text

if TYPE_CHECKING:
    from peft import LoraConfig

# Takes a pretrained body and returns the body to use, frozen but for what is trainable.
Adapt = Callable[[nn.Module], nn.Module]

LABELS = 500
EPOCHS = 4
MAX_TOKENS = 192  # the encoder has 256 places, and a prompt may take 64
SIZE = 16  # of the adapters' bottleneck
LENGTH = 8  # of the soft prompt and of the prefix
RANK, ALPHA = 8, 16  # alpha is the same at every rank, as in all lessons
REAL_LABELS, REAL_TEST_ROWS, REAL_EPOCHS = 480, 500, 2  # of the section on real text
SIZES = (1, 8, 32)  # of the two sweeps: vectors of the soft prompt, rank of LoRA's update


@dataclass(frozen=True)
class Method:
    """One way to fine-tune: what it trains; the learning rate is in `helpers.recipes`."""

    name: str  # the ending of its metrics: accuracy_bitfit
    title: str
    family: str
    adapt: Adapt
    recipe_name: str = ""  # in `helpers.recipes`, where it is not `name`

    def recipe(self, origin: str = "pocket") -> Recipe:
        """How to train it, for a pocket model or a published one."""
        return recipe(self.recipe_name or self.name, origin, "07")

    def learning_rate(self, origin: str = "pocket") -> float:
        """The rate of the recipe."""
        return self.recipe(origin).learning_rate


def freeze(body: nn.Module) -> nn.Module:
    """Train nothing of the body, only the head."""
    return body.requires_grad_(False)


def train_last_block(body: nn.Module) -> nn.Module:
    """Train the last block."""
    blocks(body.requires_grad_(False))[-1].requires_grad_(True)
    return body


def train_all(body: nn.Module) -> nn.Module:
    """Train every parameter."""
    return body.requires_grad_(True)


def methods(
    length: int = LENGTH,
    rank: int = RANK,
    size: int = SIZE,
    own: Mapping[str, Adapt] | None = None,
) -> dict[str, Method]:
    """Every method by its name, in the order of the map; own: name -> what adapts the body instead of the helpers'."""
    every = (
        Method("head_only", "head only", "selective", freeze),
        Method("bitfit", "BitFit", "selective", open_biases),
        Method("last_block", "last block", "selective", train_last_block),
        Method("adapter", "bottleneck adapter", "additive", lambda body: add_bottlenecks(body, size)),
        Method("ia3", "IA3", "additive", add_ia3),
        soft_prompt(length),
        Method("prefix", "prefix", "additive", lambda body: add_prefix(body, length)),
        low_rank(rank),
        Method("full", "everything", "all", train_all),
    )
    return {method.name: replace(method, adapt=(own or {}).get(method.name, method.adapt)) for method in every}


def soft_prompt(length: int, adapt: Adapt | None = None) -> Method:
    """A soft prompt of `length` vectors; adapt: what puts it before the body instead of the helpers' code."""
    return Method("soft_prompt", "soft prompt", "additive", adapt or (lambda body: add_soft_prompt(body, length)))


def folded(weight: Tensor, bias: Tensor, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The plain linear layer that does what (weight, bias) does between IA3's factors of its inputs and its outputs.

    weight: (out, in); bias, outputs: (out,); inputs: (in,). Returns the new weight and bias.
    """
    return outputs.unsqueeze(1) * weight * inputs, outputs * bias


def low_rank(rank: int) -> Method:
    """LoRA of the queries and the values; one alpha at every rank."""

    def adapt(body: nn.Module) -> nn.Module:
        inject(body, attention_targets(body), rank=rank, alpha=ALPHA)
        return body

    return Method("lora", "LoRA", "reparameterised", adapt, "lora_query_value")


def lora_within(body: nn.Module, names: Sequence[str], budget: int) -> LoraConfig:
    """LoRA on the linear layers whose path ends with one of `names`, at the largest rank that `budget` allows.

    budget: the number of parameters that LoRA may train. One alpha at every rank.
    """
    from peft import LoraConfig  # slow to import

    layers = [
        layer
        for path, layer in body.named_modules()
        if isinstance(layer, nn.Linear) and path.rpartition(".")[2] in names
    ]
    each = sum(layer.in_features + layer.out_features for layer in layers)
    return LoraConfig(r=budget // each, lora_alpha=ALPHA, target_modules=list(names))


def within(
    names: Sequence[str], budget: int, config: Callable[[nn.Module, Sequence[str], int], LoraConfig] = lora_within
) -> Method:
    """LoRA by `peft` on these layers, as large as `budget` allows; config: what makes its configuration."""

    def adapt(body: nn.Module) -> nn.Module:
        from peft import get_peft_model  # slow to import

        return get_peft_model(body, config(body, names, budget))

    return Method("lora_within", "LoRA, other layers", "reparameterised", adapt, "lora_query_value")


def baselines(train: Dataset, test: Dataset) -> dict[str, float]:
    """The accuracy on `test` of the majority class and of a bag of words; both sets have the columns text and label."""
    guesses = {
        "majority": [majority(train["label"])] * len(test),
        "bag_of_words": bag_of_words(train["text"], train["label"]).predict(test["text"]).tolist(),
    }
    truth = list(test["label"])
    return {
        name: sum(one == right for one, right in zip(guess, truth, strict=True)) / len(truth)
        for name, guess in guesses.items()
    }


@dataclass(frozen=True)
class Pair:
    """A language model and a classifier that share one body, so that what the second learns the first can feel.

    base: the body's own parameters under their first names, wherever an added part has moved them.
    """

    language_model: Any
    classifier: MeanPoolClassifier
    base: dict[str, nn.Parameter]


def pair(language_model: Any, adapt: Adapt, num_labels: int = 2) -> Pair:
    """Adapt the language model's body in place and build a classifier on it."""
    base = dict(language_model.base_model.named_parameters())
    body = adapt(language_model.base_model)
    setattr(language_model, language_model.base_model_prefix, body)
    classifier = MeanPoolClassifier(body, num_labels).to(language_model.device)
    return Pair(language_model, classifier, base)


def fine_tune(
    method: Method,
    language_model: Any,
    task: Task,
    *,
    epochs: int,
    seed: int,
    num_labels: int = 2,
    origin: str | None = None,
    rate: float | None = None,
) -> tuple[Pair, Outcome]:
    """Adapt, train with lesson 02's recipe, and predict the test rows (in bfloat16 where the processor has it).

    The head alone trains on cached features, as in lesson 02: a frozen body need not run twice.

    Args:
        origin: whose recipe to train with, "pocket" or "published"; None asks the model's size.
        rate: the learning rate; None takes the recipe's.
    """
    seed_everything(seed)
    both = pair(language_model.to(task.device), method.adapt, num_labels)
    fit = train_on_features if method.adapt is freeze else train_on_text
    rate = rate or method.learning_rate(origin or origin_of(language_model.config))
    data = task.train_rows, task.collate
    with half_precision(torch.device(task.device)):
        history = fit(both.classifier, *data, rate, epochs=epochs, seed=seed, progress=method.title)
    return both, evaluate(method.title, both.classifier, task.test_rows, task.collate, history, bfloat16=True)


def training_bytes(model: MeanPoolClassifier, batch: Batch) -> dict[str, int]:
    """What a training step keeps beside the weights: activations for the backward pass; gradients and AdamW's means.

    As in lesson 02: PyTorch reports every tensor that it saves for the backward pass.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model.train()(**batch).loss
    states = 3 * sum(4 * value.numel() for value in model.parameters() if value.requires_grad)
    del loss
    return {"activations": sum(saved.values()), "gradients and AdamW": states}


def trained_part(model: nn.Module) -> dict[str, Tensor]:
    """Name -> value of every trainable parameter: all that a checkpoint of the fine-tuning needs."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_trained(model: nn.Module, path: Path) -> int:
    """Write the trained part as safetensors; returns the file's size in bytes."""
    save_file({name: value.contiguous().cpu() for name, value in trained_part(model).items()}, path)
    return path.stat().st_size


def load_trained(model: nn.Module, path: Path) -> nn.Module:
    """Put a saved part into a model that was adapted in the same way.

    Raises:
        UserError: before anything is changed, when the file is no safetensors, holds numbers that are not finite,
            or its names and shapes are not those of this model's trained part.
    """
    try:
        found = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path.name} is not a safetensors file, or is damaged ({error}).") from None
    wanted = trained_part(model)
    _belongs(found, wanted, path.name)
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(found[name])
    return model


def _belongs(found: dict[str, Tensor], wanted: dict[str, Tensor], file: str) -> None:
    in_file, in_model = ({name: tuple(value.shape) for name, value in part.items()} for part in (found, wanted))
    for name in {**in_model, **in_file}:
        there, here = in_file.get(name, "missing"), in_model.get(name, "missing")
        if there != here:
            said = f'"{name}" is {there} in {file} and {here} here'
            raise UserError(f"This file does not belong to a model adapted like this one: {said}.")
        if not found[name].isfinite().all():
            raise UserError(f'"{name}" in {file} holds numbers that are not finite.')
