"""The trials on published models and real text, with the numbers that the lessons' sections "On real text" record.

The rules use the thresholds of the ledger's file. "Better" is a difference above 0; "the same accuracy" is within one
point; "well adapted" is more than half of the way; a perplexity that "stays" is at most a tenth higher. A claim that
those sections do not measure has no trial here, and so no second verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbook.claims.ledger import Claim, Trial

SOURCES = ("products", "editorials", "tweets")  # of lesson 03's sentences, besides films


def _trial(lesson: str, setting: str, *rules: str, hard: bool = False) -> Trial:
    return Trial.model_validate({"lesson": lesson, "setting": setting, "rules": list(rules), "hard": hard})


def _way(method: str) -> str:
    return f"(accuracy_{method} - accuracy_head_only) / (accuracy_full - accuracy_head_only) > 0.5"


FULL_OVER_HEAD, SAME = "accuracy_full - accuracy_head_only > 0", "accuracy_lora - accuracy_full = 0 ± 0.01"
TRIALS: Mapping[str, tuple[Trial, ...]] = {
    "adapts-to-task": (
        _trial("02", "1,500 sentences, against always the most frequent label (53.4 %)", "accuracy_full > 0.534"),
        _trial("02", "against a bag of words", "accuracy_full - accuracy_bag_of_words > 0", hard=True),
    ),
    "full-90-percent": (
        _trial("02", "1,500 labelled sentences", "accuracy_full > 0.9"),
        _trial("07", "480 labelled sentences", "accuracy_full > 0.9", hard=True),
    ),
    "last-layer-worse": (
        _trial("02", "1,500 labelled sentences", FULL_OVER_HEAD),
        _trial("07", "480 labelled sentences", FULL_OVER_HEAD, hard=True),
        _trial("03", "400 labels, tested on films", "accuracy_full_films - accuracy_head_only_films > 0", hard=True),
        *(
            _trial("03", f"tested on {name}", f"accuracy_full_{name} - accuracy_head_only_{name} > 0", hard=True)
            for name in SOURCES
        ),
    ),
    "transfers-learning": (
        _trial(
            "02",
            "a pretrained encoder against a bag of words, which has no pretraining",
            "accuracy_full - accuracy_bag_of_words > 0",
        ),
        _trial(
            "02", "its features with a linear head, against the same", "accuracy_head_only - accuracy_bag_of_words > 0",
            hard=True,
        ),
    ),
    "underfitting": (
        _trial("02", "all parameters against the head alone, 1,500 labels", FULL_OVER_HEAD),
        _trial("07", "480 labels", FULL_OVER_HEAD, hard=True),
    ),
    "forgetting": (
        _trial(
            "03",
            "film sentences found again by the body, at most a point fewer than before",
            "found_before_films - found_after_films <= 0.01",
        ),
        *(
            _trial("03", f"the same with {name}", f"found_before_{name} - found_after_{name} <= 0.01", hard=True)
            for name in SOURCES
        ),
    ),
    "supervised": (
        _trial("04", "sentences judged in a conversation, before and after", "accuracy_sft - accuracy_zero_shot > 0"),
        _trial("04", "at least nine of ten right", "accuracy_sft > 0.9", hard=True),
    ),
    "peft-effective": (
        _trial("07", "LoRA", _way("lora")),
        _trial("07", "adapter", _way("adapter")),
        _trial("07", "BitFit", _way("bitfit"), hard=True),
    ),
    "peft-selective": (
        _trial("02", "the last block, against the head alone", "accuracy_last_block - accuracy_head_only > 0"),
        _trial("07", "BitFit, against the head alone", "accuracy_bitfit - accuracy_head_only > 0", hard=True),
    ),
    "peft-additive": (
        _trial("07", "bottleneck adapter, against the head alone", "accuracy_adapter - accuracy_head_only > 0"),
    ),
    "peft-reparameterised": (
        _trial("07", "LoRA, against the head alone", "accuracy_lora - accuracy_head_only > 0"),
    ),
    "lora-specific-use": (
        _trial("07", "480 labelled sentences", _way("lora")),
        _trial("08", "by hand, as good as all parameters, within one point", SAME, hard=True),
        _trial("09", "by peft, as good as all parameters, within one point", SAME, hard=True),
    ),
    "qlora-memory": (
        _trial("11", "the peak of a training step of SmolLM2", "peak_bytes_qlora / peak_bytes_lora < 1"),
        _trial("11", "at most half of it", "peak_bytes_qlora / peak_bytes_lora < 0.5", hard=True),
    ),
    "qlora-as-good": (
        _trial("11", "480 labelled sentences", "accuracy_lora - accuracy_qlora <= 0.01"),
        _trial("11", "no worse than LoRA at all", "accuracy_qlora - accuracy_lora >= 0", hard=True),
    ),
    "quantization-accuracy": (
        _trial("11", "4 bits, after training with LoRA", "accuracy_lora_then_4_bits - accuracy_lora = 0 ± 0.01"),
        _trial("10", "SmolLM2, NF4: perplexity", "perplexity_nf4 / perplexity_file < 1.1", hard=True),
        _trial("10", "SmolLM2, 3 bits, nearest: perplexity", "perplexity_nearest_3 / perplexity_file < 1.1", hard=True),
    ),
}  # fmt: skip


def on_real_text(claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims with their trials replaced by those on real text; a claim without such trials has none."""
    return [claim.model_copy(update={"trials": TRIALS.get(claim.id, ())}) for claim in claims]
