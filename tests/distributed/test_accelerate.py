"""Two processes under `accelerate launch` learn what one learns with the same batch over all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

SCRIPT = Path(__file__).with_name("one_training.py")
ROOT = SCRIPT.parents[2]


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def trained(out: Path, method: str, processes: int, batch: int) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    # "multi_gpu" is torch's own launcher; the lesson asks for the CPU itself, and so the processes talk by gloo.
    command += ["--multi_gpu", "--main_process_port", str(free_port())] if processes > 1 else ["--cpu"]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run([*command, str(SCRIPT), str(out), method, str(batch)], env=settings, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    with safe_open(out, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_processes_learn_what_one_learns(method, tmp_path):
    alone, one = trained(tmp_path / "one.safetensors", method, processes=1, batch=16)
    together, two = trained(tmp_path / "two.safetensors", method, processes=2, batch=8)
    assert (alone["world"], together["world"], together["backend"]) == ("1", "2", "gloo")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, atol=2e-4, rtol=2e-3, msg=lambda said, name=name: f"{name}: {said}"
        )
