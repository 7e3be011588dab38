"""workbook.site.reference: the helpers' pages as sphinx-autoapi makes them from the sources."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbook.site.build import SETTINGS
from workbook.site.reference import rewrite

LORA = '''"""Low-rank branches: more of it."""

import torch.nn


class Branch(torch.nn.Module):
    """A branch: A * B, `x*y`, |z| and name_."""

    rank: int
    alpha: float = 1.0

    def __init__(self):
        self.hidden_state = 1

    def merge(self) -> None:
        """Into the weights.

        first: one of the two,
            in plain numbers.
        second, third: the others.
        """

    @property
    def size(self) -> int:
        """Its size: the larger side."""


def scale(first, second, *, alpha: float = 1.0, names: dict[str, int] | None = None, longer: bool = False) -> int:
    """Scale it.

        x   (batch)
      __|__
     |     |

    Args:
        alpha: how much,
            in plain numbers.

    Raises:
        UserError: never.
    """


def _hidden():
    """Not shown."""


def undescribed():
    pass
'''


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    """The text of each page of a small package, tags taken out; torch is not read for it."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "helpers").mkdir()
    (folder / "helpers" / "__init__.py").write_text('"""What lessons share."""\n')
    (folder / "helpers" / "lora.py").write_text(LORA)
    source, made = folder / "source", folder / "html"
    source.mkdir()
    (source / "index.md").write_text("# Home\n\n```{toctree}\napi/helpers/index\n```\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-c", os.fspath(SETTINGS)]
    settings = [f"-Dautoapi_dirs={folder / 'helpers'}", "-d", os.fspath(folder / "doctrees")]
    ended = subprocess.run([*command, *settings, source, made], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return {path.parent.name: words(path) for path in made.rglob("api/**/index.html")}


def words(page: Path) -> str:
    """What a page's article says, with its line breaks."""
    article = page.read_text(encoding="utf-8").split("<article")[1].split("</article>")[0]
    return re.sub(r" *\n\s*", "\n", html.unescape(re.sub(r"<[^>]+>", "", article.replace("<dt", "\n<dt"))))


@pytest.mark.slow
def test_the_first_page_names_every_module(pages):
    assert "What lessons share." in pages["helpers"] and "lora: Low-rank branches: more of it." in pages["helpers"]


@pytest.mark.slow
def test_a_page_has_public_names_signatures_and_what_is_raised(pages):
    text = pages["lora"]
    assert "helpers.lora" in text and "class Branch" in text and "rank: int" in text and "alpha: float = 1.0" in text
    assert "names: dict[str, int] | None = None,\n" in text, "one argument a line, brackets kept whole"
    assert "alpha – how much, in plain numbers." in text.replace("\n", " ")
    assert "UserError – never." in text and "Its size: the larger side." in text
    for hidden in ("_hidden", "undescribed", "hidden_state"):
        assert hidden not in text


@pytest.mark.slow
def test_signs_stay_signs_and_a_drawing_stays_a_drawing(pages):
    assert "A branch: A * B, x*y, |z| and name_." in pages["lora"]
    assert "__|__\n|     |" in pages["lora"]


def test_fields_that_a_docstring_explains_become_a_list():
    lines = [
        "What it knows: much.",
        "",
        "first: one of the two,",
        "    in plain numbers.",
        "second, third: others.",
        "",
    ]
    rewrite(None, "class", "Known", None, None, lines)
    assert lines[:4] == [
        "What it knows: much.",
        "",
        "- first: one of the two, in plain numbers.",
        "- second, third: others.",
    ]
