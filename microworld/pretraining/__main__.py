"""`python -m microworld.pretraining`: make the pocket models.

The encoder and the decoder are trained at the same time, each with half of the cores. The instructed decoder follows,
because it starts from the decoder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from microworld.pretraining.train import STAGES

INSTRUCT = "instruct"
KINDS = (*STAGES, INSTRUCT)


def main() -> int:
    parser = argparse.ArgumentParser(description="Pretrain the pocket models (about an hour on two cores).")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {', '.join(KINDS)} (default: all)")
    kinds = parser.parse_args().kinds or list(KINDS)
    unknown = set(kinds) - set(KINDS)
    if unknown:
        parser.error(f"there is no pocket model {sorted(unknown)[0]!r}; there are {', '.join(KINDS)}.")
    status = pretrain([kind for kind in kinds if kind != INSTRUCT])
    if status == 0 and INSTRUCT in kinds:
        status = subprocess.call([sys.executable, "-m", "microworld.pretraining.instruct"])
    return status


def pretrain(kinds: list[str]) -> int:
    """Pretrain these kinds at the same time, one process each. Return the highest exit status."""
    threads = str(max(1, (os.cpu_count() or 1) // max(1, len(kinds))))
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "microworld.pretraining.train", kind], env={**os.environ, "OMP_NUM_THREADS": threads}
        )
        for kind in kinds
    ]
    try:
        return max((child.wait() for child in children), default=0)
    except KeyboardInterrupt:
        for child in children:
            child.terminate()
        return 130


if __name__ == "__main__":
    sys.exit(main())
