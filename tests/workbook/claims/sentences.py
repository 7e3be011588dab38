"""The sentences of the course's own conclusion, numbered, and a fingerprint of each.

The text itself is not part of this repository: it is known by its fingerprints. A section is the opening (0) or one
of the conclusion's points (1, 2, ...); the points under a point count as its further sentences.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
POINT, PART = re.compile(r"- "), re.compile(r" +- ")


def sentences(text: str) -> dict[str, str]:
    """Place, such as "4.2", -> the sentence there, with its white space made plain."""
    found: dict[str, str] = {}
    section, number = 0, 0
    for is_point, block in _blocks(text):
        if is_point:
            section, number = section + 1, 0
        for sentence in SENTENCE_ENDS.split(plain(block)):
            number += 1
            found[f"{section}.{number}"] = sentence
    return found


def plain(text: str) -> str:
    """The text with every run of white space made one space."""
    return " ".join(text.split())


def fingerprint(sentence: str) -> str:
    """The SHA-256 of a sentence, whatever its line breaks."""
    return hashlib.sha256(plain(sentence).encode()).hexdigest()


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """(is it a new point, its text) for every paragraph, point and part of a point; wrapped lines are joined."""
    is_point, lines = False, []
    for line in [*text.splitlines(), ""]:
        starts = POINT.match(line) or PART.match(line)
        if (starts or not line.strip()) and lines:
            yield is_point, " ".join(lines)
            is_point, lines = False, []
        if starts:
            is_point, line = bool(POINT.match(line)), line[starts.end() :]
        if line.strip():
            lines.append(line)
