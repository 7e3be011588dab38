"""bitsandbytes, without its one line about a package that nothing here needs."""

from __future__ import annotations

import logging

SPEAKER = "bitsandbytes.backends.cpu.ops"
ABOUT = "gemm_4bit_forward"


def quiet_bitsandbytes() -> None:
    """Leave out the line that bitsandbytes writes on import when the package `kernels` is not there.

    That package holds a faster 4-bit product for processors with bfloat16, fetched from a network; without it
    bitsandbytes computes the same with its own. Every other line still comes. Call it before the import.
    """
    speaker = logging.getLogger(SPEAKER)
    if not any(isinstance(one, _AboutKernels) for one in speaker.filters):
        speaker.addFilter(_AboutKernels())


class _AboutKernels(logging.Filter):
    def filter(self, entry: logging.LogRecord) -> bool:
        return ABOUT not in entry.getMessage()
