"""The project's web pages: a body with the project's own style; nothing is downloaded to show it."""

from __future__ import annotations

import html
from pathlib import Path

from jinja2 import Environment
from pygments.formatters import HtmlFormatter

STYLE = Path(__file__).with_name("page.css")
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, body: str) -> str:
    """A whole page with the workbook's own style."""
    return PAGE.format(title=html.escape(title), style=style(), body=body)


def filled(template: str, **values: object) -> str:
    """Fill a Jinja template with `values`, escaped for HTML."""
    return Environment(autoescape=True, trim_blocks=True).from_string(template).render(values)


def number_text(name: str, value: float) -> str:
    """A number as readable text, with the unit that the metric's name implies."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.startswith("seconds"):
        return f"{value:.1f} s"
    if "bytes" in name:
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def style() -> str:
    """The style sheet, with code colours for light and dark screens."""
    light = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{STYLE.read_text(encoding='utf-8')}"
