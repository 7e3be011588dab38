"""The names that a lesson records are read from its source, without running it."""

from __future__ import annotations

import pytest

from tests.workbook.claims.recorded import recorded

LESSON = """# %% [markdown]
# # A question?

# %%
from helpers.runtime import start

methods = ("lora", "Last block", "a long text that is certainly no part of any name")
sizes = [1, 8]

# %%
from helpers.record import record

values = {"seconds_all": 1.0}
for name in methods:
    values |= {f"accuracy_{name}": 1.0} | outcomes[name].metrics(name)
values |= found.metrics("by_hand")
values |= {f"loss_{name}{ending}": 1.0 for name in methods for ending in ("", "_again")}
values |= {f"accuracy_rank_{size}": 1.0 for size in sizes}
saved = record("99_toy", {}, gap=2.0, **values)
"""


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "99_toy.py"
    path.write_text(LESSON)
    return recorded(path)


@pytest.mark.parametrize(
    "name",
    ["seconds_all", "gap", "accuracy_lora", "accuracy_last_block", "peak_memory_bytes_by_hand",
     "trainable_parameters_lora", "accuracy_rank_8", "accuracy_rank_32", "loss_lora", "loss_lora_again"],
)  # fmt: skip
def test_what_is_recorded_is_known(names, name):
    assert name in names


@pytest.mark.parametrize(
    "name",
    ["seconds_alll", "accuracy_lorra", "accuracy", "accuracy_", "peak_bytes_by_hand", "loss_lora_twice", "gaps", "lora",
     "accuracy_by_hands", "accuracy_rank_x"],
)  # fmt: skip
def test_what_is_not_recorded_is_not(names, name):
    assert name not in names
