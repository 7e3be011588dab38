"""What a command sends to its executor, and when: no worker has a queue while another has nothing to do."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from helpers.runtime import UserError
from workbook.engine import campaign as module
from workbook.engine.campaign import Campaign
from workbook.engine.ledger import Outcome, RunLedger, State
from workbook.engine.task import Task


class Slots:
    """An executor with a number of slots, whose runs end one after the other."""

    def __init__(self, slots: int):
        self.free, self.sent, self.most = slots, [], 0
        self.open: list[Future] = []

    def slots(self) -> int:
        return self.free

    def submit(self, task: Task) -> Future:
        self.sent.append(task.key)
        self.open.append(Future())
        self.most = max(self.most, len(self.open))
        return self.open[-1]

    def result(self, future: Future) -> Outcome:
        return future.result()

    def check(self) -> None:
        """All is well."""

    def end_one(self, status: str = "done") -> None:
        if self.open:
            self.open.pop(0).set_result(Outcome(status, error="It is full."))


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.001)
    tasks = {
        name: Task(name, str(tmp_path / name), "99_toy.ipynb", {}, str(tmp_path / "stop"), 1) for name in "abcdefg"
    }
    made = Campaign(tasks, tmp_path / "stop")
    made.begin()
    return made


def test_as_many_runs_are_sent_as_there_are_slots_and_in_order(campaign):
    slots = Slots(2)
    campaign.execute(slots, slots.end_one, campaign.left)
    assert slots.sent == list("abcdefg")
    assert slots.most == 2


def test_workers_that_join_later_get_runs_too(campaign):
    slots = Slots(1)

    def watch():
        slots.free = 3
        if slots.most == 3 or len(slots.sent) == 7:
            slots.end_one()

    campaign.execute(slots, watch, campaign.left)
    assert slots.most == 3 and len(slots.sent) == 7


def test_done_runs_are_not_sent(campaign):
    campaign.states["a"] = campaign.states["g"] = State("done")
    slots = Slots(2)
    campaign.execute(slots, slots.end_one, campaign.left)
    assert slots.sent == list("bcdef")


def test_after_a_halt_nothing_more_begins_and_the_others_are_told(campaign):
    slots = Slots(2)
    with pytest.raises(UserError, match="It is full"):
        campaign.execute(slots, lambda: slots.end_one("halt"), campaign.left)
    assert slots.sent == ["a", "b"] and campaign.stop_file.exists()


def test_a_stop_file_is_like_ctrl_c(campaign):
    slots = Slots(2)
    with pytest.raises(KeyboardInterrupt):
        campaign.execute(slots, campaign.stop_file.touch, campaign.left)
    assert slots.sent == ["a", "b"]


def test_what_became_of_a_run_earlier_does_not_count_when_it_begins_again(tmp_path):
    for numbered in (True, False):
        ledger = RunLedger(tmp_path / str(numbered), numbered)
        folder = ledger.new_attempt({})
        (folder / "outcome.json").write_text('{"status": "failed", "seconds": 1.0}')
        assert ledger.state().status == "failed"
        past = ledger.past_attempts()
        assert ledger.state(past).status == "queued"
