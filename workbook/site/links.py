"""Rewrites links that work on GitHub and in JupyterLab so that they also work on the site."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from posixpath import normpath
from urllib.parse import unquote

LINK = r"(?<!!)\[(?P<words>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)"
# The pattern also matches code, so that brackets inside code are not taken for links.
CODE_OR_LINK = re.compile(rf"```.*?```|{LINK}|`[^`\n]+`", re.DOTALL)
ELSEWHERE = re.compile(r"[a-z]+:", re.IGNORECASE)


def slug(title: str) -> str:
    """A heading's anchor as GitHub makes it: lower-case letters, hyphens for spaces, no punctuation."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def relink(text: str, page: str, pages: Collection[str]) -> str:
    """Return Markdown with links to pages of the site; a link to any other project file becomes plain text.

    Args:
        page: the page that contains the text, such as "notebooks/02_full_vs_last_layer.ipynb".
        pages: all pages of the site, named in the same way.
    """
    return CODE_OR_LINK.sub(lambda found: _link(found, page, pages) if found["target"] else found[0], text)


def _link(found: re.Match, page: str, pages: Collection[str]) -> str:
    words, target = found["words"], found["target"]
    if ELSEWHERE.match(target):
        return found[0]
    path, _, anchor = target.partition("#")
    # JupyterLab's anchors keep capitals and punctuation ("#2.-From-text"); `slug` converts them to GitHub's form.
    fragment = f"#{slug(unquote(anchor))}" if anchor else ""
    if not path:
        return f"[{words}]({fragment})"
    there = normpath(str(PurePosixPath(page).parent / unquote(path)))
    return f"[{words}]({path}{fragment})" if there in pages else words
