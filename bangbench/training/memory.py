"""Memory that training frees and needs again in the next step."""

from __future__ import annotations

import torch

#: The largest freed block from which glibc raises its thresholds (DEFAULT_MMAP_THRESHOLD_MAX), and a little less.
_LARGEST_LEARNT = 32 * 2**20 - 2**16


def keep_freed_memory() -> None:
    """Make the C library keep large freed blocks for the next step instead of giving them back to the system.

    glibc maps blocks beyond a threshold afresh each time, and each page of them then costs a page fault: up to a
    quarter of a training step. It raises the threshold, and how much free memory it keeps, when a larger block than
    it knew is freed; here it meets the largest that counts. Other C libraries take no notice.
    """
    torch.empty(_LARGEST_LEARNT, dtype=torch.uint8)
