"""Original, adversarial image and their difference as pictures, and a contact sheet of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_SIDE = 112
_GAP = 8
_LINE = 14


class Pair(NamedTuple):
    """One image as it was and as an attack left it: uint8 (C, H, W), C = 1 or 3, and what is written below them."""

    original: NDArray[np.uint8]
    adversarial: NDArray[np.uint8]
    caption: str

    @property
    def linf(self) -> int:
        """Return the largest change in grey levels."""
        return int(np.abs(np.subtract(self.adversarial, self.original, dtype=np.int16)).max(initial=0))

    def difference(self) -> NDArray[np.uint8]:
        """Return the change, uint8 (C, H, W): 128 where there is none, the largest one stretched to 1 or 255."""
        change = np.subtract(self.adversarial, self.original, dtype=np.float64)
        return np.asarray(np.round(128.0 + change * (127.0 / max(self.linf, 1))), dtype=np.uint8)

    def pictures(self) -> dict[str, Image.Image]:
        """Return the three pictures by name, in the images' own size."""
        parts = {"original": self.original, "adversarial": self.adversarial, "difference": self.difference()}
        return {name: _picture(pixels) for name, pixels in parts.items()}


def contact_sheet(pairs: Sequence[Pair]) -> Image.Image:
    """Return one picture of all pairs, a row each: original, adversarial, difference, with its caption below.

    Small images are enlarged by a whole factor, every pixel a square.
    """
    height, width = pairs[0].original.shape[1:]
    factor = max(1, _SIDE // max(height, width))
    high, wide = height * factor, width * factor
    row = high + _LINE + 2 * _GAP
    captions = max(ImageDraw.Draw(Image.new("L", (1, 1))).textlength(pair.caption) for pair in pairs)
    columns = max(3 * (wide + _GAP) + _GAP, int(captions) + 2 * _GAP)
    sheet = Image.new("RGB", (columns, row * len(pairs) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, pair in enumerate(pairs):
        top = _GAP + place * row
        for column, picture in enumerate(pair.pictures().values()):
            enlarged = picture.convert("RGB").resize((wide, high), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_GAP + column * (wide + _GAP), top))
        draw.text((_GAP, top + high + 2), pair.caption, fill="black")
    return sheet


def _picture(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
