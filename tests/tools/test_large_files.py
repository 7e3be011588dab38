"""tools/large_files.py: the hook that keeps large files out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "large_files.py"


def test_only_files_over_the_limit_are_refused(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 1_000_000)
    (tmp_path / "large").write_bytes(b"x" * 1_000_001)
    names = [str(tmp_path / "small"), str(tmp_path / "gone")]
    assert subprocess.run([sys.executable, SCRIPT, *names]).returncode == 0
    refused = subprocess.run([sys.executable, SCRIPT, *names, str(tmp_path / "large")], capture_output=True, text=True)
    assert refused.returncode == 1 and "large is over 1 MB" in refused.stdout
