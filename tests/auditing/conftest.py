"""Models with known flaws, and sound ones, all made from small nets trained on the digits."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bangbench.auditing.subject import Subject, make_subject
from bangbench.data.dataset import Dataset
from bangbench.data.digits import Digits
from bangbench.nets.classifier import Classifier
from bangbench.store.audits import Check
from bangbench.store.records import Preprocessing

IMAGES = 60


# --- sound nets, for images float32 (N, C, H, W) in [0, 1] -----------------------------------------------------------


def lenet_like() -> nn.Sequential:
    """LeNet for images of half the size: no ReLU after the convolutions, dropout before the last layer."""
    convolutions = (nn.Conv2d(1, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.MaxPool2d(2), nn.Flatten())
    last = (nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
    return nn.Sequential(nn.AvgPool2d(2), *convolutions, *last)


def small_conv() -> nn.Sequential:
    """Convolutions with ReLU and batch norm, dropout, a linear layer: the net that flaws are given to."""
    first = (nn.AvgPool2d(2), nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(*first, nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, 10))


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def trained(
    build: Callable[[], nn.Module],
    digits: Dataset,
    epochs: int,
    temperature: float = 1.0,
    budget: float = 0.0,
    rate: float = 5e-3,
) -> nn.Module:
    """Return a net trained on the digits, in eval mode.

    temperature: divides the logits, as in defensive distillation; budget: of FGS steps that the images are moved by.
    """
    images, labels = torch.from_numpy(digits.images).float() / 255.0, torch.from_numpy(digits.labels)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = build().train()
        optimizer = torch.optim.Adam(net.parameters(), lr=rate)
        for _ in range(epochs):
            for chosen in torch.randperm(len(images)).split(64):
                some, theirs = images[chosen], labels[chosen]
                if budget:
                    some = some.clone().requires_grad_(True)
                    (slope,) = torch.autograd.grad(functional.cross_entropy(net(some), theirs), some)
                    some = (some + budget * slope.sign()).detach().clamp(0.0, 1.0)
                optimizer.zero_grad()
                functional.cross_entropy(net(some) / temperature, theirs).backward()
                optimizer.step()
    return net.eval().requires_grad_(False)


# --- flaws: net -> net ----------------------------------------------------------------------------------------------


class Around(nn.Module):
    """A net between a function of its images and one of its logits."""

    def __init__(
        self,
        net: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda images: images,
        after: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.net(self.before(images)))


class StaysInTraining(nn.Module):
    """A layer that eval() does not reach: it is kept in a list."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.hidden = [layer]

    def forward(self, values: Tensor) -> Tensor:
        return self.hidden[0](values)


class SwitchesBack(nn.Module):
    """A net that puts its dropout into training mode in forward() and back into eval mode afterwards."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        dropouts = [layer for layer in self.net.modules() if isinstance(layer, nn.Dropout)]
        for layer in dropouts:
            layer.train()
        logits: Tensor = self.net(images)
        for layer in dropouts:
            layer.eval()
        return logits


class TurnedRound(torch.autograd.Function):
    """The identity, with a gradient that is that of the flipped image."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.flip(-1)


class MovesItsInput(nn.Module):
    """A net that first moves its images along a gradient of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            variable = images.detach().clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.net(variable).amax(1).sum(), variable)
        return self.net(images + 0.01 * slope.sign())


class Wiggles(nn.Module):
    """A net whose logits carry waves much shorter than a grey level."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        generator = torch.Generator().manual_seed(2)
        self.register_buffer("weight", 1000.0 * torch.randn(10, 784, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images) + 0.5 * torch.sin(images.flatten(1) @ self.weight.T)


def replaced(net: nn.Module, kind: type[nn.Module], by: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a copy of a sequential net whose layers of a kind are replaced."""
    layers = [by(layer) if isinstance(layer, kind) else layer for layer in copy.deepcopy(net).children()]
    return nn.Sequential(*layers)


def hidden(kind: type[nn.Module]) -> Callable[[nn.Module], nn.Module]:
    """Return a flaw: the layers of a kind are left in training mode, where eval() does not reach them."""
    return lambda net: replaced(net, kind, lambda layer: StaysInTraining(layer.train()))


def levels(count: int) -> Callable[[Tensor], Tensor]:
    return lambda images: (images * (count - 1)).round() / (count - 1)


def straight_through(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: images + (change(images) - images).detach()


def nan_where_bright(images: Tensor) -> Tensor:
    """NaN for the images that are bright in one place, about a fifth of the digits."""
    bright = images[:, :, 8:11, 8:11].mean((1, 2, 3), keepdim=True) > 0.8
    return images.where(~bright, torch.nan)


FLAWS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "logits times 1e4": lambda net: Around(net, after=lambda logits: 1e4 * logits),
    "logits minus 1e3": lambda net: Around(net, after=lambda logits: logits - 1e3),
    "softmax": lambda net: Around(net, after=lambda logits: logits.softmax(1)),
    "dropout hidden in training mode": hidden(nn.Dropout),
    "dropout switched back": SwitchesBack,
    "functional dropout": lambda net: Around(net, before=lambda images: functional.dropout(images, 0.2)),
    "noise layer": lambda net: Around(net, before=lambda images: images + 0.1 * torch.randn_like(images)),
    "batch norm hidden in training mode": hidden(nn.BatchNorm2d),
    "minus the mean of the batch": lambda net: Around(net, before=lambda images: images - images.mean(0)),
    "16 levels": lambda net: Around(net, before=levels(16)),
    "16 levels, straight through": lambda net: Around(net, before=straight_through(levels(16))),
    "grey levels, straight through": lambda net: Around(net, before=straight_through(levels(256))),
    "detached": lambda net: Around(net, before=Tensor.detach),
    "through numpy": lambda net: Around(net, before=lambda images: torch.from_numpy(images.numpy().copy())),
    "NaN on some images": lambda net: Around(net, before=nan_where_bright),
    "wrong backward": lambda net: Around(net, before=TurnedRound.apply),
    "gradient inside": MovesItsInput,
    "wiggles": Wiggles,
}


# --- fixtures -------------------------------------------------------------------------------------------------------


class Nets(NamedTuple):
    """Sound nets in eval mode, for images in [0, 1]; their parameters need no gradient."""

    lenet: nn.Module
    conv: nn.Module
    linear: nn.Module
    adversarial: nn.Module
    distilled: nn.Module


class Tools(NamedTuple):
    """What tests build their subjects with.

    subject(net, count=60, input_scale=255.0): a subject on the first test digits; images=..., labels=... for others.
    flaw(name): a net with a flaw of `FLAWS`, made from `nets.conv` unless another net is given.
    alarms(checks): outcome by code of the checks that are suspect or masked; by_code(checks): the checks.
    """

    subject: Callable[..., Subject]
    flaw: Callable[..., nn.Module]
    alarms: Callable[[Iterable[Check]], dict[str, str]]
    by_code: Callable[[Iterable[Check]], dict[str, Check]]
    around: type[Around]


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return Digits(Path()).load("test")


@pytest.fixture(scope="session")
def nets() -> Nets:
    data = Digits(Path()).load("train")
    return Nets(
        lenet=trained(lenet_like, data, epochs=6, rate=1e-2),
        conv=trained(small_conv, data, epochs=4),
        linear=trained(linear, data, epochs=4),
        adversarial=trained(lenet_like, data, epochs=4, budget=0.1, rate=1e-2),
        distilled=trained(lenet_like, data, epochs=8, temperature=100.0, rate=2e-2),
    )


@pytest.fixture(scope="session")
def tools(nets: Nets, digits: Dataset) -> Tools:
    def subject(
        net: nn.Module,
        count: int = IMAGES,
        input_scale: float = 255.0,
        images: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Subject:
        pixels = torch.from_numpy(digits.images[:count]) if images is None else images
        truth = torch.from_numpy(digits.labels[:count]) if labels is None else labels
        return make_subject(Classifier(net, Preprocessing(input_scale=input_scale)).eval(), pixels, truth, 64, seed=0)

    def flaw(name: str, net: nn.Module | None = None) -> nn.Module:
        return FLAWS[name](nets.conv if net is None else net)

    def alarms(checks: Iterable[Check]) -> dict[str, str]:
        return {check.code: check.outcome for check in checks if check.outcome in ("suspect", "masked")}

    return Tools(subject, flaw, alarms, lambda checks: {check.code: check for check in checks}, Around)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch's default number of threads out of the results, and of the training of the nets."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    yield
    torch.set_num_threads(before)
