"""What a command sends to Dask, and when: no worker has a queue while another has nothing to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workbook.sweeps import campaign as module
from workbook.sweeps.campaign import Campaign
from workbook.sweeps.ledger import State


class Promise:
    """A future that ends when it is told to."""

    status = "finished"

    def __init__(self):
        self.ended, self.callbacks = False, []

    def done(self) -> bool:
        return self.ended

    def result(self) -> dict:
        return {"status": "done"}

    def add_done_callback(self, call) -> None:
        self.callbacks.append(call)


class Client:
    """A Dask client with a number of slots, whose runs end one after the other."""

    def __init__(self, slots: int):
        self.slots, self.sent, self.most, self.status = slots, [], 0, "running"
        self.open: list[Promise] = []

    def scheduler_info(self, n_workers: int) -> dict:
        return {"workers": {"one": {"host": "here", "nthreads": self.slots}} if self.slots else {}}

    def submit(self, _call, task, **_) -> Promise:
        self.sent.append(task.run)
        self.open.append(Promise())
        self.most = max(self.most, len(self.open))
        return self.open[-1]

    def end_one(self) -> None:
        if self.open:
            first = self.open.pop(0)
            first.ended = True
            for call in first.callbacks:
                call(first)


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.001)
    plan = SimpleNamespace(
        runs={name: {} for name in "abcdefg"},
        lesson=SimpleNamespace(path=tmp_path / "99_toy.ipynb"),
        kernel="python3",
        state={},
    )
    ledger = SimpleNamespace(folder=tmp_path, state=lambda run, earlier=(): State("queued"))
    made = Campaign(plan, ledger, "nonce", 60.0, 1)
    made.states = {run: State("queued") for run in plan.runs}
    return made


def test_as_many_runs_are_sent_as_there_are_slots_and_in_order(campaign):
    client = Client(slots=2)
    campaign.execute(client, watch=lambda _: client.end_one())
    assert client.sent == list("abcdefg")
    assert client.most == 2


def test_workers_that_join_later_get_runs_too(campaign):
    client = Client(slots=1)

    def watch(_):
        client.slots = 3
        if client.most == 3 or len(client.sent) == 7:
            client.end_one()

    campaign.execute(client, watch)
    assert client.most == 3 and len(client.sent) == 7


def test_done_runs_are_not_sent(campaign):
    campaign.states["a"] = campaign.states["g"] = State("done")
    client = Client(slots=2)
    campaign.execute(client, watch=lambda _: client.end_one())
    assert client.sent == list("bcdef")
