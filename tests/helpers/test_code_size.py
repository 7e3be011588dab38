"""helpers.code_size counts what does something."""

from __future__ import annotations

from helpers.code_size import code_lines


def sample(a):
    """A docstring

    of three lines.
    """

    # a comment
    text = "a string"  # counted: it is part of a statement

    return {
        a: text,
    }


def test_blank_lines_comments_and_docstrings_are_not_counted():
    assert code_lines(sample) == 5
