"""Merges the outputs of a cell."""

from __future__ import annotations

from nbformat import NotebookNode


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs with consecutive pieces of a stream merged, because a kernel splits streams at random points."""
    # nbclient's own merging takes quadratic time on a long line: hours for a megabyte.
    made: list[NotebookNode] = []
    for output in outputs:
        same = made and output.output_type == "stream" == made[-1].output_type and output.name == made[-1].name
        if same:
            made[-1].text += output.text
        else:
            made.append(output)
    return made
