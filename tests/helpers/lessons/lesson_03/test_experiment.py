"""What lesson 03 measures with: recipes, masked texts, replay, splits by film."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from helpers.batches import TokenizedReviews, pad
from helpers.catalog import POCKET_MODELS
from helpers.evaluation import correct_and_loss
from helpers.lessons.lesson_03 import experiment, figures
from helpers.models import MeanPoolClassifier
from helpers.reference import Reference, load_reference
from helpers.runtime import UserError, check_number, start
from helpers.training import train_on_text
from workbook.lessons import find
from workbook.lessons.parameters import declared
from workbook.notebooks import from_source

LESSON = next(lesson for lesson in find() if lesson.number == "03")


class Padding:
    pad_token_id = 0


def toy() -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return BertForMaskedLM(config)


def batch(seed: int) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 30, (4, 7), generator=draws)
    labels = ids.masked_fill(torch.rand(4, 7, generator=draws) > 0.3, -100)
    labels[:, 0] = ids[:, 0]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@pytest.fixture
def rows() -> TokenizedReviews:
    return TokenizedReviews([[5 + label, 9, 10 + row % 7] for row in range(64) for label in [row % 2]], [0, 1] * 32)


@pytest.mark.parametrize(("labels", "passes"), [(1, 75), (25, 38), (100, 11), (400, 3), (5000, 3)])
def test_few_labels_are_read_more_often(labels, passes):
    assert experiment.epochs_for(labels) == passes


def test_learning_learns_and_answers_come_in_order(rows):
    classifier = MeanPoolClassifier(toy().base_model)
    history = train_on_text(classifier, rows, pad(Padding()), 5e-3, epochs=20)
    right, loss = correct_and_loss(classifier, rows, pad(Padding()))
    assert right.mean() > 0.9 and loss < math.log(2) and len(history.losses) == 80
    one_by_one = [
        classifier(**pad(Padding())([rows[row]])).logits.argmax().item() == rows.labels[row] for row in range(64)
    ]
    assert right.tolist() == [float(one) for one in one_by_one]


def test_a_rate_that_diverges_stops_in_words(rows):
    with pytest.raises(UserError, match="lower learning rate"):
        train_on_text(MeanPoolClassifier(toy().base_model), rows, pad(Padding()), 1e30, epochs=3)


def test_a_domains_loss_is_the_mean_over_its_hidden_words():
    model, batches = toy(), [batch(0), batch(1)]
    found = experiment.domain_losses(model, {"one": batches, "other": batches[:1]})
    with torch.inference_mode():
        logits = torch.cat([model(input_ids=part["input_ids"]).logits for part in batches])
    labels = torch.cat([part["labels"] for part in batches])
    wanted = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()
    assert found["one"] == pytest.approx(wanted, abs=1e-5) and found["other"] != found["one"]


def test_stopping_looks_at_the_best_so_far():
    assert experiment.early_stop([0.6, 0.5, 0.55], 2) == (False, 2)
    assert experiment.early_stop([0.6, 0.5, 0.55, 0.52], 2) == (True, 2)
    assert experiment.early_stop([0.5, 0.49, 0.48], 2, min_delta=0.05) == (True, 1)


def test_lora_leaves_the_body_frozen_and_reaches_the_language_model(rows):
    model = toy()
    classifier = MeanPoolClassifier(model.base_model)
    before, loss = {name: value.clone() for name, value in model.state_dict().items()}, model(**batch(0)).loss.item()
    experiment.fine_tune(experiment.Remedy(2, rank=2), model, classifier, rows, pad(Padding()), [], rate=5e-3, epochs=2)
    after = model.state_dict()
    plain = {name.replace("base_layer.", ""): value for name, value in after.items() if "lora" not in name}
    assert all(torch.equal(plain[name], value) for name, value in before.items())
    assert any("lora" in name for name in after) and model(**batch(0)).loss.item() != pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("remedy", [experiment.Remedy(), experiment.Remedy(blocks=1), experiment.Remedy(replay=0.3)])
def test_a_remedy_trains_what_it_says(rows, remedy):
    model = toy()
    classifier = MeanPoolClassifier(model.base_model)
    before = {name: value.clone() for name, value in model.base_model.state_dict().items()}
    experiment.fine_tune(remedy, model, classifier, rows, pad(Padding()), [batch(0)], rate=5e-3, epochs=1)
    moved = {name for name, value in model.base_model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = remedy.blocks is not None
    assert any("layer.1." in name for name in moved) and any("layer.0." in name for name in moved) is not frozen


def test_a_refitted_head_leaves_the_body_as_it_is():
    model = toy()
    before = {name: value.clone() for name, value in model.base_model.state_dict().items()}
    loss = experiment.masked_word_loss(model, [batch(0)])
    experiment.refit_head(model, [batch(0)] * 30, rate=1e-2)
    assert all(torch.equal(value, before[name]) for name, value in model.base_model.state_dict().items())
    assert experiment.masked_word_loss(model, [batch(0)]) < loss


def test_gaps_are_means_over_a_groups_rows():
    found = experiment.gap_by_group([1, 1, 0, 1], [0, 1, 0, 0], ["b", "b", "a", "b"])
    assert found == {"a": 0.0, "b": pytest.approx(2 / 3)}


def test_curves_begin_at_the_plain_fine_tuning():
    names = ["plain", *(f"share_of_new_weights_{share}" for share in experiment.SHARES)]
    names += [f"{curve.replace(' ', '_')}_{one}" for curve, settings in experiment.CURVES.items() for one in settings]
    metrics = {f"{part}_curve_{name}": [0.5, 0.6] for part in ("accuracy", "loss_rise") for name in names}
    controls = Reference("", "", "", 1, {}, [0, 1], metrics)
    curves = experiment.curves_of(controls)
    assert all(next(iter(points)) == "plain" and len(points) > 2 for points in curves.values())
    assert len(experiment.points_of(controls)) == len(names)
    assert figures.trade_offs(curves).alt.startswith("Accuracy against the rise of the old loss. share of new weights")


def test_replay_adds_the_old_loss_in_training_alone(rows):
    model, old = toy(), [batch(0), batch(1)]
    classifier = MeanPoolClassifier(model.base_model)
    both = experiment.WithReplay(classifier, model, old, weight=0.5)
    task = pad(Padding())([rows[0], rows[1]])
    plain = classifier(**task).loss.item()
    for part in (*old, old[0]):  # one after the other, then from the start
        both.train()
        assert both(**task).loss.item() == pytest.approx(plain + 0.5 * model(**part).loss.item(), abs=1e-5)
    both.eval()
    assert both(**task).loss.item() == pytest.approx(plain, abs=1e-6)


def test_replay_keeps_more_of_the_old_task(rows):
    losses = {}
    for weight in (0.0, 1.0):
        model = toy()
        both = experiment.WithReplay(MeanPoolClassifier(model.base_model), model, [batch(0)], weight)
        train_on_text(both, rows, pad(Padding()), 5e-3, epochs=10)
        losses[weight] = experiment.domain_losses(model, {"old": [batch(0)]})["old"]
    assert losses[1.0] < losses[0.0] - 0.5


def test_the_average_lies_between():
    one, other = {"a": torch.ones(2), "n": torch.tensor(3)}, {"a": torch.zeros(2), "n": torch.tensor(3)}
    assert experiment.average_weights(one, other, 0.25)["a"].tolist() == [0.25, 0.25]
    assert experiment.average_weights(one, other)["n"].item() == 3


@pytest.mark.skipif(not POCKET_MODELS["encoder"].is_dir(), reason="the encoder is not made yet")
def test_the_same_seed_hides_the_same_words():
    from helpers import catalog

    tokenizer = catalog.tokenizer("encoder", "pocket")
    texts = ["The acting was good.", "It is a long film about a baker in a small town by the sea."] * 3
    one, two, other = (experiment.masked_batches(tokenizer, texts, seed, batch_size=4) for seed in (0, 0, 1))
    assert [len(part["input_ids"]) for part in one] == [4, 2]
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(one, two, strict=True))
    assert any(not torch.equal(a["labels"], b["labels"]) for a, b in zip(one, other, strict=True))
    for part in one:
        assert (part["labels"][part["attention_mask"] == 0] == -100).all()


def test_the_most_lopsided_films_are_found():
    rows = {"film": ["a"] * 4 + ["b"] * 4 + ["c"] * 4, "label": [0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1]}
    assert experiment.lopsided_films(Dataset.from_dict(rows), 1) == (["a"], ["c"])
    with pytest.raises(UserError, match="count is 2, but there are only 3 films"):
        experiment.lopsided_films(Dataset.from_dict(rows), 2)
    with pytest.raises(UserError, match='column "film" is missing'):
        experiment.lopsided_films(Dataset.from_dict({"text": ["x"], "label": [1]}), 1)


@pytest.mark.parametrize("seed", range(5))
def test_two_halves_share_no_film_and_no_row(seed):
    draws = np.random.default_rng(seed)
    films = draws.choice([f"film {number}" for number in range(12)], 200)
    groups = ([f"film {number}" for number in range(6)], [f"film {number}" for number in range(6, 12)])
    halves = experiment.two_halves(films, groups, seed)
    assert sorted(row for pair in halves for part in pair for row in part.tolist()) == list(range(200))
    one, other = (set(films[np.concatenate(pair)]) for pair in halves)
    assert not one & other and len(one & set(groups[0])) == len(other & set(groups[0])) == 3
    assert all(abs(len(learned) - len(tested)) <= 1 for learned, tested in halves)
    again = experiment.two_halves(films, groups, seed)
    assert all(
        (a == b).all() for pair, same in zip(halves, again, strict=True) for a, b in zip(pair, same, strict=True)
    )


def test_openings_and_hidden_names():
    assert experiment.opening("one two  three four", 3) == "one two three"
    assert experiment.hide_names("Anna O'Neil saw The Field.") == "Name Name saw Name Name."


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("labels", 8, "labels is 8"),
        ("labels", 100.5, "a whole number"),
        ("epochs", 1, "epochs is 1"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("learning_rate", 0, "learning_rate is 0"),
        ("learning_rate", "fast", "learning_rate is 'fast'"),
        ("budget", "quik", 'Did you mean "quick"'),
    ],
)
def test_the_lesson_refuses_a_parameter_in_words(name, value, said):
    cells = [cell for cell in from_source(LESSON.source).cells if cell.cell_type == "code"]
    place = next(at for at, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    scope = {"check_number": check_number, "start": start, "experiment": experiment}
    exec(cells[place].source, scope)
    scope[name] = value
    with pytest.raises(UserError, match=said):
        exec(cells[place + 1].source, scope)


def test_the_lessons_rate_is_the_references():
    if LESSON.path.is_file():
        assert declared(LESSON)["learning_rate"] == experiment.RATE


def test_every_setting_of_the_curves_is_in_the_reference():
    controls = load_reference("pitfalls_controls")
    assert all(f"accuracy_curve_{name}" in controls.metrics for name in experiment.settings())
    assert len(experiment.settings()) == len(set(experiment.settings())) > len(experiment.SHARES)
