"""Refuse files over 1 MB: the pre-commit hook names them as arguments."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 1_000_000


def large(names: list[str]) -> list[str]:
    """Return the named files that are over the limit."""
    return [name for name in names if Path(name).is_file() and Path(name).stat().st_size > LIMIT]


if __name__ == "__main__":
    found = large(sys.argv[1:])
    for name in found:
        print(f"{name} is over 1 MB: data that large belongs under data/models or data/microworld.")
    sys.exit(bool(found))
