"""Local modules for `evaluate.load(path(name))`: the ones on the hub need a network."""

from pathlib import Path


def path(name: str) -> str:
    """Where the metric `name` lies, in the form that `evaluate.load` takes."""
    return str(Path(__file__).parent / name)
