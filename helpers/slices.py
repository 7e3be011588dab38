"""Kinds of rows: a score on all rows hides where a model fails."""

from __future__ import annotations

from datasets import Dataset

LONGER = ("short", "middling", "long")


def rows_by_kind(dataset: Dataset, column: str = "phenomena", least: int = 1) -> dict[str, list[int]]:
    """Row numbers by what `column` (a list of names in each row) says; a row may be of several kinds.

    Data that lack the column are cut into three parts by the length of their text instead.
    Kinds of fewer than `least` rows are left out. Returned with the largest kind first.
    """
    if column in dataset.column_names:
        kinds: dict[str, list[int]] = {}
        for row, names in enumerate(dataset[column]):
            for name in names:
                kinds.setdefault(name, []).append(row)
    else:
        kinds = _by_length(dataset["text"])
    kept = {name: rows for name, rows in kinds.items() if len(rows) >= least}
    return dict(sorted(kept.items(), key=lambda item: (-len(item[1]), item[0])))


def _by_length(texts: list[str]) -> dict[str, list[int]]:
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    third = -(-len(order) // len(LONGER))
    parts = (order[start : start + third] for start in range(0, len(order), third))
    return {name: sorted(rows) for name, rows in zip(LONGER, parts, strict=False)}
