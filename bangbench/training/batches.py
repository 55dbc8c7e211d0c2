"""Batches from images that lie on the device, in file order or shuffled."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from bangbench.core.seeds import torch_generator
from bangbench.data.dataset import Dataset
from bangbench.training.augmentation import Augmentation


class Batches:
    """Batch i holds the samples i B ... (i + 1) B - 1 of an endless reading of the data set (file order, wrapping).

    With `shuffle_seed`, each pass over the data has its own order, a function of seed and pass alone: a run can be
    taken up at any iteration.
    """

    def __init__(
        self,
        data: Dataset,
        size: int,
        device: torch.device,
        shuffle_seed: int | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.images = torch.from_numpy(data.images).to(device)
        self.labels = torch.from_numpy(data.labels).to(device)
        self.size = size
        self._shuffle_seed = shuffle_seed
        self._augmentation = augmentation or Augmentation()
        self._order = (-1, torch.empty(0, dtype=torch.int64))

    def at(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Return images float32 (B, C, H, W) in grey levels and labels int64 (B,) of one iteration."""
        parts = [self._stretch(begin, end) for begin, end in self._stretches(iteration)]
        images, labels = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        return self._augmentation.at(iteration, images).to(torch.float32), labels

    def _stretches(self, iteration: int) -> list[tuple[int, int]]:
        """Return the ranges of endless positions that lie within one pass each."""
        begin, end = iteration * self.size, (iteration + 1) * self.size
        count = len(self.images)
        edges = [begin, *range((begin // count + 1) * count, end, count), end]
        return list(itertools.pairwise(edges))

    def _stretch(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        count = len(self.images)
        epoch, first = divmod(begin, count)
        rows = slice(first, first + end - begin)
        if self._shuffle_seed is None:
            return self.images[rows], self.labels[rows]
        chosen = self._epoch_order(epoch, self._shuffle_seed)[rows]
        return self.images[chosen], self.labels[chosen]

    def _epoch_order(self, epoch: int, seed: int) -> Tensor:
        if self._order[0] != epoch:
            order = torch.randperm(len(self.images), generator=torch_generator(seed, "shuffle", epoch))
            self._order = (epoch, order.to(self.images.device))
        return self._order[1]
