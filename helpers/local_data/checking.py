"""What `workbook data check` does: read every part for one kind of use, and count its tokens."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.local_data.columns import KINDS
from helpers.local_data.datasets import not_read
from helpers.local_data.lengths import Lengths, lengths_of
from helpers.local_data.parts import named_parts, parts_of
from helpers.local_data.report import TEXTS, Report, report_on
from helpers.local_data.request import Request
from helpers.local_data.table import read


def checked(files: Sequence[str], model: str = "", limit: int = 256) -> tuple[Report, dict[str, dict[str, Lengths]]]:
    """The report on these files, and part -> role -> the lengths of its texts.

    Args:
        files: paths, or requests with columns; one folder counts as the files in it.
        model: a folder whose tokenizer counts; "" takes the pocket encoder's.
        limit: tokens of a text that the lessons read.

    Raises:
        UserError: for what keeps a file from being read at all.
    """
    from helpers import catalog

    requests = [Request.of(file) for file in files]
    parts = named_parts(requests) if len(requests) > 1 else parts_of(requests[0])
    train = read(parts["train"])
    kind = next(name for name, roles in KINDS.items() if roles == tuple(train.choice.columns))
    tables = {part: train if part == "train" else read(one, KINDS[kind]) for part, one in parts.items()}
    report = report_on(tables, kind, skip_bad=all(request.skip_bad for request in parts.values()))
    report.notes += [said.strip() for said in [not_read(parts["train"])] if said]
    tokenizer = catalog.tokenizer("encoder", "pocket", model)
    lengths = {
        part: {role: lengths_of(table.rows[role], tokenizer, limit) for role in table.rows if role in TEXTS}
        for part, table in tables.items()
        if table.places
    }
    return report, lengths
