"""The methods of lesson 07: each trains what it names and nothing else, and its file brings it back."""

from __future__ import annotations

import copy
import pickle
import random

import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from helpers.batches import TokenizedReviews, pad
from helpers.lessons.lesson_02.experiment import Task
from helpers.lessons.lesson_07 import experiment
from helpers.runtime import UserError
from helpers.training import trainable_parameters

SIZES = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {"length": 3, "rank": 2, "size": 4}
NAMES = ["head_only", "bitfit", "last_block", "adapter", "ia3", "soft_prompt", "prefix", "lora", "full"]
HEAD = 2 * 16 + 2
BLOCK = 4 * (16 * 16 + 16) + 2 * 16 * 32 + 32 + 16 + 4 * 16
EXPECTED = {
    "head_only": 0,
    "bitfit": 16 + 2 * (5 * 16 + 32 + 2 * 16),  # the embeddings' normalisation, then each block
    "last_block": BLOCK,
    "adapter": 2 * 2 * (2 * 16 * 4 + 4 + 16),
    "ia3": 2 * (2 * 16 + 32),
    "soft_prompt": 3 * 16,
    "prefix": 2 * 2 * 3 * 16,
    "lora": 2 * 2 * (2 * 2 * 16),
}


class Padding:
    pad_token_id = 0


def language_model() -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(**SIZES, intermediate_size=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return BertForMaskedLM(config).eval()


def rows(count: int, seed: int) -> TokenizedReviews:
    """Rows whose label is the token that they open with."""
    draw = random.Random(seed)
    ids = [[draw.choice((1, 2))] + [draw.randrange(3, 30) for _ in range(draw.randrange(2, 6))] for _ in range(count)]
    return TokenizedReviews(ids, [row[0] - 1 for row in ids])


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(None, rows(48, 0), rows(32, 1), pad(Padding()))


@pytest.fixture(params=NAMES)
def method(request) -> experiment.Method:
    return experiment.methods(**SMALL)[request.param]


def batch(task: Task) -> dict[str, torch.Tensor]:
    """A few rows without their labels, which a language model would take for words to guess."""
    made = task.collate([task.test_rows[i] for i in range(8)])
    return {name: made[name] for name in ("input_ids", "attention_mask")}


def logits(model: nn.Module, task: Task) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**batch(task)).logits


def test_the_map_is_whole():
    found = experiment.methods()
    assert list(found) == NAMES
    assert {method.family for method in found.values()} == {"selective", "additive", "reparameterised", "all"}


def test_each_trains_as_many_numbers_as_its_formula_says(method):
    both = experiment.pair(language_model(), method.adapt)
    wanted = EXPECTED.get(method.name, both.classifier.body.num_parameters() if method.name == "full" else None)
    assert trainable_parameters(both.classifier) == wanted + HEAD


def test_training_changes_what_may_move_and_nothing_else(method, task):
    untouched = experiment.pair(language_model(), method.adapt)
    names = set(experiment.trained_part(untouched.classifier))
    torch.manual_seed(0)
    both, outcome = experiment.fine_tune(method, language_model(), task, epochs=2, seed=0, origin="pocket")
    start, after = untouched.classifier.state_dict(), both.classifier.state_dict()
    drawn = {"body.prompt"} | {name for name in names if "keys" in name or "down" in name or "lora_A" in name}
    changed = {name for name in after if not torch.equal(after[name], start[name])}
    # A unit of the embeddings that no row uses has no gradient, so "full" may leave a few alone.
    assert changed <= names | drawn
    assert changed >= {name for name in names if name.startswith("head")}
    assert len(outcome.predictions) == 32 and outcome.parameters == trainable_parameters(both.classifier)
    assert outcome.seconds > 0 and outcome.losses


def test_added_parts_leave_the_pretrained_numbers_alone_to_the_bit(method, task):
    both, _ = experiment.fine_tune(method, language_model(), task, epochs=2, seed=0, origin="pocket")
    old = dict(language_model().base_model.named_parameters())
    assert set(both.base) == set(old)
    changed = {name for name, value in old.items() if not torch.equal(value, both.base[name])}
    assert (not changed) == (method.family in ("additive", "reparameterised") or method.name == "head_only")


def test_training_in_bfloat16_sees_its_own_updates(task):
    method = experiment.methods(**SMALL)["full"]
    _, outcome = experiment.fine_tune(method, language_model(), task, epochs=30, seed=0, origin="pocket")
    assert sum(outcome.losses[-5:]) / 5 < 0.35  # a cached copy of the first weights would keep it at ln 2


def test_the_language_model_feels_what_the_classifier_learns(task):
    method = experiment.methods(**SMALL)["adapter"]
    both, _ = experiment.fine_tune(method, language_model(), task, epochs=2, seed=0, origin="pocket")
    assert both.classifier.body is both.language_model.base_model
    assert not torch.equal(logits(both.language_model, task), logits(language_model(), task))


def test_a_saved_part_brings_the_predictions_back_to_the_bit(method, task, tmp_path):
    both, _ = experiment.fine_tune(method, language_model(), task, epochs=1, seed=0, origin="pocket")
    size = experiment.save_trained(both.classifier, tmp_path / "trained.safetensors")
    numbers = trainable_parameters(both.classifier)
    assert 4 * numbers < size < 4 * numbers + 20_000  # float32 and a header of names
    torch.manual_seed(7)  # other draws than in training
    fresh = experiment.pair(language_model(), method.adapt).classifier
    assert not torch.equal(logits(fresh, task), logits(both.classifier, task))
    experiment.load_trained(fresh, tmp_path / "trained.safetensors")
    assert torch.equal(logits(fresh, task), logits(both.classifier, task))


def test_a_file_of_another_method_or_size_is_refused_and_changes_nothing(tmp_path):
    path = tmp_path / "trained.safetensors"
    of = experiment.methods(**SMALL)
    experiment.save_trained(experiment.pair(language_model(), of["adapter"].adapt).classifier, path)
    for adapt in (of["lora"].adapt, experiment.methods(size=5)["adapter"].adapt):
        model = experiment.pair(language_model(), adapt).classifier
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(UserError, match=r"does not belong to a model adapted like this one: \"body\..* here"):
            experiment.load_trained(model, path)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_pickle_is_one_sentence(tmp_path):
    path = tmp_path / "trained.safetensors"
    path.write_bytes(pickle.dumps({"head.weight": 1}))
    model = experiment.pair(language_model(), experiment.freeze).classifier
    with pytest.raises(UserError, match=r"trained\.safetensors is not a safetensors file"):
        experiment.load_trained(model, path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    path = tmp_path / "trained.safetensors"
    model = experiment.pair(language_model(), experiment.freeze).classifier
    part = {name: value.clone() for name, value in experiment.trained_part(model).items()}
    part["head.bias"][0] = float("nan")
    save_file(part, path)
    with pytest.raises(UserError, match=r'"head\.bias" in trained\.safetensors holds numbers that are not finite'):
        experiment.load_trained(model, path)


def test_memory_counts_activations_and_what_the_optimizer_keeps(task):
    batch = task.collate([task.train_rows[row] for row in range(4)])
    found = {}
    for name in ("head_only", "lora", "full"):
        both = experiment.pair(language_model(), experiment.methods(**SMALL)[name].adapt)
        found[name] = experiment.training_bytes(both.classifier, batch)
        assert found[name]["gradients and AdamW"] == 12 * trainable_parameters(both.classifier)
    assert found["head_only"]["activations"] < found["lora"]["activations"]


def test_what_a_page_wrote_itself_takes_the_helpers_place():
    found = experiment.methods(own={"bitfit": experiment.freeze})
    assert list(found) == NAMES
    assert found["bitfit"].adapt is experiment.freeze and found["ia3"].adapt is experiment.methods()["ia3"].adapt


def test_folded_computes_what_the_rescaled_layer_computes():
    torch.manual_seed(0)
    layer, inputs, outputs, x = nn.Linear(4, 3), torch.rand(4) + 0.5, torch.rand(3) + 0.5, torch.randn(2, 4)
    with torch.inference_mode():
        weight, bias = experiment.folded(layer.weight, layer.bias, inputs, outputs)
        torch.testing.assert_close(nn.functional.linear(x, weight, bias), outputs * layer(inputs * x))


@pytest.mark.parametrize(("names", "each"), [(["query", "value"], 4 * 32), (["query", "key", "value", "dense"], 448)])
def test_lora_within_a_budget_takes_the_largest_rank_that_fits(names, each):
    model = BertForMaskedLM(BertConfig(**SIZES, intermediate_size=32))
    both = experiment.pair(model, experiment.within(names, 3 * each + 1).adapt)
    assert trainable_parameters(both.classifier) == 3 * each + HEAD


def test_baselines_are_fitted_to_the_training_rows_and_judged_on_the_others():
    train = Dataset.from_dict({"text": ["good", "bad", "good", "good", "bad"], "label": [1, 0, 1, 1, 0]})
    test = Dataset.from_dict({"text": ["a good one", "a bad one", "so bad", "bad"], "label": [1, 0, 0, 0]})
    assert experiment.baselines(train, test) == {"majority": 0.25, "bag_of_words": 1.0}
