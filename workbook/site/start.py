"""The start page and the instructors' page."""

from __future__ import annotations

from collections.abc import Sequence

from workbook.claims.verdict import JUDGED, Verdict
from workbook.lessons.lesson import Lesson
from workbook.site import minutes
from workbook.site.templates import contents, filled

COUNTS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve",
          "Thirteen", "Fourteen", "Fifteen")  # fmt: skip


def start_page(lessons: Sequence[Lesson], verdicts: Sequence[Verdict], figure: str, more: Sequence[str]) -> str:
    """The first page: the figure, the two commands, every lesson's question, and the site's contents.

    more: file names of the guides in docs/, without the glossary.
    """
    words = [found.word for found in verdicts]
    return filled(
        "start.md",
        count=COUNTS[len(lessons)] if len(lessons) < len(COUNTS) else len(lessons),
        figure=figure,
        questions="\n".join(_question(lesson) for lesson in lessons),
        measured=sum(word in JUDGED for word in words),
        holds=words.count("holds"),
        condition=words.count("holds with a condition"),
        contradicted=words.count("contradicted"),
        open=words.count("cannot tell"),
        contents=_contents(lessons, more),
    )


def instructors_page(more: Sequence[str]) -> str:
    """The instructors' page, with links to the guides `more` in docs/."""
    links = "\n".join(f"- [](docs/{name})" for name in more)
    return filled("instructors.md", more=f"## More\n\n{links}\n" if links else "")


def _question(lesson: Lesson) -> str:
    run = minutes.in_words(minutes.running(lesson.name))
    ran = f"runs in {run}" if run[0].isdigit() else f"running time {run}"
    time = f"<small>about {minutes.reading(lesson)} minutes to read, {ran}</small>"
    return f'- <span class="n">{lesson.number}</span> [{lesson.title}](notebooks/{lesson.path.name}) {time}'


def _contents(lessons: Sequence[Lesson], more: Sequence[str]) -> str:
    guides = [f"docs/{name.removesuffix('.md')}" for name in more]
    parts = {
        "The lessons": [f"{lesson.number} {lesson.title} <notebooks/{lesson.name}>" for lesson in lessons],
        "What held": ["The ledger <ledger>", "The leaderboard <leaderboard>"],
        "Guides": ["For instructors <instructors>", *guides],
        "To look up": ["Glossary <docs/glossary>", "The helpers <api/helpers/index>"],
    }
    return "\n\n".join(contents(pages, caption) for caption, pages in parts.items())
