"""workbook.lessons.outputs: pieces of one stream become one output."""

from __future__ import annotations

from nbformat.v4 import new_output

from workbook.lessons.outputs import joined


def stream(text: str, name: str = "stdout"):
    return new_output("stream", name=name, text=text)


def test_pieces_that_follow_each_other_are_joined():
    shown = new_output("display_data", data={"text/plain": "figure"})
    made = joined([stream("a"), stream("b\n"), stream("!", "stderr"), shown, stream("c")])
    assert [output.get("text", "figure") for output in made] == ["ab\n", "!", "figure", "c"]


def test_a_long_line_is_no_burden():
    """A method that takes quadratic time would not come back from this."""
    assert len(joined([stream("x" * 1_000_000), stream("y" * 1_000_000)])[0].text) == 2_000_000
