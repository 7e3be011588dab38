"""Lesson 09's experiment: LoRA and its relatives with `peft` and `Trainer`, one recipe for all."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from helpers.batches import Batch, Row, TokenizedReviews, length_batches
from helpers.cost import Stopwatch
from helpers.ladder import Outcome
from helpers.models import MeanPoolClassifier, blocks
from helpers.peft_checks import check_config
from helpers.precision import half_precision, has_bfloat16
from helpers.runtime import seed_everything
from helpers.training import predict, trainable_parameters, warmup_linear

Collate = Callable[[list[Row]], Batch]
LABELS, EPOCHS, BATCH_SIZE = 1000, 2, 16
RANK, ALPHA = 8, 16


@dataclass(frozen=True)
class Variant:
    """One way to adapt: which matrices, what `LoraConfig` is told beside rank and alpha, and how fast."""

    name: str  # the ending of its metrics: accuracy_dora
    title: str
    learning_rate: float  # the best of one grid on validation rows: benchmarks/lora_variants.py --tune
    attention_only: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    ratio: float = 1.0  # LoRA+: B's learning rate is this times A's


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("lora", "LoRA, every linear layer", 2e-3),
        Variant("lora_attention", "LoRA, attention only", 4e-3, attention_only=True),
        Variant("rslora", "rsLoRA", 2e-3, options={"use_rslora": True}),
        Variant("dora", "DoRA", 4e-3, options={"use_dora": True}),
        Variant("lora_plus", "LoRA+", 2e-3, ratio=4.0),
    )
}


def paths_of(model: MeanPoolClassifier, attention_only: bool = False) -> list[str]:
    """The paths of the linear layers inside the blocks; with `attention_only`, of those in attention."""
    inside = {id(module) for module in blocks(model.body).modules() if isinstance(module, nn.Linear)}
    paths = [path for path, module in model.named_modules() if id(module) in inside]
    return [path for path in paths if not attention_only or "attention" in path or "attn" in path]


def with_peft(model: MeanPoolClassifier, variant: Variant, *, rank: int = RANK, alpha: float = ALPHA):
    """The model with this variant's adapter, by `peft`; a UserError for what `peft` would let pass in silence."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=paths_of(model, variant.attention_only),
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
    from transformers import PrinterCallback, Trainer, TrainingArguments

    device = next(model.parameters()).device
    steps = epochs * math.ceil(len(rows) / BATCH_SIZE)
    arguments = TrainingArguments(
        output_dir=folder,
        seed=seed,
        use_cpu=device.type == "cpu",
        bf16=bfloat16 and has_bfloat16(device),
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH_SIZE,
        train_sampling_strategy=sampling,
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
    )
    optimizer = optimizer_for(model, learning_rate, ratio)
    schedule = warmup_linear(optimizer, steps)
    trainer = Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=collate, optimizers=(optimizer, schedule)
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


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
    alpha: float = ALPHA,
) -> tuple[nn.Module, Outcome]:
    """Train one variant on rows["train"] and predict rows["test"]; returns `peft`'s model and the outcome.

    learning_rate: None takes the variant's own.
    """
    seed_everything(seed)
    adapted = with_peft(model, variant, rank=rank, alpha=alpha)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for(
            adapted,
            rows["train"],
            collate,
            learning_rate=learning_rate or variant.learning_rate,
            epochs=epochs,
            seed=seed,
            ratio=variant.ratio,
            folder=folder,
        )
        with Stopwatch() as watch:
            trainer.train()
    trainer.accelerator.unwrap_model(adapted, keep_fp32_wrapper=False)  # else it would go on in bfloat16
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    logits, labels = answers(adapted, rows["test"], collate)
    cost = {"parameters": trainable_parameters(adapted), "seconds": watch.seconds}
    return adapted, Outcome(variant.title, logits.argmax(dim=-1), labels, **cost, losses=tuple(losses))


def answers(model: nn.Module, rows: TokenizedReviews, collate: Collate) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (rows, classes) and true labels (rows,), in the rows' order."""
    with half_precision(next(model.parameters()).device):
        return predict(model, length_batches(rows, collate, 64, shuffle=False))
