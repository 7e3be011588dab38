"""A hub on loopback, and this process turned to it: its own cache, no real waiting."""

from __future__ import annotations

import time

import pytest
from huggingface_hub import constants, file_download

from tests.helpers.hub.server import Hub, Repository

MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": bytes(range(256)) * 400,  # large: behind a redirect
    "README.md": b"# A model\n",
    "pytorch_model.bin": b"never fetched",
    "onnx/model.json": b"never fetched",
}
TINY = {
    ("models", "some/model"): Repository(MODEL),
    ("models", "only/pickle"): Repository({"config.json": b"{}", "pytorch_model.bin": b"pickle"}),
    ("datasets", "some/rows"): Repository({"data/train.jsonl": b'{"text": "A gem."}\n', "notes.md": b"no table"}),
}


@pytest.fixture
def naps(monkeypatch) -> list[float]:
    """The seconds that somebody wanted to wait; nobody does."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


@pytest.fixture
def turned_to(monkeypatch, tmp_path):
    """A function that turns this process to a hub's address, with an empty cache."""

    def turn(address: str) -> None:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
        monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", 0.5)

    return turn


@pytest.fixture
def hub(turned_to, naps):
    with Hub(TINY) as served:
        turned_to(served.address)
        yield served
