"""Which device computes, and the float32 arithmetic that the measurements rest on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bangbench.core.errors import UsageError

if TYPE_CHECKING:
    import torch

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?|mps")


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` is CUDA, then MPS, then CPU.

    Reduced precision (TF32) is switched off: underflow in float32 is what the bench measures.
    Raises `UsageError` where the device is unknown or absent.
    """
    import torch

    if not _DEVICE.fullmatch(name):
        raise UsageError(f"unknown device '{name}': known: auto, cpu, cuda, cuda:N, mps")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device '{name}' cannot be used here: {reason}; try --device cpu") from error
    return device


def describe_device(device: torch.device) -> str:
    """Return a device's name for the record, such as ``cpu`` or ``cuda (NVIDIA H100 80GB HBM3)``."""
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def available_cores() -> int:
    """Return the number of processor cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Compute with `count` threads inside the block (None: one per available core)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or available_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
