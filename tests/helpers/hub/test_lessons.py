"""Every lesson on the hub track, quick, through the real command, against a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from helpers.catalog import HUB_DATASETS, HUB_MODELS
from tests.helpers.hub.repositories import repositories
from tests.helpers.hub.server import Hub
from workbook.lessons import find

pytestmark = pytest.mark.slow
LESSONS = find()
# What is said where a section needs a truth that no hub data set has.
SAID = {
    "03": "do not say which film they are about",
    "04": "judged exactly are the micro-world's rows alone",
    "05": "judged exactly are the micro-world's rows alone",
    "06": "judged exactly are the micro-world's rows alone",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All lessons, two at a time and one thread each; returns lesson -> its folder, and what the command said."""
    folder = tmp_path_factory.mktemp("hub")
    with Hub(repositories()) as hub:
        settings = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
        settings |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "workbook.cli", "run", "-p", "track", "hub", "--budget", "quick"]
        command += ["--jobs", "2", "--into", str(folder / "runs")]
        ended = subprocess.run(command, env=settings, capture_output=True, text=True)
        asked = set(hub.requests)
    return {path.parent.name: path.parent for path in folder.glob("runs/*/*/outcome.json")}, ended, asked


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_the_lesson_runs_on_the_hub_track(lesson, runs):
    folders, ended, _ = runs
    assert lesson.name in folders, ended.stdout[-2000:] + ended.stderr[-2000:]
    outcome = json.loads((folders[lesson.name] / "outcome.json").read_text())
    assert outcome["status"] == "done", outcome["error"][-3000:]
    said = (folders[lesson.name] / lesson.path.name).read_text(encoding="utf-8")
    assert SAID.get(lesson.number, "") in said


def test_the_lessons_read_everything_that_the_catalogue_names(runs):
    asked = " ".join(runs[2])
    models = [model.name for model in HUB_MODELS.values()]
    for name in [*models, *(about.name for about in HUB_DATASETS.values())]:
        assert name in asked, f"no lesson reads {name}"
