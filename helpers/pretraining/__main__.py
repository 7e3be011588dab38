"""`python -m helpers.pretraining`: make both pocket models, side by side, with half of the cores each."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from helpers.pretraining.train import STAGES


def main() -> int:
    parser = argparse.ArgumentParser(description="Pretrain the pocket models (about an hour on two cores).")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {', '.join(STAGES)} (default: all)")
    kinds = parser.parse_args().kinds or list(STAGES)
    unknown = set(kinds) - set(STAGES)
    if unknown:
        parser.error(f"there is no pocket model {sorted(unknown)[0]!r}; there are {', '.join(STAGES)}.")
    threads = str(max(1, (os.cpu_count() or 1) // len(kinds)))
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "helpers.pretraining.train", kind], env={**os.environ, "OMP_NUM_THREADS": threads}
        )
        for kind in kinds
    ]
    try:
        return max(child.wait() for child in children)
    except KeyboardInterrupt:
        for child in children:
            child.terminate()
        return 130


if __name__ == "__main__":
    sys.exit(main())
