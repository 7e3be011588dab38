"""Converts executed notebooks to self-contained web pages: styles, figures and formulas are inside the file."""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert as mathml
from nbconvert.exporters import HTMLExporter
from nbconvert.filters import Highlight2HTML, clean_html
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from helpers.files import write_text
from workbook.lessons.layout import page
from workbook.lessons.outputs import joined

WIDGET = "application/vnd.jupyter.widget-view+json"
LESSON_LINK = re.compile(r'<a href="(?:\./)?(\d\d_[a-z0-9_]+)\.ipynb(#[^"]*)?">(.*?)</a>', re.DOTALL)
# A run has no glossary page, so links to the glossary become plain text.
GLOSSARY_LINK = re.compile(r'<a href="[^"]*docs/glossary\.md[^"]*">(.*?)</a>', re.DOTALL)


class FormulaRenderer(IPythonRenderer):
    """Renders Markdown with formulas as MathML, which browsers draw without a script."""

    def block_math(self, body: str) -> str:
        return _formula(body, "block")

    def inline_math(self, body: str) -> str:
        return _formula(body, "inline")

    def _html_embed_images(self, html: str) -> str:
        # The parent's HTML parser would close a <details> that continues in the next paragraph, so only images get it.
        return super()._html_embed_images(html) if "<img" in html else html


class Highlighted(str):
    """HTML of code that Pygments has highlighted and escaped."""

    __slots__ = ()


class PageExporter(HTMLExporter):
    """Exports the HTML body of a notebook, with formulas as MathML."""

    def default_filters(self):
        """nbconvert's filters, but without cleaning Pygments' output again, which takes a third of a page's time."""
        yield from super().default_filters()
        colour = Highlight2HTML(pygments_lexer="ipython3", parent=self)
        yield "highlight_code", lambda *args, **options: Highlighted(colour(*args, **options))
        yield "clean_html", lambda element: element if isinstance(element, Highlighted) else clean_html(element)

    @pass_context
    def markdown2html(self, context, source):
        path = context.get("resources", {}).get("metadata", {}).get("path", "")
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = FormulaRenderer(
            escape=False, attachments=attachments, embed_images=True, path=path, exclude_anchor_links=True
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def write_page(
    notebook: Path,
    figures: Path,
    lessons: list[str],
    home: tuple[str, str] = ("../index.html", "All lessons of this run"),
) -> Path:
    """Write an executed notebook as an HTML page next to it; return the page's path.

    Args:
        figures: the folder to which the lesson's image links are relative.
        lessons: names of the lessons whose pages are next to this one; links to other lessons become plain text.
        home: the target and the text of the link at the top.
    """
    content = nbformat.read(notebook, as_version=4)
    content.metadata.pop("widgets", None)
    for cell in content.cells:
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
            for output in cell.outputs:
                _without_widget(output)
    body = GLOSSARY_LINK.sub(r"\1", body_of(content, figures))
    body = LESSON_LINK.sub(lambda found: _link(found, lessons), body)
    top = '<p class="top"><a href="{}">{}</a></p>'.format(*home)
    return write_text(notebook.with_suffix(".html"), page(_title(content), f"{top}<main>{body}</main>"))


def body_of(content: nbformat.NotebookNode, figures: Path) -> str:
    """The HTML of a notebook's cells; image links are relative to the folder `figures`."""
    exporter = PageExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.filters["highlight_code"] = exporter.environment.filters["highlight_code"]
    body, _ = exporter.from_notebook_node(content, resources={"metadata": {"path": str(figures)}})
    return body


def _formula(body: str, display: str) -> str:
    try:
        return mathml(body.strip(), display=display)
    except Exception:  # a formula that the converter cannot read is shown as LaTeX
        return f"<code>{html.escape(body)}</code>"


def _without_widget(output: dict) -> None:
    if WIDGET in output.get("data", {}):
        note = "<p class='widget'>Something to move is here: open the lesson with <code>make lab</code>.</p>"
        output["data"] = {"text/html": note}


def _link(found: re.Match, lessons: list[str]) -> str:
    name, anchor, text = found.groups()
    return f'<a href="../{name}/{name}.html{anchor or ""}">{text}</a>' if name in lessons else text


def _title(content: nbformat.NotebookNode) -> str:
    first = content.cells[0].source.splitlines() if content.cells else []
    return first[0].lstrip("# ").strip() if first else "Lesson"
