"""benchmarks/steps: every comparison runs on toy sizes, refuses sides that differ, and its table is written."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks.steps import __main__ as command
from benchmarks.steps import dpo, memory, other_methods, pretraining, report, training_step, whole_course
from benchmarks.steps import lora as lora_steps
from benchmarks.steps import quantization as quantization_steps
from benchmarks.steps.harness import Row, Spread, Target, Turns, by_turns, same, timed
from helpers.catalog import MICROWORLD, POCKET_MODELS
from helpers.runtime import UserError

made = all(folder.is_dir() for folder in POCKET_MODELS.values()) and (MICROWORLD / "README.md").is_file()
needs_models = pytest.mark.skipif(not made, reason="the pocket track is not made yet")


def run(*arguments):
    return CliRunner().invoke(command.main, [str(argument) for argument in arguments])


def test_ratios_are_taken_round_by_round():
    turns = Turns(ours=[1.0, 4.0, 3.0], beside=[2.0, 4.0, 2.0])
    assert turns.ratio == Spread(1.0, 0.5, 1.5)
    assert turns.milliseconds(10) == ("300.00 ms", "200.00 ms")


def test_both_sides_are_warmed_up_and_take_turns_at_beginning():
    order = []
    sides = [lambda name=name: order.append(name) or 1.0 for name in "ab"]
    turns = by_turns(*sides, rounds=2)
    assert "".join(order) == "ab" + "ab" + "ba"
    assert len(turns.ours) == len(turns.beside) == 2


def test_all_repetitions_are_done():
    done = []
    assert timed(lambda: done.append(1), times=3)() >= 0
    assert len(done) == 3


@pytest.mark.parametrize(
    ("target", "good", "bad"),
    [(Target("at most", 0.95), 0.95, 0.96), (Target("at least", 0.45), 0.45, 0.44), (Target("within", 0.15), 0.9, 1.2)],
)
def test_a_target_is_met_or_missed_by_the_median(target, good, bad):
    assert Row("x", "", "", Spread(good, 0, 9), target).verdict == "met"
    assert Row("x", "", "", Spread(bad, 0, 9), target).verdict == "missed"
    assert Row("x", "", "", Spread(bad, 0, 9)).verdict == ""


@pytest.mark.parametrize("value", [0.2, float("nan")])
def test_sides_that_differ_are_not_timed(value):
    same("x", torch.zeros(2), torch.zeros(2))
    with pytest.raises(UserError, match="x: the two sides differ"):
        same("x", torch.zeros(2), torch.tensor([0.0, value]), within=0.1)


@needs_models
@pytest.mark.parametrize(
    ("module", "wrong"),
    [(lora_steps, "helpers.lora.LoRALinear.forward"), (other_methods, "helpers.prompt_tuning.SoftPrompt.forward")],
)
def test_a_planted_mistake_in_our_side_is_seen(module, wrong, monkeypatch):
    if module is lora_steps:
        monkeypatch.setattr(wrong, lambda layer, x: layer.base(x) + x.mean() + (x @ layer.lora_A.T) @ layer.lora_B.T)
    else:
        forward = other_methods.add_soft_prompt.__globals__["SoftPrompt"].forward
        monkeypatch.setattr(wrong, lambda self, input_ids, **others: forward(self, input_ids.flip(1), **others))
    with pytest.raises(UserError, match="the two sides differ"):
        module.measure(rounds=1, toy=True)


@needs_models
@pytest.mark.slow
def test_a_training_that_goes_another_way_is_not_timed(monkeypatch):
    constant = lambda optimizer, *_, **__: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)  # noqa: E731
    monkeypatch.setattr(training_step, "warmup_linear", constant)
    with pytest.raises(UserError, match="of their way apart"):
        training_step.measure(rounds=1, toy=True)
    turned = {"chosen": "rejected", "rejected": "chosen", "prompt": "prompt"}
    encode = dpo.preference_rows
    swapped = lambda tokenizer, rows: encode(tokenizer, [{to: row[of] for to, of in turned.items()} for row in rows])  # noqa: E731
    monkeypatch.setattr(dpo, "preference_rows", swapped)
    with pytest.raises(UserError, match="of their way apart"):
        dpo.measure(rounds=1, toy=True)


@needs_models
@pytest.mark.slow
@pytest.mark.parametrize(
    "module", [training_step, lora_steps, other_methods, quantization_steps, dpo, memory], ids=lambda m: m.__name__
)
def test_a_comparison_runs_on_toy_sizes(module):
    rows = module.measure(rounds=1, toy=True)
    assert rows and any(row.target for row in rows)
    for row in rows:
        assert row.ratio.low > 0 and row.ours and row.beside and row.note


@needs_models
@pytest.mark.slow
def test_the_share_of_the_peak_runs_on_toy_sizes(monkeypatch):
    monkeypatch.setattr(
        "microworld.pretraining.loop.compiled", lambda function: function
    )  # the compiler takes a minute
    rows = pretraining.measure(rounds=1, toy=True)
    assert [row.note.split(",")[0] for row in rows] == ["pocket decoder", "pocket encoder"]
    assert all(row.ratio.low > 0 for row in rows)


@needs_models
def test_the_products_of_a_step_are_all_counted():
    kind = "decoder"
    made = pretraining.PocketModel.resume(kind, POCKET_MODELS[kind], "cpu")
    config, tokens = made.model.config, pretraining.BATCH_SIZE * (pretraining.BLOCK - 1)
    matrices = config.num_hidden_layers * (
        4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
    )
    matrices += config.hidden_size * config.vocab_size
    attention = config.num_hidden_layers * 2 * (pretraining.BLOCK - 1) * config.hidden_size
    # forward 2 operations for each weight and token, backward twice as many; the rotary angles add a little
    assert pretraining.operations(made) == pytest.approx(6 * tokens * (matrices + attention), rel=0.01)


@needs_models
@pytest.mark.slow
def test_the_command_writes_figures_and_page_and_keeps_what_was_measured_before(tmp_path):
    result = run("quantization", "--toy", "--rounds", 1, "--threads", 1, "--into", tmp_path)
    assert result.exit_code == 0, result.output
    assert run("lora", "--toy", "--rounds", 1, "--threads", 1, "--into", tmp_path).exit_code == 0
    kept = json.loads((tmp_path / report.FIGURES).read_text())
    page = (tmp_path / report.PAGE).read_text()
    assert list(kept) == ["lora", "quantization"]  # the table's order
    assert kept["lora"]["about"]["threads"] == 1 and "torch" in kept["lora"]["about"]["versions"]
    assert "## LoRA" in page and "## NF4" in page and "at most 2.00" in page


def test_toy_figures_never_reach_the_page():
    result = run("lora", "--toy")
    assert result.exit_code == 1 and "--toy measures nothing" in result.output


def test_a_name_that_is_not_there_is_one_sentence(tmp_path):
    result = run("lorra", "--into", tmp_path)
    assert result.exit_code == 1 and 'Did you mean "lora"?' in result.output
    assert not list(tmp_path.iterdir())


def test_every_comparison_has_a_title():
    modules = {path.stem for path in report.FOLDER.joinpath("steps").glob("*.py")}
    assert modules - {"__init__", "__main__", "harness", "report"} == set(command.TITLES)


def lesson(folder, name: str, whole: float, seconds: list[float], status: str = "done") -> None:
    """A lesson's folder as a run leaves it: the first cell imports, the second starts, the third works."""
    sources = ["import torch", "run = start(track=track)", "train()"]
    cells = [
        {
            "cell_type": "code",
            "source": source,
            "metadata": {"papermill": {"duration": duration}},
            "outputs": [],
            "execution_count": 1,
            "id": f"c{place}",
        }
        for place, (source, duration) in enumerate(zip(sources, seconds, strict=True))
    ]
    where = folder / name
    where.mkdir(parents=True)
    (where / "outcome.json").write_text(json.dumps({"status": status, "seconds": whole}))
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (where / f"{name}.ipynb").write_text(json.dumps(notebook))


def test_the_whole_course_is_read_from_a_run(tmp_path):
    lesson(tmp_path, "00_one", 12.0, [1.0, 1.0, 8.0])
    lesson(tmp_path, "01_two", 33.0, [1.0, 1.0, 28.0])
    cells, strict = whole_course.measure(1, True, folder=tmp_path)
    assert cells.ratio == Spread(45 / 40, 1.1, 1.2) and cells.verdict == "met"
    assert strict.ratio == Spread(45 / 36, 33 / 28, 1.5)


def test_a_lesson_that_failed_is_no_measurement(tmp_path):
    lesson(tmp_path, "00_one", 12.0, [1.0, 1.0, 8.0], status="failed")
    with pytest.raises(UserError, match="00_one in .* was not done"):
        whole_course.measure(1, True, folder=tmp_path)


def test_only_a_run_of_all_lessons_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_course, "find", lambda: [type("Lesson", (), {"name": n}) for n in ("00_one", "01_two")])
    lesson(tmp_path / "2030-01-01_000000", "00_one", 12.0, [1.0, 1.0, 8.0])
    assert whole_course.newest(tmp_path) is None
    for name in ("00_one", "01_two"):
        lesson(tmp_path / "2029-01-01_000000", name, 12.0, [1.0, 1.0, 8.0])
    assert whole_course.newest(tmp_path).name == "2029-01-01_000000"
