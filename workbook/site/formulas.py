"""Renders formulas as MathML for Sphinx. Browsers draw it without the remote script that Sphinx's default needs."""

from __future__ import annotations

import html

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

logger = logging.getLogger(__name__)


def setup(app) -> dict[str, object]:
    """Register the renderer `mathml` with Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def formula(body: str, display: str) -> str:
    """Convert LaTeX to MathML, with the LaTeX text as its label for screen readers.

    Raises:
        ValueError: the converter cannot read it.
    """
    try:
        made = convert(body.strip(), display=display)
    except Exception as error:
        raise ValueError(f"the formula {body.strip()!r} cannot be read: {type(error).__name__} {error}") from error
    return made.replace("<math ", f'<math alttext="{html.escape(body.strip(), quote=True)}" ', 1)


def _inline(self, node: nodes.math) -> None:
    self.body.append(_said(node, "inline"))
    raise nodes.SkipNode


def _block(self, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula" tabindex="0" role="group">{_said(node, "block")}</div>')
    raise nodes.SkipNode


def _said(node: nodes.Element, display: str) -> str:
    try:
        return formula(node.astext(), display)
    except ValueError as error:
        logger.warning(str(error), location=node)  # an error if Sphinx runs with -W
        return f"<code>{html.escape(node.astext())}</code>"
