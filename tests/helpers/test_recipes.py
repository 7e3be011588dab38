"""One recipe for each method and origin; a lesson's pocket numbers stay what they are."""

from __future__ import annotations

import json
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from helpers import dpo, qlora, recipes, reward_model
from helpers.catalog import POCKET_MODELS, origin
from helpers.lessons.lesson_02.experiment import SETTINGS
from helpers.lessons.lesson_07 import experiment as seven
from helpers.lessons.lesson_08 import experiment as eight
from helpers.lessons.lesson_09.experiment import VARIANTS
from helpers.recipes import GRID, LITERATURE, METHODS, POCKET, PUBLISHED, UNSEARCHED, Recipe, origin_of, recipe
from helpers.reference import FOLDER
from helpers.runtime import UserError


def test_the_pocket_recipes_are_those_that_the_lessons_always_used():
    assert {name: recipe(name).learning_rate for name in SETTINGS} == {
        "scratch": 5e-4, "head_only": 3e-2, "last_block": 2e-3, "full": 1e-3,
    }  # fmt: skip
    assert {name: one.learning_rate() for name, one in seven.methods().items()} == {
        "head_only": 3e-2, "bitfit": 1e-2, "last_block": 2e-3, "adapter": 1e-2, "ia3": 3e-2, "soft_prompt": 1e-1,
        "prefix": 1e-1, "lora": 4e-3, "full": 1e-3,
    }  # fmt: skip
    assert eight.RATES == {"head_only": 3e-2, "lora": 2e-3, "full": 5e-4}
    assert {name: one.learning_rate() for name, one in VARIANTS.items()} == {
        "lora": 2e-3, "lora_attention": 4e-3, "rslora": 2e-3, "dora": 4e-3, "lora_plus": 2e-3,
    }  # fmt: skip
    assert qlora.RATES == {"full": 1e-3, "lora": 3e-3, "qlora": 3e-3}
    assert (dpo.LEARNING_RATE, reward_model.LEARNING_RATE) == (2e-4, 1e-3)


def test_every_method_has_a_recipe_for_either_origin():
    assert set(POCKET) == set(PUBLISHED) == set(METHODS)
    for name in ("full", "sft", "reward_model", "ppo", "grpo", "dpo"):  # what moves every pretrained weight
        assert recipe(name, "published").learning_rate < recipe(name).learning_rate / 5


def searched() -> dict[str, dict]:
    """Method -> rate -> metric -> one value per seed, of the committed grids."""
    return json.loads((FOLDER / "recipes.json").read_text(encoding="utf-8"))["grids"]


def test_what_says_that_it_was_searched_is_exactly_what_has_a_grid():
    assert {name for name, one in PUBLISHED.items() if one.source == GRID} == set(searched())
    assert all(one.source.startswith(UNSEARCHED) for name, one in PUBLISHED.items() if name not in searched())


@pytest.mark.parametrize("method", searched())
def test_a_searched_rate_is_the_best_of_its_grid_with_three_seeds_around_it_and_no_edge(method):
    grid = {float(rate): found["accuracy"] for rate, found in searched()[method].items()}
    rates = sorted(grid)
    assert list(grid) == rates
    best = max(rates, key=lambda rate: fmean(grid[rate]))
    assert best == PUBLISHED[method].learning_rate
    place = rates.index(best)
    assert 0 < place < len(rates) - 1
    assert all(len(grid[rate]) >= 3 for rate in rates[place - 1 : place + 2])


def test_the_grids_settings_are_the_recipes():
    settings = json.loads((FOLDER / "recipes.json").read_text(encoding="utf-8"))["settings"]
    for method in set(searched()) - {"head_only"}:
        assert (PUBLISHED[method].epochs, PUBLISHED[method].batch_size) == (settings["epochs"], settings["batch_size"])
    head = PUBLISHED["head_only"]
    assert (head.epochs, head.batch_size) == (settings["head_epochs"], settings["head_batch_size"])
    assert (PUBLISHED["lora"].rank, PUBLISHED["lora"].alpha) == (settings["rank"], settings["alpha"])


def test_the_models_size_says_where_it_comes_from():
    small = SimpleNamespace(model_type="bert", hidden_size=128, num_hidden_layers=4)
    assert origin_of(small) == "pocket"
    small.hidden_size = 384
    assert origin_of(small) == origin_of(SimpleNamespace(model_type="gpt2")) == "published"


@pytest.mark.parametrize("role", POCKET_MODELS)
def test_this_repositorys_models_are_pocket_models_also_as_a_folder_of_ones_own(role):
    if not POCKET_MODELS[role].is_dir():
        pytest.skip("the pocket track is not made yet")
    assert origin(role, "pocket") == origin(role, "real", str(POCKET_MODELS[role])) == "pocket"


def test_any_other_folder_holds_a_published_model(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 384}))
    assert origin("encoder", "pocket", str(tmp_path)) == "published"


def test_a_recipe_is_printed_with_what_it_rests_on():
    lora = Recipe(1e-3, 2, rank=8, alpha=16, targets="attention", source=recipes.GRID)
    assert str(lora) == (
        "learning rate 0.001, 2 epochs, batches of 16, warm-up over 10% of the steps, rank 8, alpha 16, attention "
        "(the best of a grid on validation rows)"
    )
    constant = str(Recipe(5e-4, epochs=1, warmup=None))
    assert constant.startswith("learning rate 0.0005, 1 epoch, batches of 16, constant rate (")
    assert LITERATURE in str(recipe("prefix", "published")) and "not searched" in LITERATURE


def test_what_a_learner_gives_takes_the_recipes_place_and_nothing_else_does():
    own = recipe("full", "published").override(learning_rate=0, epochs=7)
    assert (own.learning_rate, own.epochs) == (recipe("full", "published").learning_rate, 7)
    assert own.scaled(2).learning_rate == 2 * own.learning_rate


@pytest.mark.parametrize(("given", "said"), [(("fll",), 'Did you mean "full"'), (("full", "hub"), "origin is")])
def test_a_method_or_origin_that_does_not_exist_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        recipe(*given)
