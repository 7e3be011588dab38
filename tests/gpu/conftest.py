"""The device of these tests: CUDA, or they are left out."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def device() -> str:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return "cuda"
