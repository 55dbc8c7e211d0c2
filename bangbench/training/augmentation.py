"""Augmentation of training batches: shifts and flips, drawn anew in every step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from bangbench.core.seeds import torch_generator


class Augmentation(NamedTuple):
    """What is done to the images of each step.

    shift: each moves by up to so many pixels up or down and to a side, and leaves black behind; flip: half of them are
    mirrored, left to right. The draws are a function of seed and iteration alone: the same on every device, and after
    an interruption.
    """

    shift: int = 0
    flip: bool = False
    seed: int = 0

    def at(self, iteration: int, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) as they are shown in one step, in their own type."""
        if not self.shift and not self.flip:
            return images
        generator = torch_generator(self.seed, "augmentation", iteration)
        count = len(images)
        moves = torch.randint(-self.shift, self.shift + 1, (2, count), generator=generator).to(images.device)
        mirrored = torch.randint(2, (count,), generator=generator).bool().to(images.device)
        shown = _shifted(images, moves, self.shift) if self.shift else images
        return torch.where(mirrored[:, None, None, None], shown.flip(3), shown) if self.flip else shown


def _shifted(images: Tensor, moves: Tensor, most: int) -> Tensor:
    """Return images (N, C, H, W) moved by moves (2, N) pixels: down and right."""
    count, _, height, width = images.shape
    padded = pad(images, (most, most, most, most))
    rows = torch.arange(height, device=images.device) + most - moves[0, :, None]
    columns = torch.arange(width, device=images.device) + most - moves[1, :, None]
    numbers = torch.arange(count, device=images.device)
    # the channels come last where two index arrays stand around a slice
    return padded[numbers[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
