"""Lesson 06's comparisons over seeds: DPO beside its control, and beside real text."""

import pytest

from helpers.lessons.lesson_06 import experiment
from helpers.reference import Reference

SHOWN = {"win rate": "win_rate_{}", "skills": "skills_{}"}


def reference(metrics: dict[str, list[float]]) -> Reference:
    return Reference("", "", "", 1, {}, [0, 1, 2], metrics)


FALLBACK = {
    "win_rate_dpo": [0.7, 0.71, 0.72], "win_rate_chosen_only": [0.8, 0.81, 0.82],
    "skills_dpo": [0.9, 0.91, 0.92], "skills_chosen_only": [0.9, 0.92, 0.91],
}  # fmt: skip


@pytest.fixture
def seeds(monkeypatch):
    """Sets what this lesson's own seeds measured."""

    def these(metrics):
        monkeypatch.setattr(experiment, "recorded", lambda lesson, metric: metrics.get(metric, []))

    these({})
    return these


def test_the_control_comes_from_the_benchmark_while_the_lesson_has_no_seeds(seeds):
    table, said = experiment.beside_control(SHOWN, reference(FALLBACK))
    assert said == "clearly lower in win rate; no clear difference in skills"
    assert table["win rate"]["difference"].startswith("-0.100") and table["win rate"]["seeds"] == "3"
    assert table["win rate"]["SFT on the chosen answers"].startswith("0.810")


def test_the_lesson_s_own_seeds_come_first(seeds):
    seeds({"win_rate_dpo": [0.9, 0.91], "win_rate_chosen_only_all": [0.5, 0.51]})
    table, said = experiment.beside_control(SHOWN, reference(FALLBACK))
    assert said.startswith("clearly higher in win rate") and table["win rate"]["seeds"] == "2"


def test_without_any_seeds_it_says_so(seeds):
    assert experiment.beside_control(SHOWN, reference({})) == ({}, "not measured with several seeds")


def test_gains_say_whether_they_are_from_one_run():
    assert experiment.gain_said([0.25]) == "+0.25 (this run)"
    assert experiment.gain_said([0.1, 0.2]).startswith("+0.15 [")


def test_how_often_the_first_beta_is_the_extreme():
    found = reference({"kl_dpo_beta_0_1": [9.0, 1.0, 8.0], "kl_dpo_beta_1": [1.0, 2.0, 3.0]})
    assert experiment.how_often(found, "kl", (0.1, 1.0), max) == 2


def test_the_gains_beside_rl_at_either_temperature(seeds):
    rl = {f"true_reward_{name}{end}": [0.5, 0.6] for name in ("ppo", "grpo", "rloo", "sft") for end in ("", "_cool")}
    rl |= {"true_reward_ppo_cool": [0.7, 0.8]}
    here = {"good_rate_dpo": 0.9, "good_rate_sft": 0.4, "good_rate_dpo_at_1": 0.7, "good_rate_sft_at_1": 0.3}
    _, gained = experiment.beside_rl({"dpo": "DPO"}, here, reference(rl))
    _, cool = experiment.beside_rl({"dpo": "DPO"}, here, reference(rl), ends=("", "_cool"))
    assert gained["DPO"] == pytest.approx([0.4]) and cool["DPO"] == pytest.approx([0.5])
    assert gained["PPO"] == [0, 0] and cool["PPO"] == pytest.approx([0.2, 0.2])


def test_the_margin_beside_real_text_is_paired_by_seed():
    pocket = {
        "held_change_chosen_dpo_without_sft": [-6.0, -5.0, -7.0],
        "held_change_rejected_dpo_without_sft": [-20.0, -19.0, -21.0],
        "held_change_chosen_chosen_only": [0.3, 0.2, 0.4], "held_change_rejected_chosen_only": [-0.6, -0.7, -0.5],
    }  # fmt: skip
    real = {"change_chosen_dpo": [-5.0, -6.0, -7.0], "change_rejected_dpo": [-9.0, -9.5, -9.9]}
    real |= {"change_chosen_sft": [3.0, 3.1, 3.2], "change_rejected_sft": [2.0, 2.1, 2.2]}
    real |= {"margin_dpo": [4.0, 3.5, 2.9], "margin_sft": [1.0, 1.0, 1.0], "pair_accuracy_dpo": [0.8, 0.8, 0.9]}
    agrees, differs = experiment.preferences_beside_real(reference(pocket), reference(real)).split("**What does not.**")
    assert "chosen answers' change under DPO" in agrees and "Margin between" in agrees and "+13.10 [" in agrees
    assert "rejected answers' change under SFT" in differs
