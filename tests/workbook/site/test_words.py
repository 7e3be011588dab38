"""The words of the course: terms linked where they are first used, minutes measured, works named, spelling checked."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.workbook.site import glossary
from workbook.lessons import NOTEBOOKS, Lesson
from workbook.notebooks import from_source
from workbook.site import minutes
from workbook.site.links import slug

ROOT = Path(__file__).resolve().parents[3]
LESSONS = [Lesson(NOTEBOOKS / f"{path.stem}.ipynb") for path in sorted((NOTEBOOKS / "source").glob("*.py"))]
TERMS = glossary.terms()
TIME = re.compile(
    r"^\*About (\d+) minutes to read \(an estimate\), (.+) to run \((measured on|an estimate for) two "
    r"processor cores\)",
    re.M,
)
STATED = {
    "ten seconds": 10,
    "half a minute": 30,
    "a minute": 60,
    "two": 120,
    "two and a half": 150,
    "three": 180,
    "four": 240,
    "five": 300,
    "six": 360,
    "ten": 600,
}
AUTHOR = r"(?:[A-Z][\w-]+ )?[A-Z][\w-]+(?: et al\.| and [A-Z]\w+)?"
CITED = re.compile(rf"({AUTHOR}) \(?((?:19|20)\d\d)\)?")
REFERENCES = re.compile(r"^## References\n(.+)\Z", re.DOTALL | re.MULTILINE)
NAMED_ONLY = ("rasbt/LLMs-from-scratch", "rasbt/LLM-finetuning-scripts", "microsoft/LoRA", "LoRA from scratch")
ADDRESS = re.compile(r"https?://(?!colab\.research\.google\.com/github/)[^\s)>\"]+")  # a button is no reference
PROSE = ["README.md", "CONTRIBUTING.md", "docs", "data/README.md", "data/reference/claims.yaml", "helpers",
         "notebooks/source", "sweeps", "tools", "benchmarks", "Makefile", "pyproject.toml"]  # fmt: skip

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


@cache
def prose(lesson: Lesson) -> list[str]:
    """The Markdown cells of the lesson's source."""
    return [cell.source for cell in from_source(lesson.source).cells if cell.cell_type == "markdown"]


@cache
def first_uses(lesson: Lesson) -> dict[str, glossary.Use]:
    """Where the lesson first uses each term."""
    return glossary.first_uses(prose(lesson), TERMS)


def first_lesson(term: glossary.Term) -> Lesson | None:
    """The first lesson of the course that uses a term."""
    return next((one for one in LESSONS if term.name in first_uses(one)), None)


@each_lesson
def test_every_term_is_linked_where_the_lesson_first_uses_it(lesson):
    uses = first_uses(lesson)
    missing = [
        name
        for name, use in uses.items()
        if not use.linked and (not use.term.basic or first_lesson(use.term) == lesson)
    ]
    assert not missing, f"link the first of each to {glossary.TARGET}..."
    assert len(uses) > 5 or lesson.number in ("00", "12")


@each_lesson
def test_links_to_the_glossary_lead_to_its_entries(lesson):
    there = {slug(term.name) for term in TERMS}
    for text in prose(lesson):
        for anchor in re.findall(r"docs/glossary\.md#([^)\s]+)", text):
            assert anchor in there, f"the glossary has no entry {anchor}"


def test_each_entry_is_found_on_github_in_jupyterlab_and_on_the_site():
    text = glossary.PATH.read_text(encoding="utf-8")
    for term in TERMS:
        in_jupyterlab = term.name.replace(" ", "-")
        assert in_jupyterlab == slug(term.name) or f'<a id="{slug(term.name)}"></a>\n\n### {term.name}\n' in text


def test_the_glossary_says_each_term_in_a_sentence_or_two_and_lists_none_twice():
    text = glossary.PATH.read_text(encoding="utf-8")
    names = [term.name for term in TERMS]
    assert len(names) == len(set(names)) > 60
    parts = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert len(parts) == 2
    for part in parts:
        listed = re.findall(r"^### (.+)$", part, re.MULTILINE)
        assert listed == sorted(listed, key=str.lower)
    for entry in re.split(r"^### .+$", text, flags=re.MULTILINE)[1:]:
        words = len(entry.split("\n## ")[0].split())
        assert 5 <= words <= 60, entry


def test_a_term_that_is_not_linked_is_noticed_and_code_and_longer_terms_are_not_uses():
    known = [glossary.Term("rank", ("rank",)), glossary.Term("low rank", ("low rank",))]
    link = "../docs/glossary.md#rank"
    assert not glossary.first_uses(["The rank counts."], known)["rank"].linked
    assert glossary.first_uses([f"The [rank]({link}) counts, the rank."], known)["rank"].linked
    assert not glossary.first_uses([f"The rank, the [rank]({link})."], known)["rank"].linked
    assert "rank" not in glossary.first_uses(["## A rank\n\n`rank = 8` and a low\nrank, *ranking*"], known)


@each_lesson
def test_the_objectives_say_what_a_learner_will_be_able_to_do(lesson):
    cells = [text for text in prose(lesson)[:3] if text.startswith("**You will be able to**")]
    assert len(cells) == 1
    assert 3 <= len(re.findall(r"^- \w+", cells[0], re.MULTILINE)) <= 6


@each_lesson
def test_minutes_to_run_are_the_measured_ones_and_minutes_to_read_an_estimate(lesson):
    found = TIME.search(prose(lesson)[0])
    assert found, "say how long it takes to read (an estimate) and to run (measured)"
    seconds = minutes.running(lesson.name)
    assert found[2] in STATED
    if seconds is not None and found[3] == "measured on":
        assert 0.6 <= seconds / STATED[found[2]] <= 1.4, f"`make bench` measured {seconds:.0f} seconds"
    if lesson.path.is_file():
        assert abs(int(found[1]) - minutes.reading(lesson)) <= 10


@each_lesson
def test_every_work_that_is_named_has_its_title_and_year_in_the_lesson(lesson):
    text = "\n\n".join(prose(lesson))
    listed = REFERENCES.search(text)
    entries = [line for line in listed[1].splitlines() if "*" in line] if listed else []
    body = text[: listed.start()] if listed else text
    for author, year in CITED.findall(body):
        if author.split()[0] not in ("In", "Since"):
            assert any(author in one and year in one for one in entries), f"{author} {year} has no title"
    for name in NAMED_ONLY:
        assert name not in body or any(name in one for one in entries), f"{name} is not among the references"
    for one in entries:
        assert re.search(r"\*.{8,}\*|`\w+\.py`", one), f"no title: {one}"
        assert re.search(r"\|\s*((19|20)\d\d|repository|studio)\s*\|$", one), f"no year: {one}"


@each_lesson
def test_an_address_on_the_web_stands_beside_a_title_and_a_year(lesson):
    for text in prose(lesson):
        for found in ADDRESS.finditer(text):
            near = text[max(0, found.start() - 200) : found.end() + 100]
            assert re.search(r"\*[^*]{8,}\*|\[[^\]]{8,}\]", near), f"{found[0]} has no title: links die"
            assert re.search(r"\b(19|20)\d\d\b", ADDRESS.sub("", near)), f"{found[0]} has no year: links die"


def spelled(*paths: str | Path) -> subprocess.CompletedProcess:
    """codespell over these files, with the settings of pyproject.toml."""
    command = [sys.executable, "-m", "codespell_lib", *map(str, paths)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_prose_and_sources_are_spelled_right():
    result = spelled(*PROSE)
    assert result.returncode == 0, result.stdout


def test_a_wrong_spelling_is_found(tmp_path):
    (tmp_path / "page.md").write_text("We recieve a tensor.")  # codespell:ignore
    result = spelled(tmp_path / "page.md")
    assert result.returncode != 0 and "receive" in result.stdout
