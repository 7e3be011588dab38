"""workbook.site.api: the reference, read from the sources."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workbook.site import api


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "lora.py").write_text(
        '"""Low-rank branches. More of it."""\n\n'
        "class Branch(Module):\n"
        '    """A branch: A * B, `x*y` and $5."""\n\n    rank: int\n    alpha: float = 1.0\n\n'
        '    def merge(self) -> None:\n        """Into the weights."""\n\n'
        "def scale(first, second, *, alpha: float = 1.0, "
        "names: dict[str, int] | None = None, longer: bool = False) -> int:\n"
        '    """Scale it.\n\n    Args:\n        alpha: how much,\n            in plain numbers.\n\n'
        '    Raises:\n        UserError: never.\n    """\n\n'
        'def _hidden():\n    """Not shown."""\n\n'
        "def undescribed():\n    pass\n"
    )
    return tmp_path


def test_a_page_has_public_names_signatures_and_what_is_raised(folder):
    text = api.pages(folder)["lora"]
    assert text.startswith("# helpers.lora\n\nLow-rank branches.")
    assert "## Branch\n" in text and "class Branch(Module):\n    rank: int\n    alpha: float = 1.0" in text
    assert "### Branch.merge" in text
    assert "names: dict[str, int] | None=None,\n" in text, "one argument a line, brackets kept whole"
    assert "**Arguments**\n\n- alpha: how much, in plain numbers." in text
    assert "**Raises**\n\n- UserError: never." in text
    assert "_hidden" not in text and "undescribed" not in text


def test_signs_of_markdown_stay_signs(folder):
    assert r"A \* B, `x*y` and \$5." in api.pages(folder)["lora"]


def test_a_drawing_in_characters_stays_a_drawing(folder):
    (folder / "drawn.py").write_text('"""A branch.\\n\\n    x   (batch)\\n  __|__\\n |     |\\n\\nAnd words.\\n"""\n')
    text = api.pages(folder)["drawn"]
    assert "```text\n" in text and "  __|__\n |     |\n```" in text and text.rstrip().endswith("And words.")


def test_every_part_of_helpers_has_a_page_and_the_index_names_it():
    made = api.pages()
    assert {"lora", "dpo", "runtime", "checks", "memory"} <= set(made)
    assert not {"claims", "sweeps", "site"} & set(made), "the command is no part of it"
    index = api.index(made)
    for name in made:
        assert f"[{name}]({name}.md)" in index


def test_nothing_heavy_is_imported_to_describe_it():
    code = "import sys; from workbook.site import api; api.pages(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
