"""The paragraph on real text follows the signs of the intervals."""

import pytest

from helpers.intervals import Interval
from helpers.lessons.lesson_05.beside_real import beside_invented, finding, level, reward_models, scatter, sign
from helpers.reference import Reference

AGREES, DIFFERS = "**What agrees with the invented world.**", "**What does not.**"


def reference(**metrics: list[float]) -> Reference:
    return Reference("", "", "", 1, {}, [0, 1, 2], metrics)


UP, DOWN, OPEN = [0.2, 0.21, 0.22], [-0.2, -0.21, -0.22], [-0.2, 0.0, 0.2]


def invented_and_real(invented, real):
    return beside_invented([finding("Gap", (reference(a=invented), "a", ""), (reference(b=real), "b", ""))])


@pytest.mark.parametrize(("invented", "real", "agrees"), [
    (UP, UP, True), (DOWN, DOWN, True), (OPEN, OPEN, True), (UP, DOWN, False), (UP, OPEN, False), (OPEN, DOWN, False),
])  # fmt: skip
def test_the_list_follows_the_signs(invented, real, agrees):
    first, second = invented_and_real(invented, real).split(DIFFERS)
    assert first.startswith(AGREES)
    assert ("Gap" in first, "Gap" in second) == (agrees, not agrees)


def test_a_difference_is_paired_by_seed():
    found = finding("Gap", (reference(a=[1, 2, 3], b=[0, 1, 2]), "a", "b"), (reference(a=UP), "a", ""))
    assert found.invented.value == found.invented.low == 1


def test_what_was_not_measured_is_left_out():
    assert finding("Gap", (reference(), "a", ""), (reference(a=UP), "a", "")) is None
    assert "no measurement in common" in beside_invented([None])


def test_one_run_has_no_sign():
    assert sign(Interval(1.0, float("nan"), float("nan"))) == 0


def test_levels_and_scatter():
    low, high = Interval(0.5, 0.4, 0.6), Interval(0.9, 0.8, 1.0)
    assert "higher in the invented world" in level("Share", high, low)
    assert "higher on real text" in level("Share", low, high)
    assert "overlap" in level("Share", low, low)
    assert "more in the invented world" in scatter("Share", [0.1, 0.9], [0.5, 0.6])
    assert "at least as much on real text" in scatter("Share", [0.5, 0.6], [0.1, 0.9])


def test_the_reward_models_of_lesson_05():
    pocket = reference(
        reward_accuracy_held_out=[0.9, 0.91, 0.92], reward_accuracy_bag_of_words=[0.7, 0.7, 0.7],
        true_reward_best_of_8=[0.6, 0.61, 0.62], true_reward_best_of_1=[0.3, 0.3, 0.3],
    )  # fmt: skip
    real = {"accuracy_model_all": [0.77, 0.78, 0.77], "accuracy_words_all": [0.6, 0.6, 0.6]}
    real |= {"rating_best_of_8_model": [2.0, 2.1, 2.0], "rating_mean": [-0.1, -0.1, -0.1]}
    both = reward_models(pocket, reference(**real)).split(DIFFERS)[0]
    assert "bag of words" in both and "Best of 8" in both
    worse = reward_models(pocket, reference(**real | {"accuracy_words_all": [0.9, 0.9, 0.91]}))
    assert "bag of words" in worse.split(DIFFERS)[1] and "clearly below 0" in worse
