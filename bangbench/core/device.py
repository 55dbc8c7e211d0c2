"""Which device computes, and the float32 arithmetic that the measurements rest on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bangbench.core.errors import OutOfMemoryError, UsageError

if TYPE_CHECKING:
    import torch

#: What torch says at the end of a GPU's memory, and of a machine's.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?|mps")


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` is CUDA, then MPS, then CPU.

    Arithmetic is made exact, see `exact_arithmetic`: underflow in float32 is what the bench measures.
    Raises `UsageError` where the device is unknown or absent.
    """
    import torch

    if not _DEVICE.fullmatch(name):
        raise UsageError(f"unknown device '{name}': known: auto, cpu, cuda, cuda:N, mps")
    exact_arithmetic()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device '{name}' cannot be used here: {reason}; try --device cpu") from error
    return device


def exact_arithmetic() -> None:
    """Switch off whatever computes float32 in fewer bits, and algorithms whose sums have another order each time.

    A user's net may have switched some of it on when it was imported: called again once a net is built.
    """
    for place, name, exact in _switches():
        setattr(place, name, exact)


@contextmanager
def exact_arithmetic_inside() -> Iterator[None]:
    """Compute with `exact_arithmetic` inside the block, and put every switch back after it."""
    before = [(place, name, getattr(place, name)) for place, name, _ in _switches()]
    try:
        exact_arithmetic()
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def _switches() -> list[tuple[Any, str, object]]:
    """Return every switch of torch's as its owner, its name, and the value with which arithmetic is exact."""
    import torch

    backends = torch.backends
    older = [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
    repeated = [(backends.cudnn, "deterministic", True), (backends.cudnn, "benchmark", False)]
    # newer versions of torch have a switch for every kind of operation, on processors as well
    newer = [
        (switch, "fp32_precision", "ieee")
        for backend in (backends.cuda, backends.cudnn, getattr(backends, "mkldnn", None))
        for kind in ("matmul", "conv", "rnn")
        if hasattr(switch := getattr(backend, kind, None), "fp32_precision")
    ]
    return [*(each for each in older if _can_be_read(*each[:2])), *repeated, *newer]


def _can_be_read(owner: Any, name: str) -> bool:
    """Tell whether a switch has a value: torch refuses the older ones to those who have used the newer."""
    try:
        getattr(owner, name)
    except RuntimeError:
        return False
    return True


@contextmanager
def memory_explained(images: int) -> Iterator[None]:
    """Turn an end of memory while so many images are computed into an `OutOfMemoryError` that says what to try."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not any(sign in text for sign in _NO_MEMORY):
            raise
        fewer = f"try --batch-size {max(1, images // 2)}" if images > 1 else "take a device with more"
        reason = text.splitlines()[0]
        raise OutOfMemoryError(f"out of memory with {images} images at once: {fewer} ({reason})") from error


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
