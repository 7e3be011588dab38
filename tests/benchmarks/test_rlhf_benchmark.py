"""benchmarks/rlhf.py on toy inputs: the file that it writes is the one that lesson 05 reads."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks import rlhf
from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.reference import load_reference

made = (MICROWORLD / "README.md").is_file() and POCKET_MODELS["instruct"].is_dir()


@pytest.mark.slow
@pytest.mark.skipif(not made, reason="the pocket track is not made yet")
def test_what_it_writes_is_what_the_lesson_reads(tmp_path):
    options = ["--seeds", "1", "--pairs", "32", "--updates", "1", "--wishes", "8", "--into", str(tmp_path)]
    result = CliRunner().invoke(rlhf.main, options)
    assert result.exit_code == 0, result.output
    found = load_reference("rlhf", tmp_path)
    names = ["sft", "grpo", "rloo", *(f"sweep_{number}" for number in range(len(found.settings["kl_coefs"])))]
    for name in names:
        assert 0 <= found.interval(f"true_reward_{name}").value <= 1
        assert {f"proxy_{name}", f"kl_{name}"} <= set(found.metrics)
    assert found.metrics["kl_sft"] == pytest.approx([0.0], abs=1e-4)
    assert 0 <= found.interval("reward_accuracy_held_out").value <= 1


def test_more_pairs_than_there_are_is_one_sentence(tmp_path):
    result = CliRunner().invoke(rlhf.main, ["--pairs", "100000", "--into", str(tmp_path)])
    assert result.exit_code == 2
    assert "100000 is not in the range" in result.output
    assert not list(tmp_path.iterdir())
