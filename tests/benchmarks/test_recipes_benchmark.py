"""The search of rates: one seed for the whole grid, three around the best, no best at an edge, nothing done twice."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks import recipes


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, float, int]]:
    """Trainings that cost nothing: the accuracy falls with the distance from 1e-3, and seed 0 likes 3e-3 by chance."""
    calls: list[tuple[str, float, int]] = []

    def trained(method: str, rate: float, seed: int) -> dict[str, float]:
        calls.append((method, rate, seed))
        accuracy = {1e-4: 0.6, 3e-4: 0.7, 1e-3: 0.8, 3e-3: 0.82 if seed == 0 else 0.7, 1e-2: 0.5}[rate]
        return {"accuracy": accuracy, "loss": 1 - accuracy}

    monkeypatch.setattr(recipes, "trained", trained)
    monkeypatch.setattr(recipes, "GRIDS", {"full": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)})
    return calls


def test_the_best_rate_over_seeds_is_found_though_one_seed_likes_another(asked, tmp_path):
    found = recipes.search(tmp_path, "full")
    seeds = {rate: len(values["accuracy"]) for rate, values in found.items()}
    assert seeds == {"0.0001": 1, "0.0003": 3, "0.001": 3, "0.003": 3, "0.01": 3}
    means = {rate: sum(values["accuracy"]) / len(values["accuracy"]) for rate, values in found.items()}
    assert max(means, key=means.get) == "0.001"


def test_a_second_call_trains_nothing(asked, tmp_path):
    first = recipes.search(tmp_path, "full")
    count = len(asked)
    assert recipes.search(tmp_path, "full") == first and len(asked) == count == 13


@pytest.mark.parametrize("grid", [(2e-3, 4e-3), (2.5e-4, 5e-4)], ids=["low edge", "high edge"])
def test_a_grid_grows_while_its_best_rate_is_at_an_edge(tmp_path, monkeypatch, grid):
    def trained(method: str, rate: float, seed: int) -> dict[str, float]:
        return {"accuracy": 1 / (1 + abs(rate - 1e-3))}

    monkeypatch.setattr(recipes, "trained", trained)
    monkeypatch.setattr(recipes, "GRIDS", {"full": grid})
    found = recipes.search(tmp_path, "full")
    assert {"0.0005", "0.001", "0.002"} <= set(found) and all(len(found[rate]["accuracy"]) == 3 for rate in ("0.001",))


def test_the_file_has_the_grids_and_their_settings(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "validation_rows", lambda: 1000)
    result = CliRunner().invoke(recipes.main, ["--into", str(tmp_path), "--parts", str(tmp_path / "parts")])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "recipes.json").read_text())
    assert list(written["grids"]) == ["full"] and written["settings"]["labels"] == recipes.LABELS


def test_grids_of_other_methods_stay_if_they_were_searched_in_the_same_way(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "validation_rows", lambda: 1000)
    recipes.write(tmp_path, {"lora": {"0.001": {"accuracy": [0.8]}}})
    recipes.write(tmp_path, {"full": {"0.0001": {"accuracy": [0.9]}}})
    assert list(json.loads((tmp_path / "recipes.json").read_text())["grids"]) == ["full", "lora"]
    monkeypatch.setattr(recipes, "LABELS", 10)
    recipes.write(tmp_path, {"scratch": {}})
    assert list(json.loads((tmp_path / "recipes.json").read_text())["grids"]) == ["scratch"]
