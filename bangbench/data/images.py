"""Image files into arrays of grey levels."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bangbench.core.errors import BenchError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})

#: Pixels of an image at most: a file of some kilobytes can announce any number of them.
MOST_PIXELS = 1 << 24
#: Bytes of an image file at most: four to a pixel, and as much for everything else that may be in it.
MOST_BYTES = 4 * MOST_PIXELS + (1 << 24)

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_EIGHT_BITS = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_GREY = frozenset({"1", "L", "LA", "La"})


# it tells standard error, without the file's name, of what it raises as well
logging.getLogger("PIL").addHandler(logging.NullHandler())


class Like(NamedTuple):
    """Another image, whose size this one is to have."""

    name: str
    width: int
    height: int


def decode_image(content: bytes, where: str, like: Like | None = None) -> NDArray[np.uint8]:
    """Return the pixels of an image file: uint8 (H, W) for a grey image, (H, W, 3) in RGB order for any other.

    Whether an image is grey is what the file declares, not what its pixels happen to be. A rotation noted in EXIF
    is not applied. Raises `BenchError`, which names `where`, for damaged files, more than 8 bits per channel, and
    transparency (an opaque alpha channel is dropped), more than `MOST_PIXELS`, and for another size than that of
    `like`: the header decides before a pixel is decoded. Takes up to 12 bytes to a pixel, 192 MiB.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged metadata; where that costs pixels, an error follows.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _check_size(image.size, like, where)
                pixels = _decode_whole_jpeg(content)
                if pixels is None or pixels.shape[1::-1] != image.size:
                    with _silenced() if image.format == "TIFF" else nullcontext():
                        pixels = _pixels(image, where)
                return pixels
    except BenchError:
        raise
    except UnidentifiedImageError as error:
        raise BenchError(
            f"{where}: expected an image ({', '.join(_FORMATS)}), found something else; replace or remove the file"
        ) from error
    except Exception as error:  # damaged images make the decoders raise nearly anything
        raise BenchError(f"{where}: the image cannot be read ({error}); replace or remove the file") from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep libtiff from writing to stderr itself: it names no file, and what it cannot decode is raised as well."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


class Shape(NamedTuple):
    """How images of mixed sizes become alike: the shorter side to `resize` pixels, then the middle `crop` x `crop`."""

    resize: int
    crop: int

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pixels (H, W) or (H, W, 3) as (crop, crop) or (crop, crop, 3), resampled bilinearly."""
        height, width = pixels.shape[:2]
        factor = self.resize / min(height, width)
        size = (max(self.crop, round(width * factor)), max(self.crop, round(height * factor)))
        resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)
        top, left = (size[1] - self.crop) // 2, (size[0] - self.crop) // 2
        return resized[top : top + self.crop, left : left + self.crop]


def declares_colour(content: bytes) -> bool:
    """Return whether an image file says of itself that it is no grey image; False for what is no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return image.mode not in _GREY
    except Exception:  # decoding it says what is wrong, where it is looked at
        return False


def _decode_whole_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """Return a JPEG's pixels, or None where the content is anything else than a complete JPEG of 1 or 3 channels.

    OpenCV reads small JPEG files five times as fast as Pillow, to the same pixels, but its older versions fill up
    truncated ones in silence: only those that end as they should are left to it.
    """
    if not content.startswith(_JPEG_START) or not content.endswith(_JPEG_END):
        return None
    found = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint8:
        return None
    return np.asarray(found if found.ndim == 2 else cv2.cvtColor(found, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _check_size(found: tuple[int, int], like: Like | None, where: str) -> None:
    width, height = found
    if width * height > MOST_PIXELS:
        raise BenchError(
            f"{where} announces {width}x{height} pixels, expected at most {MOST_PIXELS:,}; resize or remove it"
        )
    if like is not None and found != (like.width, like.height):
        raise BenchError(
            f"{where} is {width}x{height} pixels, but {like.name} is {like.width}x{like.height}; expected images of "
            "one size; pass --resize N --crop N, or resize them"
        )


def _pixels(image: Image.Image, where: str) -> NDArray[np.uint8]:
    if image.mode not in _EIGHT_BITS:
        raise BenchError(f"{where}: expected 8 bits per channel, found an image of mode {image.mode}; convert it")
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < np.iinfo(np.uint8).max:
        raise BenchError(f"{where}: the image is partly transparent; put it on a background, without alpha")
    return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))
