"""The pages that are filled in when the site is built: the start page and the instructors' page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

from helpers.claims.verdict import Verdict
from helpers.lessons.lesson import Lesson
from helpers.site import minutes

TEMPLATES = Path(__file__).resolve().parents[2] / "docs" / "site"
COUNTS = dict(enumerate(("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven",
                         "Twelve", "Thirteen", "Fourteen", "Fifteen")))  # fmt: skip


def start_page(lessons: Sequence[Lesson], verdicts: Sequence[Verdict], figure: str, more: Sequence[str]) -> str:
    """The first page: the figure, the two commands, every lesson's question, and the site's contents.

    more: pages for instructors beside those that every site has.
    """
    words = [found.word for found in verdicts]
    tried = ("holds", "holds with a condition", "not at this scale")
    return Template((TEMPLATES / "start.md").read_text(encoding="utf-8")).substitute(
        count=COUNTS.get(len(lessons), str(len(lessons))),
        figure=figure,
        questions="\n".join(_question(lesson) for lesson in lessons),
        measured=sum(word in tried for word in words),
        holds=words.count("holds"),
        condition=words.count("holds with a condition"),
        contents=_contents(lessons, more),
        **{"not": words.count("not at this scale")},
    )


def instructors_page(more: Sequence[str]) -> str:
    """The instructors' page, with links to further pages of docs/."""
    links = "\n".join(f"- [](docs/{name})" for name in more)
    text = (TEMPLATES / "instructors.md").read_text(encoding="utf-8")
    return Template(text).substitute(more=f"## More\n\n{links}\n" if links else "")


def _question(lesson: Lesson) -> str:
    run = minutes.in_words(minutes.running(lesson.name))
    ran = f"runs in {run}" if run[0].isdigit() else f"running time {run}"
    time = f"about {minutes.reading(lesson)} minutes to read, {ran}"
    return (
        f'- <span class="n">{lesson.number}</span> [{lesson.title}](notebooks/{lesson.path.name}) <small>{time}</small>'
    )


def _contents(lessons: Sequence[Lesson], more: Sequence[str]) -> str:
    parts = {
        "The lessons": [f"{lesson.number} {lesson.title} <notebooks/{lesson.name}>" for lesson in lessons],
        "What held": ["The ledger <ledger>", "The leaderboard <leaderboard>"],
        "To look up": ["Glossary <docs/glossary>", "For instructors <instructors>",
                       *(f"docs/{name.removesuffix('.md')}" for name in more), "The helpers <api/index>"],
    }  # fmt: skip
    fences = ("\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *rows, "```"])
              for title, rows in parts.items())  # fmt: skip
    return "\n\n".join(fences)
