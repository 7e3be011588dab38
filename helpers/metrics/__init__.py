"""Local metrics for `evaluate.load(path(name))`, because metrics from the hub need a network."""

from pathlib import Path


def path(name: str) -> str:
    """Return the folder of the metric `name`, as `evaluate.load` takes it."""
    return str(Path(__file__).parent / name)
