"""The arithmetic that predictions are computed in: float32, or a faster one with fewer digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bangbench.core.errors import UsageError
from bangbench.noise.spec import Arithmetic

#: The first generation of NVIDIA GPUs with TF32 (Ampere); on others the switch does nothing.
_TF32_CAPABILITY = (8, 0)


def check_arithmetic(arithmetic: Arithmetic, device: torch.device) -> None:
    """Raise `UsageError` unless `device` can compute in this arithmetic."""
    if arithmetic != "tf32":
        return
    if device.type != "cuda":
        raise UsageError(
            f"--arithmetic tf32 needs a CUDA device, found {device}; take float32 or bfloat16, or another --device"
        )
    if torch.cuda.get_device_capability(device) < _TF32_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        raise UsageError(f"--arithmetic tf32: {name} has no TF32; take float32 or bfloat16")


@contextmanager
def computing_in(arithmetic: Arithmetic, device: torch.device) -> Iterator[None]:
    """Compute convolutions and matrix products on `device` in this arithmetic inside the block."""
    if arithmetic == "bfloat16":
        with torch.autocast(device.type, torch.bfloat16):
            yield
    elif arithmetic == "tf32":
        with _tf32():
            yield
    else:
        yield


@contextmanager
def _tf32() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = True
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
