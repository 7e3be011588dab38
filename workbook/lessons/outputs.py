"""A cell's outputs, put in order."""

from __future__ import annotations

from nbformat import NotebookNode


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, with pieces of one stream that follow each other as one: where a kernel cuts them is chance."""
    # nbclient's own coalescing takes a quadratic time on a long line, hours for a megabyte.
    made: list[NotebookNode] = []
    for output in outputs:
        same = made and output.output_type == "stream" == made[-1].output_type and output.name == made[-1].name
        if same:
            made[-1].text += output.text
        else:
            made.append(output)
    return made
