"""Scores for images in files."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bangbench.core.errors import BenchError
from bangbench.metrics.distances import l2, linf
from bangbench.metrics.pass_score import pass_scores_all
from bangbench.metrics.reference import EccStatus
from bangbench.metrics.spec import PassSpec
from bangbench.store.arrays import open_arrays, read_npy

if TYPE_CHECKING:
    import torch

_MOST_PIXELS = 1 << 24
_GREY = frozenset({"1", "L", "LA", "La"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})


class Compared(NamedTuple):
    """The scores of one pair; distances in grey levels."""

    pair: int
    pass_definition: float
    pass_paper: float
    ssim: float
    status: str
    status_paper: str
    linf: float
    l2: float


def compare_files(spec: PassSpec) -> list[Compared]:
    """Return the scores of each pair; `BenchError` for files that are no images or do not match."""
    original, adversarial = read_stack(spec.original), read_stack(spec.adversarial)
    scores = pass_scores_all(adversarial, original, spec.workers, _device(spec.device))
    definition, paper = scores["definition"], scores["paper"]
    largest, euclidean = linf(adversarial, original), l2(adversarial, original)
    return [
        Compared(
            pair=index,
            pass_definition=float(definition.score[index]),
            pass_paper=float(paper.score[index]),
            ssim=float(definition.unaligned[index]),
            status=EccStatus(definition.status[index]).name.lower(),
            status_paper=EccStatus(paper.status[index]).name.lower(),
            linf=float(largest[index]),
            l2=float(euclidean[index]),
        )
        for index in range(len(original))
    ]


def _device(name: str) -> torch.device | None:
    """Return the device to score on, None for the CPU, for which torch need not be loaded."""
    if name == "cpu":
        return None
    from bangbench.core.device import choose_device

    return choose_device(name)


def read_stack(path: Path) -> NDArray[np.uint8]:
    """Return the image or the stack in a file as uint8 (N, C, H, W), C = 1 or 3 (RGB).

    An image may have 2**24 pixels, a stack half of the memory available, as their headers say.
    """
    if not path.is_file():
        raise BenchError(f"{path} does not exist")
    if path.suffix in {".npy", ".npz"}:
        return _channels_first(_read_array(path), path)
    return _channels_first(_read_image(path)[None], path)


def _read_image(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of an image file, (H, W) where it is grey, else (H, W, 3); an alpha channel is dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata; where that costs pixels, an error follows
            with Image.open(path) as image:
                width, height = image.size
                if width * height > _MOST_PIXELS:
                    raise BenchError(
                        f"{path} announces {width}x{height} pixels, expected at most {_MOST_PIXELS:,}; resize it"
                    )
                if image.mode not in _GREY | _COLOUR:
                    raise ValueError(f"an image of mode {image.mode}")
                return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))
    except BenchError:
        raise
    except Exception as error:  # damaged images make the decoders raise nearly anything
        raise BenchError(f"{path}: expected an 8-bit image, or a stack as .npy or .npz") from error


def _read_array(path: Path) -> NDArray[Any]:
    """Return the array of a .npy file, or the one that an .npz file holds or calls ``adversarial``."""
    advice = "not a whole .npy or .npz file of plain numbers ({}); save the stack again"
    if not zipfile.is_zipfile(path):
        return read_npy(path, advice)
    with path.open("rb") as stream, open_arrays(stream, str(path), advice) as arrays:
        if len(arrays.names) != 1 and "adversarial" not in arrays.names:
            raise BenchError(f"{path}: expected one array, found {', '.join(arrays.names[:8]) or 'none'}")
        return arrays.read("adversarial" if "adversarial" in arrays.names else arrays.names[0])


def _channels_first(array: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in {3, 4}:
        raise BenchError(f"{path}: expected uint8 images (N, H, W) or (N, C, H, W), found {array.dtype} {array.shape}")
    if len(array) == 0:
        raise BenchError(f"{path}: the stack holds no images")
    if array.ndim == 3:
        array = array[:, None]
    if array.shape[1] not in {1, 3} and array.shape[3] in {1, 3}:
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array)
