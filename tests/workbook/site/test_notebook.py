"""workbook.site.notebook: a committed notebook as the site shows it."""

from __future__ import annotations

import base64
import re

import nbformat
import pytest

from helpers.plotting import axes, png
from helpers.runtime import UserError
from workbook.lessons import Lesson
from workbook.notebooks import WIDGET_TEXT
from workbook.site.notebook import shown

v4 = nbformat.v4


def output(data: dict, metadata: dict | None = None):
    return v4.new_output("display_data", data=data, metadata=metadata or {})


@pytest.fixture
def page(tmp_path):
    """Make a lesson with one code cell that has these outputs; return the notebook that the site shows."""

    def made(*outputs, count: int | None = 1):
        code = v4.new_code_cell("1", outputs=list(outputs), execution_count=count)
        cells = [v4.new_markdown_cell("# Is it?\n\nFirst [words](../docs/glossary.md#token)."), code]
        path = tmp_path / "03_three.ipynb"
        nbformat.write(v4.new_notebook(cells=cells), path)
        return shown(Lesson(path), tmp_path / "extra", {"docs/glossary.md"})

    return made


@pytest.fixture
def picture():
    figure, _ = axes(2.0, 1.0)
    return base64.b64encode(png(figure)).decode()


def test_every_figure_of_a_cell_keeps_its_own_text(page, picture, tmp_path):
    first = output({"image/png": picture}, {"image/png": {"alt": 'rising, "steeply" & fast'}})
    second = output({"image/png": picture}, {"image/png": {"alt": "falling"}})
    told = [one.data["text/html"] for one in page(first, second).cells[1].outputs]
    assert 'alt="rising, &quot;steeply&quot; &amp; fast"' in told[0] and 'alt="falling"' in told[1]
    name = re.search(r'src="\.\./(figures/[0-9a-f]+\.png)"', told[0])[1]
    assert (tmp_path / "extra" / name).read_bytes() == base64.b64decode(picture)
    assert 'width="220" height="110"' in told[0]


def test_a_figure_without_text_is_refused(page, picture):
    with pytest.raises(UserError, match=r"03_three\.ipynb has no alternative text"):
        page(output({"image/png": picture}))


def test_a_notebook_without_results_is_refused(page):
    with pytest.raises(UserError, match="cells without a result"):
        page(count=None)


def test_a_widget_says_where_it_can_be_moved(page):
    told = page(output({"text/plain": WIDGET_TEXT})).cells[1].outputs[0].data["text/html"]
    assert "make lab" in told


def test_tables_in_markdown_keep_only_links_that_lead_somewhere(page):
    told = page(output({"text/markdown": "[a](99_none.ipynb) [b](../docs/glossary.md#x)"})).cells[1].outputs[0].data
    assert told["text/markdown"] == "a [b](../docs/glossary.md#x)"


def test_the_number_stands_under_the_title(page):
    assert page().cells[0].source.startswith('# Is it?\n\n<p class="number">Lesson 03</p>')
