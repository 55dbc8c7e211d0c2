"""Image files into arrays of grey levels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bangbench.core.errors import BenchError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
_EIGHT_BITS = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_GREY = frozenset({"1", "L", "LA", "La"})
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def decode_image(content: bytes, where: str) -> NDArray[np.uint8]:
    """Return the pixels of an image file: uint8 (H, W) for a grey image, (H, W, 3) in RGB order for any other.

    Whether an image is grey is what the file declares, not what its pixels happen to be. A rotation noted in EXIF
    is not applied. Raises `BenchError`, which names `where`, for damaged files, more than 8 bits per channel, and
    transparency (an opaque alpha channel is dropped).
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            image.load()
            return _pixels(image, where)
    except UnidentifiedImageError as error:
        raise BenchError(
            f"{where}: expected an image ({', '.join(_FORMATS)}), found something else; replace or remove the file"
        ) from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise BenchError(f"{where}: the image cannot be read ({error}); replace or remove the file") from error


def _pixels(image: Image.Image, where: str) -> NDArray[np.uint8]:
    if image.mode not in _EIGHT_BITS:
        raise BenchError(f"{where}: expected 8 bits per channel, found an image of mode {image.mode}; convert it")
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < np.iinfo(np.uint8).max:
        raise BenchError(f"{where}: the image is partly transparent; put it on a background, without alpha")
    return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))
