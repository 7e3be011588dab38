"""The training settings of each method: learning rate, batch size, epochs, warm-up, and the adapter's settings.

Published models need other learning rates than the pocket models, so each method has one recipe for each origin. The
pocket recipes come from the lessons' benchmarks. Published recipes with the source GRID are the best of a grid on
validation rows (`data/reference/recipes.json`, by `benchmarks/recipes.py`). The others were not fully searched: they
worked in a single trial run (TRIAL), are the best of three rates (SHORT), or are a guess after a paper (LITERATURE).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from helpers.runtime import choose

ORIGINS = ("pocket", "published")
POCKETS = "chosen for the pocket models"
GRID = "the best of a grid on validation rows"
UNSEARCHED = "not searched here"
TRIAL = f"{UNSEARCHED}: what a single trial run had"
SHORT = f"{UNSEARCHED} over seeds: the best of three rates with one seed and 480 sentences"
LITERATURE = f"{UNSEARCHED}: a guess after"
# Family, hidden size and number of layers of the pocket models, by which they are recognized even after fine-tuning.
POCKET_SIZES = {("bert", 128, 4), ("llama", 192, 4)}
ALL_LINEAR, ATTENTION, QUERY_VALUE = "all linear layers of the blocks", "attention", "queries and values"


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run except the model, the rows and the seed."""

    learning_rate: float
    epochs: int = 3
    batch_size: int = 16
    warmup: float | None = 0.1  # share of the steps, after which the rate decays linearly to 0; None: constant rate
    rank: int = 0
    alpha: int = 0
    targets: str = ""
    ratio: float = 1.0  # LoRA+: B's learning rate divided by A's
    source: str = POCKETS

    def override(self, **values: Any) -> Recipe:
        """Return the recipe with these values; a value of None or 0 keeps the recipe's own."""
        return replace(self, **{name: value for name, value in values.items() if value})

    def scaled(self, rate_scale: float) -> Recipe:
        """Return the recipe with its learning rate multiplied by `rate_scale`."""
        return replace(self, learning_rate=self.learning_rate * rate_scale)

    def __str__(self) -> str:
        passes = f"{self.epochs} epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        said = [f"learning rate {self.learning_rate:g}", passes, f"batches of {self.batch_size}"]
        if self.warmup is None:
            said.append("constant rate")
        elif self.warmup:
            said.append(f"warm-up over {self.warmup:.0%} of the steps")
        if self.rank:
            said.append(f"rank {self.rank}, alpha {self.alpha:g}, {self.targets}")
        if self.ratio != 1:
            said.append(f"B learns {self.ratio:g} times as fast as A")
        return f"{', '.join(said)} ({self.source})"


def _lora(learning_rate: float, epochs: int = 3, targets: str = ALL_LINEAR, **others: Any) -> Recipe:
    return Recipe(learning_rate, epochs, rank=8, alpha=16, targets=targets, **others)


# "head_only" trains on features that are computed once, so its many epochs cost almost nothing.
POCKET = {
    "head_only": Recipe(3e-2, epochs=40, batch_size=64),
    "last_block": Recipe(2e-3),
    "full": Recipe(1e-3),
    "scratch": Recipe(5e-4),
    "bitfit": Recipe(1e-2, epochs=4),
    "adapter": Recipe(1e-2, epochs=4),
    "ia3": Recipe(3e-2, epochs=4),
    "soft_prompt": Recipe(1e-1, epochs=4),
    "prefix": Recipe(1e-1, epochs=4),
    "lora": _lora(2e-3),
    "lora_query_value": _lora(4e-3, 4, QUERY_VALUE),
    "lora_attention": _lora(4e-3, 2, ATTENTION),
    "rslora": _lora(2e-3, 2),
    "dora": _lora(4e-3, 2),
    "lora_plus": _lora(2e-3, 2, ratio=4.0),
    "qlora": _lora(3e-3),
    "lora_decoder": _lora(5e-3, 1),
    "continued": Recipe(5e-4, epochs=1, warmup=None),
    "sft": Recipe(4e-4, epochs=2),
    "reward_model": Recipe(1e-3, epochs=2),
    "ppo": Recipe(5e-4, epochs=2, batch_size=32, warmup=None),
    "grpo": Recipe(1.5e-4, epochs=2, batch_size=32, warmup=None),
    "rloo": Recipe(3e-4, epochs=2, batch_size=32, warmup=None),
    "dpo": Recipe(2e-4, epochs=1),
}
METHODS = tuple(POCKET)
OF_LESSON = {
    ("04", "sft"): Recipe(6e-4, epochs=1),
    **{("07", name): replace(POCKET[name], epochs=4) for name in ("last_block", "full")},
    ("08", "lora"): _lora(2e-3, 6),
    ("08", "full"): Recipe(5e-4),
    ("09", "lora"): _lora(2e-3, 2),
    ("11", "lora"): _lora(3e-3),
}


def _start(learning_rate: float, work: str, epochs: int = 2, **others: Any) -> Recipe:
    return Recipe(learning_rate, epochs, source=f"{LITERATURE} {work}", **others)


def _lora_start(learning_rate: float, work: str, epochs: int = 2, targets: str = ALL_LINEAR, **others: Any) -> Recipe:
    return _start(learning_rate, work, epochs, rank=8, alpha=16, targets=targets, **others)


PUBLISHED = {
    "head_only": Recipe(1e-3, epochs=40, batch_size=64, source=GRID),
    "last_block": Recipe(4e-3, epochs=2, source=GRID),
    "full": Recipe(1e-4, epochs=2, source=TRIAL),
    "scratch": Recipe(5e-4, epochs=2, source=TRIAL),
    "bitfit": Recipe(3e-3, epochs=2, source=SHORT),
    "adapter": Recipe(3e-3, epochs=2, source=SHORT),
    "ia3": _start(3e-3, "Liu et al. 2022", epochs=4),
    "soft_prompt": _start(3e-2, "Lester et al. 2021", epochs=4),
    "prefix": _start(1e-2, "Liu et al. 2022, P-Tuning v2", epochs=4),
    "lora": _lora(1e-3, 2, source=TRIAL),
    "lora_query_value": _lora(3e-3, 2, QUERY_VALUE, source=SHORT),
    "lora_attention": _lora_start(1e-3, "Hu et al. 2022", 2, ATTENTION),
    "rslora": _lora_start(1e-3, "Kalajdzievski 2023"),
    "dora": _lora_start(1e-3, "Liu et al. 2024"),
    "lora_plus": _lora_start(5e-4, "Hayou et al. 2024", ratio=4.0),
    "qlora": _lora_start(1e-3, "Dettmers et al. 2023"),
    "lora_decoder": _lora(1e-3, 1, source=TRIAL),
    "continued": _start(1e-4, "Gururangan et al. 2020", 1, warmup=None),
    "sft": _start(5e-5, "Ouyang et al. 2022", 1),
    "reward_model": _start(2e-5, "Ouyang et al. 2022", 1),
    "ppo": _start(1e-5, "Ziegler et al. 2019", 2, batch_size=32, warmup=None),
    "grpo": _start(1e-5, "Shao et al. 2024", 2, batch_size=32, warmup=None),
    "rloo": _start(1e-5, "Ahmadian et al. 2024", 2, batch_size=32, warmup=None),
    "dpo": _start(5e-6, "Rafailov et al. 2023", 1),
}


def origin_of(config: Any) -> str:
    """Return "pocket" if the model has the family and size of a pocket model, else "published".

    config: a `transformers` configuration.
    """
    size = tuple(getattr(config, name, None) for name in ("model_type", "hidden_size", "num_hidden_layers"))
    return "pocket" if size in POCKET_SIZES else "published"


def recipe(method: str, origin: str = "pocket", lesson: str = "") -> Recipe:
    """Return the recipe of a method.

    Args:
        method: one of METHODS.
        origin: the result of `origin_of` for the loaded model.
        lesson: such as "08"; for pocket models, some lessons have their own recipes, for their task and labels.

    Raises:
        UserError: when the method or origin is unknown.
    """
    choose("method", method, METHODS)
    choose("origin", origin, ORIGINS)
    if origin == "published":
        return PUBLISHED[method]
    return OF_LESSON.get((lesson, method), POCKET[method])
