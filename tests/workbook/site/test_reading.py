"""The built site in a browser: it asks nothing of the network, is searched, turns dark, and is read on a phone."""

from __future__ import annotations

import html
import re
from urllib.parse import urlsplit

import pytest

from tests.workbook.site.conftest import served
from workbook.lessons import find

pytestmark = pytest.mark.slow
BUILT = [lesson for lesson in find() if lesson.path.is_file()]
OTHERS = ("index", "ledger", "leaderboard", "instructors", "docs/glossary", "docs/sweeps", "api/helpers/index",
          "api/helpers/lora/index")  # fmt: skip
PAGES = [*OTHERS, *(f"notebooks/{lesson.name}" for lesson in BUILT)]
DESKTOP, PHONE = 1280, 390


def outside(requests: list[str]) -> list[str]:
    """The addresses that are not on this machine."""
    return [url for url in requests if urlsplit(url).hostname != "127.0.0.1" and not url.startswith(("data:", "blob:"))]


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_no_page_asks_anything_of_another_machine_or_is_wider_than_the_screen(address, tab, width):
    page, missing = tab(width), []
    page.on("response", lambda answer: missing.append(answer.url) if answer.status >= 400 else None)
    for name in PAGES:
        page.goto(f"{address}{name}.html", wait_until="load")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} has to be pushed sideways"
        page.evaluate("document.querySelectorAll('img[loading]').forEach(one => one.loading = 'eager')")
    assert len(tab.requests) > len(PAGES)
    assert outside(tab.requests) == []
    assert missing == []


def test_every_page_fits_a_phone(site, address, tab):
    page, wide = tab(PHONE), {}
    for path in sorted(site.rglob("*.html")):
        if path.is_relative_to(site / "_static"):
            continue
        name = path.relative_to(site).as_posix()
        page.goto(address + name, wait_until="load")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE:
            wide[name] = width
    assert wide == {}


def test_a_request_to_another_machine_is_noticed(tab, tmp_path):
    (tmp_path / "index.html").write_text('<script src="http://192.0.2.1/mathjax.js"></script>')
    with served(tmp_path) as address:
        page = tab()
        page.route("http://192.0.2.1/**", lambda route: route.abort())
        page.goto(address)
    assert outside(tab.requests) == ["http://192.0.2.1/mathjax.js"]


def test_no_page_names_a_script_style_or_font_of_another_machine(site):
    fetched = re.compile(r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//""")
    for path in site.rglob("*.html"):
        assert not fetched.search(path.read_text(encoding="utf-8")), path.name


def test_every_image_has_a_text(site):
    for path in site.rglob("*.html"):
        for tag in re.findall(r"<img\b[^>]*>", path.read_text(encoding="utf-8")):
            decoration = 'class="logo__image' in tag  # the name of the workbook stands beside it
            assert re.search(r'\balt="[^"]+"', tag) or decoration, f"{path.name}: {tag[:200]}"


@pytest.mark.parametrize("lesson", BUILT, ids=lambda lesson: lesson.name)
def test_a_lesson_shows_the_figures_and_results_of_its_committed_notebook(site, lesson):
    text = html.unescape((site / "notebooks" / f"{lesson.name}.html").read_text(encoding="utf-8"))
    outputs = [output for cell in lesson.cells for output in cell.get("outputs", [])]
    figures = [output["metadata"]["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})]
    assert text.count('<img class="measured"') == len(figures)
    for alt in figures:
        assert " ".join(alt.split()) in text
    said = [line for output in outputs if "text" in output for line in "".join(output["text"]).splitlines()]
    assert sum(line.strip() in text for line in said) >= 0.9 * len(said)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_a_search_finds_the_lesson(address, tab, width):
    page = tab(width)
    page.goto(f"{address}index.html")
    page.locator("button.search-button__button, button.search-button").filter(visible=True).first.click()
    box = page.locator("dialog input[type=search], .search-button__search-container input[type=search]").first
    box.fill("truncation")
    box.press("Enter")
    found = page.locator("#search-results a", has_text="What is a low-rank update?").first
    found.wait_for()
    found.click()
    page.wait_for_url("**/08_lora_pytorch.html*")
    assert outside(tab.requests) == []


def test_light_turns_dark_and_stays_dark_on_the_next_page(address, tab):
    page = tab()
    page.goto(f"{address}index.html")

    def ground() -> int:
        return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))

    assert ground() > 600, "white to start with"
    page.locator("button.theme-switch-button").filter(visible=True).first.click()
    page.locator("button.theme-change-button[data-mode=dark]").filter(visible=True).first.click()
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert ground() < 150
    page.goto(f"{address}ledger.html")
    assert ground() < 150


def test_next_leads_through_all_lessons_and_previous_back(address, tab):
    page = tab()
    page.goto(f"{address}index.html")
    for lesson in BUILT:
        page.locator("a.right-next").click()
        assert page.locator("article h1").inner_text().startswith(lesson.title)
        assert f"Lesson {lesson.number}" in page.locator("p.number").inner_text()
    page.locator("a.left-prev").click()
    assert page.locator("article h1").inner_text().startswith(BUILT[-2].title)


def test_a_word_of_a_lesson_leads_to_its_entry_in_the_glossary(address, tab):
    page = tab()
    page.goto(f"{address}docs/glossary.html")
    assert page.locator("section#perplexity").count() == 1
    page.goto(f"{address}notebooks/01_pretrained_transformers.html")
    link = page.locator("article a", has_text="perplexity").first
    if link.count():  # a notebook built before the glossary has none
        link.click()
        page.wait_for_url("**/docs/glossary.html#perplexity")


def test_formulas_are_drawn_without_a_script(address, tab):
    page = tab()
    page.goto(f"{address}notebooks/08_lora_pytorch.html")
    assert page.locator("math").count() > 3
    assert page.locator("math").first.bounding_box()["width"] > 5
    assert not any("mathjax" in url.lower() for url in tab.requests)
