"""The drift radar sees a planted break of each kind and dates it; nothing here needs a network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


api_calls, drift = tool("api_calls"), tool("drift")
LOCKED = {"transformers": "5.23.0", "trl": "1.16.0", "peft": "0.21.2", "datasets": "5.2.0", "bitsandbytes": "0.50.2"}

LIBRARY = """
class Base:
    def __init__(self, size, *, rate=0.1): ...
    def train(self, epochs=1): ...
    @classmethod
    def load(cls, name, **options): ...
    @staticmethod
    def count(rows): ...

class Module(Base):
    def __getattr__(self, name): ...

def make(rows, seed=0): return Base(1)
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library `planted` with a class and a function; returns what is wrong with a source that uses it."""
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "__init__.py").write_text(LIBRARY)
    (tmp_path / "planted" / "deep.py").write_text("value = 1\n")
    (tmp_path / "planted" / "broken.py").write_text("raise RuntimeError('needs a GPU')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(api_calls.GIVES, "planted.make", "planted.Base")

    def wrong(source: str) -> list[str]:
        file = tmp_path / "lesson.py"
        file.write_text(source)
        found = api_calls.misfits(api_calls.uses([file], tmp_path, ("planted",)))
        return [f"{one.place} {one.name}: {one.problem}" for one in found]

    yield wrong
    for name in [name for name in sys.modules if name.split(".")[0] == "planted"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "source",
    [
        "import planted\nplanted.Base(3, rate=1).train(2)",
        "from planted import Base as B\nb = B(3)\nb.train(epochs=2)\nB.count([])\nb.count([])\nB.load('x', any=1)",
        "import planted.deep as d\nd.value",
        "from planted import make\nm = make([1], seed=2)\nm.train()\nm = open('x')\nm.other()",
        "from planted import make\nmake(*rows)\nmake(**options)",
        "from planted import Module\nModule(1).whatever(1, 2)",
        "def f(planted):\n    return planted.nothing\n",
        "from elsewhere import nothing\nnothing(1)",
    ],
)
def test_what_fits_is_left_alone(library, source):
    assert library(source) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import planted\nplanted.gone(1)", "lesson.py:2 planted.gone: does not exist"),
        ("from planted import Gone", "lesson.py:1 planted.Gone: does not exist"),
        ("from planted.gone import x", "planted.gone.x: does not exist"),
        ("import planted\nplanted.Base(3, speed=1)", "planted.Base: got an unexpected keyword argument 'speed'"),
        ("import planted\nplanted.Base()", "planted.Base: missing a required argument: 'size'"),
        ("from planted import Base\nb = Base(1)\nb.train(1, 2)", "planted.Base.train: too many positional arguments"),
        ("from planted import make\nmake([]).go()", "planted.Base.go: does not exist"),
        ("from planted import make\nmake([]).train(steps=1)", "planted.Base.train: got an unexpected keyword argument"),
        ("from planted import Base\nBase.count([], 1)", "planted.Base.count: too many positional arguments"),
        ("from planted import broken", "cannot be imported (RuntimeError: needs a GPU)"),
    ],
)
def test_a_planted_misfit_is_named_with_its_place(library, source, said):
    (found,) = library(source)
    assert said in found


def test_the_same_misfit_is_told_once(library):
    assert len(library("import planted\nplanted.gone(1)\nplanted.gone(2)")) == 1


def test_the_lessons_calls_are_read():
    files = sorted(file for folder in api_calls.SOURCES for file in (ROOT / folder).rglob("*.py"))
    found = api_calls.uses(files)
    called = {use.name for use in found if use.called}
    assert {"trl.DPOTrainer", "peft.get_peft_model", "transformers.AutoModel.from_pretrained"} <= called
    assert {"transformers.TrainingArguments", "transformers.Trainer.train", "datasets.Dataset.from_dict"} <= called
    arguments = {word for use in found if use.name == "trl.DPOConfig" for word in use.keywords}
    assert "beta" in arguments and all(use.place.split(":")[0].endswith(".py") for use in found)


def test_versions_come_from_the_lock_and_the_declaration(tmp_path):
    (tmp_path / "requirements.lock").write_text("torch==2.0\ntransformers==5.23.0\npeft==0.21.2\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["torch==2.0", "transformers>=5.20,<5.25", "peft==0.21.2"]\n'
    )
    assert drift.locked_versions(tmp_path) == {"transformers": "5.23.0", "peft": "0.21.2"}
    assert drift.oldest_versions(tmp_path) == {"transformers": "5.20", "peft": "0.21.2"}


def test_every_watched_library_has_a_range_that_holds_the_lock():
    lowest, locked = drift.oldest_versions(), drift.locked_versions()
    assert set(lowest) == set(locked) == set(drift.PACKAGES)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in drift.PACKAGES:
        cap = re.search(rf'"{name}>=[\d.]+,<([\d.]+)"', text)
        assert cap, f"{name} has no upper bound"
        assert drift.number(lowest[name]) <= drift.number(locked[name]) < drift.number(cap[1])


def test_the_tests_that_run_are_there():
    assert all((ROOT / name).is_file() for name in drift.TESTS)


RELEASES = ("5.24.0", "5.23.0", "5.22.2", "5.22.0", "5.21.0", "5.20.0")


@pytest.mark.parametrize(
    ("good", "bad", "first_bad"),
    [
        ("5.20.0", "5.24.0", "5.22.2"),
        ("5.20.0", "5.24.0", "5.24.0"),
        ("5.20.0", "5.24.0", "5.21.0"),
        ("5.24.0", "5.20", "5.21.0"),
        ("5.23.0", "5.20.0", "5.20.0"),
        ("5.23.0", "5.24.0", "5.24.0"),
    ],
)
def test_the_first_version_that_breaks_is_found(monkeypatch, good, bad, first_bad):
    monkeypatch.setattr(drift, "released", lambda name: RELEASES)
    tried = []

    def broken(versions):
        tried.append(versions["transformers"])
        at, limit = drift.number(versions["transformers"]), drift.number(first_bad)
        return at >= limit if drift.number(bad) > drift.number(good) else at <= limit

    assert drift.turning_point("transformers", good, bad, broken) == f"transformers {first_bad}"
    assert len(tried) <= 3


def test_a_break_is_put_down_to_the_library_that_brings_it(monkeypatch):
    monkeypatch.setattr(drift, "released", lambda name: {"peft": ("0.23.0", "0.22.0", "0.21.2")}.get(name, RELEASES))
    monkeypatch.setattr(drift, "fails", lambda found, versions: drift.number(versions["peft"]) >= (0, 22))
    newer = LOCKED | {"transformers": "5.24.0", "peft": "0.23.0"}
    test = drift.Break("tests/helpers/test_lora.py::test_x", "tests/helpers/test_lora.py", "AssertionError")
    assert drift.dated(test, LOCKED, newer).since == "peft 0.22.0"
    assert drift.dated(drift.Break("peft.LoraConfig", "a.py:1", "x"), LOCKED, newer).since == "peft 0.22.0"
    inherited = drift.Break("transformers.Trainer", "a.py:1", "comes from peft")
    assert drift.dated(inherited, LOCKED, newer).since == "peft 0.22.0"


def test_a_break_that_no_library_brings_alone_names_them_together(monkeypatch):
    monkeypatch.setattr(drift, "fails", lambda found, versions: False)
    newer = LOCKED | {"transformers": "5.24.0", "peft": "0.23.0"}
    found = drift.dated(drift.Break("tests/a.py::test_x", "tests/a.py", "x"), LOCKED, newer)
    assert found.since == "transformers 5.24.0 with peft 0.23.0"


def test_failed_tests_are_read_with_their_reason(tmp_path):
    planted = tmp_path / "test_planted.py"
    planted.write_text("def test_good(): pass\ndef test_bad(): assert 1 == 2\n")
    found, counts = drift.failures(Path(sys.executable), [str(planted)])
    assert [one.what.rpartition("::")[2] for one in found] == ["test_bad"] and "assert 1 == 2" in found[0].problem
    assert counts == "1 failed, 1 passed"
    planted.write_text("import nothing_like_this\n")
    found, _ = drift.failures(Path(sys.executable), [str(planted)])
    assert len(found) == 1


def test_the_table_says_what_broke_where_and_since_when():
    good = drift.Environment("locked", Path(), LOCKED, counts="9 uses, 5 passed")
    newer = LOCKED | {"peft": "0.23.0"}
    bad = drift.Environment(
        "newest", Path(), newer, breaks=[drift.Break("peft.X", "a.py:3", "does not exist", "peft 0.22")]
    )
    none = drift.Environment("oldest", Path(), LOCKED, trouble="unsatisfiable")
    said = drift.table([none, good, bad], good)
    assert (
        "newest | peft.X | a.py:3 | does not exist | peft 0.22" in said and "oldest" in said and "unsatisfiable" in said
    )
    assert drift.table([good], good).endswith("Nothing broke.")
    both = drift.Environment("locked", Path(), LOCKED, breaks=[drift.Break("peft.X", "a.py:3", "does not exist")])
    assert "also with the lock" in drift.table([both, bad], both)


def test_an_environment_of_the_lock_is_the_environment_itself():
    assert drift.environment("locked", drift.locked_versions()) == drift.setup_venv.PYTHON


def test_an_environment_sees_what_lies_below_it(tmp_path, monkeypatch):
    """Only the install is left out: the Python of the new environment imports torch from the one below."""
    monkeypatch.setattr(drift, "KEPT", tmp_path)
    monkeypatch.setattr(drift.setup_venv, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(drift.setup_venv, "VENV", Path(sys.prefix))
    monkeypatch.setattr(drift.shutil, "which", lambda name: "uv")

    def install(uv, python, pins):
        packages = drift._packages(python)
        (packages / "peft.py").write_text("__version__ = 'planted'\n")

    monkeypatch.setattr(drift, "_install_with_uv", install)
    python = drift.environment("newest", drift.locked_versions() | {"peft": "99.0"})
    code = "import importlib.util as u, peft; print(peft.__version__, u.find_spec('torch').origin)"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("planted ") and str(Path(sys.prefix)) in said
    monkeypatch.setattr(drift, "_install_with_uv", None)
    assert drift.environment("newest", drift.locked_versions() | {"peft": "99.0"}) == python, "it is kept"


def test_what_no_index_has_is_a_sentence(monkeypatch):
    def refuse(name, versions):
        raise drift.NoEnvironmentError("no such version")

    monkeypatch.setattr(drift, "environment", refuse)
    assert drift.examined("newest", LOCKED).trouble == "no such version"
