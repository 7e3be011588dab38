"""workbook.lessons.pages: everything that a page shows is inside it."""

from __future__ import annotations

import re

import nbformat
import pytest

from workbook.lessons.pages import write_page


@pytest.fixture
def page(tmp_path):
    def made(*cells) -> str:
        path = tmp_path / "00_tiny.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
        return write_page(path, figures=tmp_path, lessons=["00_tiny", "01_next"]).read_text()

    return made


def markdown(text: str):
    return nbformat.v4.new_markdown_cell(text)


def test_formulas_are_drawn_without_a_script(page):
    text = page(markdown("# Is it?\n\n$\\frac{1}{2}$ and\n\n$$\\sum_i x_i$$"))
    assert text.count("<math") == 2 and "<script" not in text
    assert "<title>Is it?</title>" in text


def test_a_formula_beyond_the_converter_is_shown_as_typed(page):
    assert "<code>a^b^c</code>" in page(markdown("$a^b^c$"))


def test_links_lead_to_pages_that_exist(page):
    text = page(markdown("[next](01_next.ipynb#part), [later](09_later.ipynb)"))
    assert '<a href="../01_next/01_next.html#part">next</a>, later' in text


def test_a_word_that_the_glossary_has_stays_a_word(page):
    text = page(markdown("# Is it?\n\nthe *[rank](../docs/glossary.md#rank)* of [it](01_next.ipynb)"))
    assert "the <em>rank</em> of <a" in text and "glossary" not in text


def test_a_folded_answer_stays_folded(page):
    text = page(markdown("<details><summary>Answer</summary>\n\nIt is *so*.\n\n</details>"))
    assert re.search(r"<details><summary>Answer</summary>.*It is <em>so</em>.*</details>", text, re.DOTALL)


def test_local_figures_and_their_texts_are_inside(page, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "map.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    text = page(markdown("![a map](figures/map.svg)"))
    assert 'src="data:image/svg+xml;base64,' in text and 'alt="a map"' in text


def test_a_widget_becomes_a_sentence(page):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "IntSlider()"}
    cell = nbformat.v4.new_code_cell("slider", outputs=[nbformat.v4.new_output("display_data", data=data)])
    text = page(markdown("# T"), cell)
    assert "open the lesson with <code>make lab</code>" in text and "<script" not in text


def test_the_figure_of_a_cell_keeps_its_alternative_text(page):
    output = nbformat.v4.new_output(
        "display_data", data={"image/png": "aGk="}, metadata={"image/png": {"alt": "a line"}}
    )
    assert 'alt="a line"' in page(nbformat.v4.new_code_cell("show()", outputs=[output]))
