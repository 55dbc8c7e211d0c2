"""How much memory may be asked for: what a file announces is compared with it before anything is read."""

from __future__ import annotations

import sys
from pathlib import Path

from bangbench.core.errors import BenchError

#: Share of the memory available that the content of one file may take: readers hold up to two copies for a moment.
_SHARE = 0.5


def check_memory(needed: int, where: str) -> None:
    """Raise `BenchError`, which begins with `where`, where `needed` bytes would take more than half of what is free."""
    available = available_memory()
    if needed > _SHARE * available:
        raise BenchError(
            f"{where}: expected content that fits into half of the memory available ({_size(available)}), found a "
            f"header that announces {_size(needed)}; the file is damaged, or too large for this machine"
        )


def available_memory() -> int:
    """Return how many bytes this process may still ask for: the least of the machine's, its group's and its limit."""
    return max(0, min(_of_machine(), _of_group(), _of_limit()))


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return sys.maxsize  # not Linux: nothing is known


def _of_group() -> int:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return sys.maxsize


def _of_limit() -> int:
    """Return what ``ulimit -v`` leaves."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return sys.maxsize
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - used


def _size(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB" if count >= 2**29 else f"{count / 2**20:,.1f} MiB"
