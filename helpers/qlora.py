"""The training of lesson 11: one model with full fine-tuning, with LoRA, and with LoRA on 4-bit weights (QLoRA).

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
RATES = {method: recipe(method, lesson="11").learning_rate for method in METHODS}  # for the pocket models
LABELS = 1200
EPOCHS = 3
RANK = 8
ALPHA = 16
BLOCK = 64  # number of weights that share a scale


def drop_two_notices() -> None:
    """Silence two messages that a learner cannot act on, and no others.

    bitsandbytes reports that the package `kernels` is missing, which has an optional faster matrix product from the
    Hub. `peft` uses a deprecated name of `transformers` for gradient checkpointing.
    """
    quiet_bitsandbytes()
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def quantization(compute: torch.dtype = torch.float32):
    """Return the config of NF4 with double quantization, as in the paper; matrix products use the dtype `compute`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def load_four_bit(kind, source: str, device: str = "cpu", compute: torch.dtype = torch.float32):
    """Call `kind.from_pretrained` with 4-bit linear layers; embeddings and normalizations are not quantized.

    kind: an Auto class, such as `AutoModel`. source: a folder, or a name on the Hub.
    """
    model = kind.from_pretrained(
        source, quantization_config=quantization(compute), device_map={"": device}, dtype=torch.float32
    )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # BERT's pooler may have random weights, and no lesson uses it
    return keep_packing(model)


def keep_packing(model: Any) -> Any:
    """Prevent 4-bit layers from repacking their weights in their first evaluation.

    On CPUs with AVX512_BF16, bitsandbytes would then repack the weights for inference: products are rounded to
    bfloat16, and a model that returns to training gets no gradient through the layer, or an error.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


@functools.cache
def unpacks_rightly(columns: int) -> bool:
    """Whether bitsandbytes restores NF4 rows of `columns` weights correctly on this machine's CPU.

    bitsandbytes chooses its code by the processor's instructions at run time. Its AVX-512 code (0.50.2) finds the
    scale of a weight by `row * (columns // 64)`. Packing counts blocks across rows, so the two disagree if a row's
    length is not a multiple of 64. Its other code agrees with the packing for every length.

    The test is a round trip without rounding error: all weights of a block have one value, which is also its scale.
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    values = torch.arange(1.0, columns + 1).repeat_interleave(BLOCK).reshape(BLOCK, columns)  # `columns` blocks
    return torch.equal(dequantize_4bit(*quantize_4bit(values, blocksize=BLOCK, quant_type="nf4")), values)


def check_rows(body: nn.Module, device: str = "cpu", round_trip: Callable[[int], bool] = unpacks_rightly) -> None:
    """Refuse a model that bitsandbytes would dequantize wrongly, without an error, on this machine's CPU.

    Args:
        body: the model before quantization.
        device: the device that will run the model; only "cpu" is checked.
        round_trip: a function that says whether rows of this length are restored correctly.

    Raises:
        UserError: when a linear layer has rows that are not restored correctly.
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
    """Add LoRA to every linear layer of the body with `peft`; all other parameters are frozen.

    Raises:
        UserError: when the rank is out of range for the smallest layer.
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
    """Return the encoder prepared for one of the three methods, with a new head, which every method trains.

    Raises:
        UserError: when the method is unknown.
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
    """Train in place with `Trainer` and the same settings for every method; return the seconds.

    Rows of similar length share a batch. Nothing is saved or logged; a bar shows the progress.
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
    """Return the plan for the batch of the longest rows, and enable checkpointing if the plan contains it."""
    longest = sorted(range(len(rows)), key=lambda row: -len(rows[row]["input_ids"]))[:BATCH_SIZE]
    plan = plan_microbatches(model, collate([rows[row] for row in longest]))
    if plan.checkpointed:
        checkpoint(model)
    return plan


def _bar():
    """Return a callback with a text progress bar; a web page cannot show the library's own bar, which is a widget."""
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
