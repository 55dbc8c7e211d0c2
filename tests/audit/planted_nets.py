"""Nets with one fault each, all around the same trained layers: what an audit has to find."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout


def layers() -> nn.Sequential:
    """Return the sound part, for images (1, 28, 28) and 10 classes."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


class Sound(nn.Module):
    """The layers as they are; the others below change what goes in or comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.layers(self.before(images)))

    def before(self, images: Tensor) -> Tensor:
        return images

    def after(self, logits: Tensor) -> Tensor:
        return logits


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class LargeLogits(Sound):
    def after(self, logits: Tensor) -> Tensor:
        return logits * 1e4


class LowLogits(Sound):
    def after(self, logits: Tensor) -> Tensor:
        return logits - 1e3


class Probabilities(Sound):
    def after(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)


class DropoutLeftOn(Sound):
    def after(self, logits: Tensor) -> Tensor:
        return logits + dropout(torch.ones_like(logits), 0.5, training=True)


class DropoutLayerLeftOn(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.2)

    def before(self, images: Tensor) -> Tensor:
        return self.dropout(images)

    def train(self, mode: bool = True) -> DropoutLayerLeftOn:
        super().train(mode)
        self.dropout.training = True
        return self


class SixteenLevels(Sound):
    def before(self, images: Tensor) -> Tensor:
        return (images * 15.0).round() / 15.0


class NoiseLayer(Sound):
    def before(self, images: Tensor) -> Tensor:
        return images + 0.05 * torch.randn_like(images)


class Detached(Sound):
    def before(self, images: Tensor) -> Tensor:
        return images.detach()


class BatchNormLeftOn(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(10, affine=False, track_running_stats=False)

    def after(self, logits: Tensor) -> Tensor:
        return self.normalise(logits) if len(logits) > 1 else logits

    def train(self, mode: bool = True) -> BatchNormLeftOn:
        super().train(mode)
        self.normalise.training = True
        return self


class SometimesNan(Sound):
    def after(self, logits: Tensor) -> Tensor:
        return logits.masked_fill(logits.amax(1, keepdim=True) > self.limit, torch.nan)

    limit = 10.0
