"""Keeps freed memory in the process, because fetching fresh pages costs more than sending what is on them."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# From glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3

KEPT: Final = 256 << 20
"""Bytes of freed memory, at the end of a heap, that the process keeps."""


def keep_pages() -> bool:
    """Tells glibc not to hand buffers of a few megabytes back to the kernel after each use.

    Every chunk passes through three short-lived buffers. Left alone, malloc returns each to the kernel
    and fetches zeroed pages for the next: a third of the time of a long message. Holds for the whole
    process; returns False, and changes nothing, where malloc is not glibc's.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    settings = ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, KEPT), (_M_TOP_PAD, 16 << 20))
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)
