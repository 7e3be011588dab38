"""Links that work on GitHub and in JupyterLab, made to work on the site as well."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from posixpath import normpath
from urllib.parse import unquote

LINK = r"(?<!!)\[(?P<words>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)"
# Brackets inside code mean something else, so code is taken first.
CODE_OR_LINK = re.compile(rf"```.*?```|{LINK}|`[^`\n]+`", re.DOTALL)
ELSEWHERE = re.compile(r"[a-z]+:", re.IGNORECASE)


def slug(title: str) -> str:
    """A heading's anchor as GitHub makes it: small letters, hyphens for spaces, no other signs."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def relink(text: str, page: str, pages: Collection[str]) -> str:
    """Markdown whose links lead to pages of the site; a link to another file of the project becomes its words.

    Args:
        page: where the text stands, such as "notebooks/02_full_vs_last_layer.ipynb".
        pages: all that the site has, named alike.
    """
    return CODE_OR_LINK.sub(lambda found: _link(found, page, pages) if found["target"] else found[0], text)


def _link(found: re.Match, page: str, pages: Collection[str]) -> str:
    words, target = found["words"], found["target"]
    if ELSEWHERE.match(target):
        return found[0]
    path, _, anchor = target.partition("#")
    # JupyterLab's anchors keep capitals and signs ("#2.-From-text"), which GitHub's rule takes out.
    fragment = f"#{slug(unquote(anchor))}" if anchor else ""
    if not path:
        return f"[{words}]({fragment})"
    there = normpath(str(PurePosixPath(page).parent / unquote(path)))
    return f"[{words}]({path}{fragment})" if there in pages else words
