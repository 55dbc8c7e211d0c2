"""Nets with one fault each, all around the same trained layers: what an audit has to find."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, one_hot

from bangbench.data.sources import open_source


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


class StraightThrough(Sound):
    """Sixteen grey levels whose gradient is passed through as if nothing were rounded: attacks find their way."""

    def before(self, images: Tensor) -> Tensor:
        return images + ((images * 15.0).round() / 15.0 - images).detach()


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


class Constant(Sound):
    """Class 3 for every image, with logits that depend on it all the same."""

    def after(self, logits: Tensor) -> Tensor:
        return logits + 100.0 * one_hot(torch.tensor(3), 10)


class Remembers(Sound):
    """An answer to the images mixed with those before them."""

    last: Tensor | None = None

    def before(self, images: Tensor) -> Tensor:
        last = images if self.last is None or self.last.shape != images.shape else self.last
        self.last = images.detach().clone()
        return 0.8 * images + 0.2 * last


class Counts(Sound):
    """Other answers to every second call."""

    calls = 0

    def after(self, logits: Tensor) -> Tensor:
        self.calls += 1
        return logits.roll(1, 1) if self.calls % 2 else logits


class ByHeart(Sound):
    """The right answer for the test images, grey level for grey level, and a wrong one for all else."""

    def __init__(self) -> None:
        super().__init__()
        data = open_source("digits", None).load("test")
        self.known = {image.tobytes(): int(label) for image, label in zip(data.images, data.labels, strict=True)}

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images).roll(1, 1)
        levels = (255.0 * images.detach()).round().to(torch.uint8).numpy()
        labels = torch.tensor([self.known.get(image.tobytes(), -1) for image in levels])
        right = 100.0 * one_hot(labels.clamp_min(0), 10)
        return logits + right * (labels >= 0)[:, None]


class Changed(torch.autograd.Function):
    """The identity, with the gradient that a rule makes of the right one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.rule, ctx.values = rule, values.detach()
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.rule(ctx.values, gradient), None


class ReversedForThree(Sound):
    """A gradient of the wrong sign where one of the classes 0 to 2 is predicted."""

    def after(self, logits: Tensor) -> Tensor:
        return Changed.apply(logits, lambda values, slope: torch.where(values.argmax(1)[:, None] < 3, -slope, slope))


class WrongInFloat32(Sound):
    """A gradient that only a model in float64 has right."""

    def before(self, images: Tensor) -> Tensor:
        return Changed.apply(images, lambda _, slope: slope.flip(-1) if slope.dtype == torch.float32 else slope)


class Half(Sound):
    """The same in bfloat16: coarse, and sound."""

    def forward(self, images: Tensor) -> Tensor:
        layers = copy.deepcopy(self.layers).bfloat16()
        return layers(images.bfloat16()).float()


class LastDigits(Sound):
    """Logits whose last digits depend on the size of the batch, as those of many libraries do: sound."""

    def after(self, logits: Tensor) -> Tensor:
        return logits * (1.0 + 1e-6 * (len(logits) % 3))
