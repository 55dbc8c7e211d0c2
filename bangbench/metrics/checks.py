"""What the metrics accept: checked once, before any work starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError

#: Side of SSIM's Gaussian window in pixels: sigma 1.5 truncated at 3.5 sigma (Wang et al. 2004).
WINDOW = 11
_STACK_AXES = 4
_IMAGE_AXES = 3


def check_stacks(adversarial: NDArray[np.uint8], original: NDArray[np.uint8]) -> None:
    """Raise `BenchError` unless both are uint8 arrays (N, C, H, W) of one shape."""
    for name, stack in (("adversarial", adversarial), ("original", original)):
        if not isinstance(stack, np.ndarray):
            raise BenchError(f"{name} images: expected a NumPy array, found {type(stack).__name__}")
        if stack.dtype != np.uint8 or stack.ndim != _STACK_AXES:
            raise BenchError(
                f"{name} images: expected uint8 (N, C, H, W), found {stack.dtype} {stack.shape}; "
                "round to whole grey levels 0..255 and convert"
            )
    if adversarial.shape != original.shape:
        raise BenchError(
            f"expected as many adversarial as original images, of one size; found {adversarial.shape} "
            f"and {original.shape}; pass the two stacks in the same order"
        )


def check_pair(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
    """Raise `BenchError` unless both are uint8 images (C, H, W) of one shape, at least 11x11 pixels."""
    for image in (first, second):
        if image.dtype != np.uint8 or image.ndim != _IMAGE_AXES:
            raise BenchError(f"expected uint8 images (C, H, W), found {image.dtype} {image.shape}")
    if first.shape != second.shape:
        raise BenchError(f"expected two images of one size, found {first.shape} and {second.shape}")
    check_size(first.shape)


def check_size(shape: tuple[int, ...]) -> None:
    """Raise `BenchError` unless the last three entries (C, H, W) hold a channel and SSIM's window."""
    channels, height, width = shape[-3:]
    if channels < 1 or min(height, width) < WINDOW:
        raise BenchError(
            f"expected images of at least {WINDOW}x{WINDOW} pixels (SSIM's window), found {height}x{width} with "
            f"{channels} channel(s); enlarge them, or check that the axes are (channels, height, width)"
        )


def check_channels(channels: int) -> None:
    """Raise `BenchError` unless ECC's grey image can be formed: 1 (grey) or 3 (red, green, blue) channels."""
    if channels not in (1, 3):
        raise BenchError(
            f"expected 1 (grey) or 3 (RGB) channels, found {channels}; drop an alpha channel, or check that the "
            "axes are (channels, height, width)"
        )
