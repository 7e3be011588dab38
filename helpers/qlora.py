"""The recipe of lesson 11: one model, trained in full, with LoRA, and with LoRA on 4-bit weights.

Source: Dettmers et al. 2023, "QLoRA: Efficient finetuning of quantized LLMs".
"""

from __future__ import annotations

import functools
import math
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from helpers import catalog
from helpers.batches import Collate, TokenizedReviews
from helpers.cost import Stopwatch
from helpers.linear_layers import linear_layers
from helpers.memory.microbatches import MicrobatchPlan, checkpoint, plan_microbatches
from helpers.models import MeanPoolClassifier
from helpers.quantization.four_bit import quiet_bitsandbytes
from helpers.recipes import recipe
from helpers.runtime import UserError, check_number, choose
from helpers.training import BATCH_SIZE, quiet_trainer

METHODS = ("full", "lora", "qlora")
TITLES = {"full": "all parameters", "lora": "LoRA", "qlora": "QLoRA"}
RATES = {method: recipe(method, lesson="11").learning_rate for method in METHODS}  # a pocket model's
LABELS = 1200
EPOCHS = 3
RANK = 8
ALPHA = 16
BLOCK = 64  # weights that share a scale


def drop_two_notices() -> None:
    """Silence two messages that nobody at the keyboard can act on, and no others.

    bitsandbytes says that the package `kernels` is missing, an optional faster product from the Hub; `peft` asks
    `transformers` for checkpointing by a name that `transformers` has replaced.
    """
    quiet_bitsandbytes()
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def quantization(compute: torch.dtype = torch.float32):
    """NF4 with double quantization, as the paper uses it; products are computed in `compute`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def load_four_bit(kind, source: str, device: str = "cpu", compute: torch.dtype = torch.float32):
    """`kind.from_pretrained` with 4-bit linear layers; the embeddings and normalisations stay as they are.

    kind: an Auto class, such as `AutoModel`. source: a folder, or a name on the Hub.
    """
    model = kind.from_pretrained(
        source, quantization_config=quantization(compute), device_map={"": device}, dtype=torch.float32
    )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # BERT's pooler would come with random weights that no lesson uses
    return keep_packing(model)


def keep_packing(model: Any) -> Any:
    """Forbid 4-bit layers to repack themselves when they first evaluate.

    On CPUs with AVX512_BF16, bitsandbytes lays the weights out for inference at that moment: products are then
    rounded to bfloat16, and a model that goes back to training gets no gradient through the layer, or an error.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


@functools.cache
def unpacks_rightly(columns: int) -> bool:
    """Whether bitsandbytes returns NF4 rows of `columns` weights unchanged on this machine's CPU.

    bitsandbytes chooses its code by the processor's instructions when it runs. Its AVX-512 code (0.50.2) finds the
    scale of a weight by `row * (columns // 64)`. Packing counts blocks across rows, so the two disagree where a row is
    not a multiple of 64 weights long. Its other code agrees with the packing for every length.

    The test is a round trip that has no rounding error: each block holds one value, which is its own scale.
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    values = torch.arange(1.0, columns + 1).repeat_interleave(BLOCK).reshape(BLOCK, columns)  # `columns` blocks
    return torch.equal(dequantize_4bit(*quantize_4bit(values, blocksize=BLOCK, quant_type="nf4")), values)


def check_rows(body: nn.Module, device: str = "cpu", round_trip: Callable[[int], bool] = unpacks_rightly) -> None:
    """Refuse a model that bitsandbytes would unpack wrongly, and silently, on this machine's CPU.

    Args:
        body: the model before quantization.
        device: where it will run; only "cpu" is checked.
        round_trip: whether rows of that many weights come back unchanged.

    Raises:
        UserError: when a linear layer has rows that do not come back.
    """
    if device != "cpu":
        return
    lengths = sorted({layer.in_features for layer in linear_layers(body).values()})
    wrong = [length for length in lengths if not round_trip(length)]
    if wrong:
        raise UserError(
            f"model: some of its matrices have rows of {wrong[0]} weights. With this processor's instructions "
            f"({torch.backends.cpu.get_cpu_capability()}), bitsandbytes unpacks 4-bit rows of that length wrongly. "
            f"Take a model whose layers are a multiple of {BLOCK} wide, or run the lesson on a GPU or on a processor "
            "without AVX-512."
        )


def with_lora(body: nn.Module, rank: int = RANK, alpha: int = ALPHA):
    """The body with LoRA on every linear layer, by `peft`; all else is frozen.

    Raises:
        UserError: when the rank is not possible for the smallest layer.
    """
    from peft import LoraConfig, get_peft_model

    sides = [min(layer.in_features, layer.out_features) for layer in linear_layers(body).values()]
    check_number("rank", rank, 1, min(sides), integer=True)
    return get_peft_model(body, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear"))


def classifier(
    method: str,
    track: str,
    model: str = "",
    num_labels: int = 2,
    *,
    rank: int = RANK,
    alpha: int = ALPHA,
    device: str = "cpu",
) -> MeanPoolClassifier:
    """The encoder ready to be trained by one of the three methods, with a new head that always is.

    Raises:
        UserError: when there is no such method.
    """
    choose("method", method, METHODS)
    if method != "qlora":
        body = catalog.body("encoder", track, model)
        return MeanPoolClassifier(body if method == "full" else with_lora(body, rank, alpha), num_labels).to(device)
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModel

    body = load_four_bit(AutoModel, catalog.model_source("encoder", track, model), device)
    body = prepare_model_for_kbit_training(body, use_gradient_checkpointing=False)
    return MeanPoolClassifier(with_lora(body, rank, alpha), num_labels).to(device)


def fit(
    model: nn.Module,
    rows: TokenizedReviews,
    collate: Collate,
    *,
    learning_rate: float,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> float:
    """Train in place with `Trainer`, the same settings for every method; returns the seconds.

    Rows of similar length share a batch. Nothing is saved or logged; a bar says how long it takes.
    """
    plan = _plan(model, rows, collate)
    with tempfile.TemporaryDirectory() as folder:
        trainer = quiet_trainer(
            model,
            rows,
            collate,
            folder,
            seed=seed,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH_SIZE // plan.microbatches,
            gradient_accumulation_steps=plan.microbatches,
            learning_rate=learning_rate,
            weight_decay=0.01,
            warmup_steps=math.ceil(0.1 * epochs * math.ceil(len(rows) / BATCH_SIZE)),
            optim="adamw_torch",
            train_sampling_strategy="group_by_length",
            logging_strategy="no",
        )
        trainer.add_callback(_bar())
        with Stopwatch() as watch:
            trainer.train()
    return watch.seconds


def _plan(model: nn.Module, rows: TokenizedReviews, collate: Collate) -> MicrobatchPlan:
    """How the batch of the longest rows fits the free memory; switches checkpointing on where the plan has it."""
    longest = sorted(range(len(rows)), key=lambda row: -len(rows[row]["input_ids"]))[:BATCH_SIZE]
    plan = plan_microbatches(model, collate([rows[row] for row in longest]))
    if plan.checkpointed:
        checkpoint(model)
    return plan


def _bar():
    """A plain bar, as `helpers.training` has: the library's own is a widget, which a page cannot show."""
    from tqdm import tqdm
    from transformers import TrainerCallback

    class Bar(TrainerCallback):
        def on_train_begin(self, args, state, control, **_):
            self.bar = tqdm(total=state.max_steps, desc="training", leave=False)

        def on_step_end(self, args, state, control, **_):
            self.bar.update()

        def on_train_end(self, args, state, control, **_):
            self.bar.close()

    return Bar()
