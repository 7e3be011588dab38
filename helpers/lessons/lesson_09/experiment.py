"""Lesson 09: LoRA and its variants with `peft` and `Trainer`, one recipe for all; and what `peft` accepts in silence.

`peft` (0.21) refuses a target list only when *none* of its names fits. A misspelt name beside right ones, a misspelt
module to save, a rank above the matrix's size, other frozen weights of the same shape and a pickle are all accepted.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from helpers.batches import Collate, TokenizedReviews
from helpers.cost import Stopwatch
from helpers.evaluation import Outcome, evaluate
from helpers.linear_layers import matching, submodule
from helpers.lora import check_rank
from helpers.lora_files import BASE, WEIGHTS, check_base, fingerprint, read_config, read_weights
from helpers.models import MeanPoolClassifier, blocks, device_of
from helpers.recipes import origin_of, recipe
from helpers.runtime import seed_everything
from helpers.training import BATCH_SIZE, History, has_bfloat16, quiet_trainer, warmup_linear

LABELS, EPOCHS = 1000, 2
RANK, ALPHA = 8, 16


@dataclass(frozen=True)
class Variant:
    """One way to adapt: which matrices, the options of `LoraConfig` beside rank and alpha."""

    name: str  # the ending of its metrics: accuracy_dora
    title: str
    attention_only: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    ratio: float = 1.0  # LoRA+: B's learning rate is this times A's

    @property
    def learning_rate(self) -> float:
        """A pocket model's, the best of one grid on validation rows: benchmarks/lora_variants.py --tune."""
        return recipe(self.name, lesson="09").learning_rate


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("lora", "LoRA, every linear layer"),
        Variant("lora_attention", "LoRA, attention only", attention_only=True),
        Variant("rslora", "rsLoRA", options={"use_rslora": True}),
        Variant("dora", "DoRA", options={"use_dora": True}),
        Variant("lora_plus", "LoRA+", ratio=4.0),
    )
}


def block_linear_paths(model: MeanPoolClassifier, attention_only: bool = False) -> list[str]:
    """The paths of the linear layers inside the blocks; with `attention_only`, of those in attention."""
    inside = {id(module) for module in blocks(model.body).modules() if isinstance(module, nn.Linear)}
    paths = [path for path, module in model.named_modules() if id(module) in inside]
    return [path for path in paths if not attention_only or "attention" in path or "attn" in path]


def with_peft(model: MeanPoolClassifier, variant: Variant, *, rank: int = RANK, alpha: int = ALPHA):
    """The model with this variant's adapter, by `peft`; a UserError for what `peft` would let pass in silence."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=block_linear_paths(model, variant.attention_only),
        modules_to_save=["head"],
        **variant.options,
    )
    check_config(model, config)
    return get_peft_model(model, config)


def optimizer_for(model: nn.Module, learning_rate: float, ratio: float = 1.0) -> torch.optim.AdamW:
    """AdamW in two groups: B's matrices learn `ratio` times as fast as everything else (LoRA+, Hayou et al. 2024).

    Biases learn with B, as in `peft`.
    """

    def fast(name: str, value: torch.Tensor) -> bool:
        return "lora_B" in name or value.ndim == 1

    free = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups = [
        {"params": [value for name, value in free if not fast(name, value)], "lr": learning_rate},
        {"params": [value for name, value in free if fast(name, value)], "lr": learning_rate * ratio},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0)


def trainer_for(
    model: nn.Module,
    rows: TokenizedReviews,
    collate: Collate,
    *,
    learning_rate: float,
    epochs: int,
    seed: int,
    ratio: float = 1.0,
    bfloat16: bool = True,
    sampling: str = "group_by_length",
    folder: str,
):
    """A `Trainer` that prints and saves nothing, in bfloat16 where the processor has it."""
    optimizer = optimizer_for(model, learning_rate, ratio)
    schedule = warmup_linear(optimizer, steps=epochs * math.ceil(len(rows) / BATCH_SIZE))
    return quiet_trainer(
        model,
        rows,
        collate,
        folder,
        optimizers=(optimizer, schedule),
        seed=seed,
        bf16=bfloat16 and has_bfloat16(device_of(model)),
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH_SIZE,
        train_sampling_strategy=sampling,
        logging_steps=1,
    )


def fine_tune(
    variant: Variant,
    model: MeanPoolClassifier,
    rows: Mapping[str, TokenizedReviews],
    collate: Collate,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    learning_rate: float | None = None,
    rank: int = RANK,
    alpha: int = ALPHA,
) -> tuple[nn.Module, Outcome]:
    """Train one variant on rows["train"] and predict rows["test"]; returns `peft`'s model and the outcome.

    learning_rate: None takes the recipe for the model's origin.
    """
    rate = learning_rate or recipe(variant.name, origin_of(model.config), "09").learning_rate
    seed_everything(seed)
    adapted = with_peft(model, variant, rank=rank, alpha=alpha)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for(
            adapted,
            rows["train"],
            collate,
            learning_rate=rate,
            epochs=epochs,
            seed=seed,
            ratio=variant.ratio,
            folder=folder,
        )
        with Stopwatch() as watch:
            trainer.train()
    trainer.accelerator.unwrap_model(adapted, keep_fp32_wrapper=False)  # else it would go on in bfloat16
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    history = History(losses, watch.seconds)
    return adapted, evaluate(variant.title, adapted, rows["test"], collate, history, bfloat16=True)


def check_config(model: nn.Module, config) -> list[str]:
    """The paths that a `LoraConfig` with a list of names adapts in a plain model.

    Raises:
        UserError: for a name that fits no linear layer, a rank that a layer is too small for, or a module to save
            that is not there.
    """
    named = config.target_modules or ()
    paths = matching(model, [named] if isinstance(named, str) else sorted(named))
    check_rank(model, paths, config.r)
    for name in config.modules_to_save or ():
        submodule(model, name)
    return paths


def stamp(folder: Path, base: nn.Module) -> None:
    """Note in the header of a saved adapter's file which frozen weights it grew on; `peft` reads past it."""
    tensors, _ = read_weights(Path(folder))
    trained = tuple(read_config(Path(folder)).get("modules_to_save") or ())
    save_file(tensors, Path(folder) / WEIGHTS, metadata={"format": "pt", BASE: fingerprint(base, trained)})


def check_folder(folder: Path, base: nn.Module) -> None:
    """Look at an adapter's folder before `PeftModel.from_pretrained` puts it onto the plain model `base`.

    Raises:
        UserError: when it is no LoRA adapter in safetensors, or it was made for another base model.
    """
    config = read_config(Path(folder))
    tensors, made_for = read_weights(Path(folder))
    thin = {name: value for name, value in tensors.items() if "lora_magnitude" not in name}  # DoRA's fits if A and B do
    check_base(base, config, thin, made_for)
