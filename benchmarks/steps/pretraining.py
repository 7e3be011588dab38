"""Measure the speed of `microworld.pretraining` as a share of the speed of this machine's matrix products.

torch counts the products of one step. The machine's peak is its best speed for a float32 product of two square
matrices, measured alternately with the training.
"""

from __future__ import annotations

from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.steps.harness import Row, Seconds, Spread, Target, by_turns, timed
from helpers import catalog
from microworld.pretraining.loop import Recipe, run
from microworld.pretraining.making import BLOCK, PocketModel

BATCH_SIZE = Recipe(tokens=0).batch_size
STEPS, TOY_STEPS = 12, 1
SIZES, TOY_SIZES = (512, 1024, 2048), (64,)
AT_LEAST = Target("at least", 0.45)


def products_per_second(size: int) -> float:
    """Return the floating-point operations per second of a matrix product of this size, the best of five."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    work = timed(lambda: one @ other)
    work()
    return 2 * size**3 / min(work() for _ in range(5))


def operations(made: PocketModel) -> int:
    """Return the floating-point operations in the matrix products of one step, forward and backward.

    The model runs without the compiler and with attention as plain matrix products, so that all products are counted.
    """
    with (
        torch.compiler.set_stance("force_eager"),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as flops,
    ):
        made.loss(Recipe(tokens=0))(blocks_of(made)[:BATCH_SIZE]).backward()
    made.model.zero_grad()
    return flops.get_total_flops()


def blocks_of(made: PocketModel) -> torch.Tensor:
    """Return random tokens, (blocks, BLOCK). The choice of tokens does not affect the time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(5, made.model.config.vocab_size, (4 * BATCH_SIZE, BLOCK), generator=generator)


def training(made: PocketModel, steps: int) -> Seconds:
    """Return a function that runs `steps` steps of the real loop in float32 and returns its seconds."""
    recipe = Recipe(tokens=steps * BATCH_SIZE * BLOCK, learning_rate=1e-5)
    loss, blocks = made.loss(recipe), blocks_of(made)
    return lambda: run(made.model, loss, blocks, recipe, lambda line: None)


def measure(rounds: int, toy: bool) -> list[Row]:
    """Return the share of the peak that each pocket model's training reaches. Compilation happens in the warm-up."""
    steps = TOY_STEPS if toy else STEPS
    size = max(TOY_SIZES if toy else SIZES, key=products_per_second)
    one, other = torch.randn(size, size), torch.randn(size, size)
    times = 1 if toy else max(1, round(2e10 / (2 * size**3)))
    rows = []
    for kind in ("decoder", "encoder"):
        made = PocketModel.resume(kind, catalog.POCKET_MODELS[kind], "cpu")
        work = steps * operations(made)
        turns = by_turns(training(made, steps), timed(lambda: one @ other, times), rounds)
        shares = [
            (work / ours) / (times * 2 * size**3 / peak) for ours, peak in zip(turns.ours, turns.beside, strict=True)
        ]
        tokens = steps * BATCH_SIZE * BLOCK / median(turns.ours)
        peak = times * 2 * size**3 / median(turns.beside) / 1e9
        who = f"{tokens:,.0f} tokens/s", f"{peak:,.0f} GFLOP/s, {size} x {size}"
        note = f"pocket {kind}, float32, {work / steps / 1e9:.1f} GFLOP of products in a step of {BATCH_SIZE} x {BLOCK}"
        rows.append(Row("pretraining", *who, Spread.of(shares), AT_LEAST, note))
    return rows
