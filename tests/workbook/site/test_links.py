"""workbook.site.links: one link for GitHub, JupyterLab and the site."""

from __future__ import annotations

import pytest

from workbook.site.links import relink, slug

PAGES = {"notebooks/01_one.ipynb", "notebooks/02_two.ipynb", "docs/glossary.md", "ledger.md"}


@pytest.mark.parametrize(
    ("title", "anchor"),
    [
        ("1. A model is a folder", "1-a-model-is-a-folder"),
        ("3. Inside: attention, by hand", "3-inside-attention-by-hand"),
        ("LoRA", "lora"),
        ("Exercise 02.1: which rung?", "exercise-021-which-rung"),
    ],
)
def test_anchors_are_those_of_github(title, anchor):
    assert slug(title) == anchor


def test_jupyterlabs_anchors_become_those_of_the_site():
    text = relink("[two](02_two.ipynb#5.-Where-from%3F)", "notebooks/01_one.ipynb", PAGES)
    assert text == "[two](02_two.ipynb#5-where-from)"
    assert relink("[here](#5.-Where-from%3F)", "notebooks/01_one.ipynb", PAGES) == "[here](#5-where-from)"


def test_links_lead_to_pages_that_the_site_has_and_others_become_words():
    told = (
        "[rank](../docs/glossary.md#rank), [later](09_nine.ipynb), [a sweep](../sweeps/rank.yaml), [*far*](https://x.y)"
    )
    expected = "[rank](../docs/glossary.md#rank), later, a sweep, [*far*](https://x.y)"
    assert relink(told, "notebooks/01_one.ipynb", PAGES) == expected


def test_brackets_in_code_and_figures_stay():
    text = "`rows[0](x.md)` and\n```\n[a](b.md)\n```\n![alt](figure.svg) and [`code`](02_two.ipynb)"
    assert relink(text, "notebooks/01_one.ipynb", PAGES) == text
