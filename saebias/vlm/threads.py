"""How many cores this process may compute on."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The cores that this process is allowed to run on, or OMP_NUM_THREADS of them where that is set: batch systems and other programs share them so.

    A value that is no positive number is passed over, as the OpenMP library does with a warning of its own.
    """
    allowed = len(os.sched_getaffinity(0))
    # One number for each level of nesting is allowed; the first is that of the outermost.
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(allowed, int(asked)) if asked.isdecimal() and int(asked) > 0 else allowed
