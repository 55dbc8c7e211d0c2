"""Subjects, runs and evidence made by hand, so that what a check must say is known to the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bangbench.auditing.battery import BallRun
from bangbench.auditing.evidence import Evidence
from bangbench.auditing.masking import LineRun
from bangbench.auditing.subject import Subject, make_subject
from bangbench.nets.classifier import Classifier
from bangbench.store.audits import Check
from bangbench.store.records import Preprocessing

Flags = NDArray[np.bool_]


# --- classifiers and subjects -----------------------------------------------------------------------------------------


class PixelLogits(nn.Module):
    """A net whose logits are its pixels: every attack on it can be worked out in one's head."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Then(nn.Module):
    """A net with a function of its logits behind it."""

    def __init__(self, change: Any, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.change = net or PixelLogits(), change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.net(images))


def classifier_of(net: nn.Module, input_scale: float = 1.0) -> Classifier:
    return Classifier(net, Preprocessing(input_scale=input_scale)).eval().requires_grad_(False)


def subject_of(
    classifier: Classifier, images: Any, labels: Sequence[int] | Tensor | None = None, batch_size: int = 64
) -> Subject:
    """Return a subject of images uint8 (N, C, H, W) or rows of pixels (N, P); labels: the predictions unless given."""
    pixels = torch.as_tensor(np.asarray(images, dtype=np.uint8))
    pixels = pixels[:, None, None] if pixels.ndim == 2 else pixels
    truth = classifier(pixels.float()).argmax(1) if labels is None else torch.as_tensor(labels)
    return make_subject(classifier, pixels, truth, batch_size, seed=0)


def counted(correct: int, wrong: Iterable[int] = (), classes: int = 3) -> Subject:
    """Return a subject with `correct` correct images; `wrong` are the places of those that are not, between them."""
    wrong = set(wrong)
    count = correct + len(wrong)
    pixels = np.zeros((count, classes), dtype=np.uint8)
    pixels[:, 0] = 200
    labels = [1 if place in wrong else 0 for place in range(count)]
    return subject_of(classifier_of(PixelLogits()), pixels, labels)


def duels(leads: Sequence[int], middle: int = 110, input_scale: float = 255.0, net: nn.Module | None = None) -> Subject:
    """Return a subject of two pixels and two classes; the first class leads by so many grey levels, evenly placed.

    The logits are the pixels / input_scale. Lowering one pixel and raising the other by s flips an image as soon as
    2 s is more than its lead.
    """
    pixels = [(middle + lead - lead // 2, middle - lead // 2) for lead in leads]
    return subject_of(classifier_of(net or PixelLogits(), input_scale), pixels, [0] * len(leads))


# --- runs and evidence ------------------------------------------------------------------------------------------------


def flags(count: int, rows: Iterable[int]) -> Flags:
    """Return which of `count` images are among `rows`, bool (count,)."""
    result = np.zeros(count, dtype=np.bool_)
    result[list(rows)] = True
    return result


def line(linf: Iterable[float], blank: int = 0) -> LineRun:
    """Return an attack along a line that flips images at these distances; infinite: not at all."""
    distances = np.array(list(linf), dtype=np.float64)
    return LineRun(np.isfinite(distances), distances, flags(len(distances), []), blank, len(distances))


def line_at(distance: float, flipped: int, count: int, blank: int = 0) -> LineRun:
    """Return one that flips the first so many of `count` images, all at one distance."""
    return line([distance] * flipped + [np.inf] * (count - flipped), blank)


def ball(
    flipped: Flags, lost: Flags | None = None, outside: Flags | None = None, tried: Flags | None = None
) -> BallRun:
    """Return an attack inside a ball that flips these images; every image was tried unless told otherwise."""
    none, everyone = np.zeros_like(flipped), np.ones_like(flipped)
    return BallRun(
        flipped,
        none if lost is None else lost,
        none if outside is None else outside,
        everyone if tried is None else tried,
        len(flipped),
    )


def evidence_of(
    lines: Mapping[str, LineRun],
    battery: Mapping[tuple[str, int], BallRun],
    budgets: Sequence[int] = (10,),
    **more: Any,
) -> Evidence:
    """Return evidence in which a doubled attack finds nothing more, nor is anything left within the whole range."""
    nothing = torch.empty(0, dtype=torch.int64)
    defaults = {
        "doubled": dict.fromkeys(budgets, nothing),
        "surviving": dict.fromkeys(budgets, 0),
        "unbounded": nothing,
        "unbounded_tried": 10,
        "classes": 10,
        "no_transfer": "",
    }
    return Evidence(lines, battery, budgets, **{**defaults, **more})


def check(code: str, outcome: str, claims: tuple[str, ...] = ()) -> Check:
    """Return a check with nothing but what a verdict depends on."""
    return Check(code=code, outcome=outcome, claims=claims, evidence="Made up.")


def by_code(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.code: check for check in checks}


# --- nets and images for whole audits ---------------------------------------------------------------------------------

#: Images of 8 x 8 pixels, on which an audit takes a second.
COUNT = 48


def write_images(path: Path) -> None:
    """Write scikit-learn's digits as they are, 8 x 8, to an .npz file of 200 training and 48 test images."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = (bunch.images * 15).astype(np.uint8), bunch.target
    chosen = {"train": slice(200), "test": slice(-COUNT, None)}
    arrays = {f"{split}_images": images[part] for split, part in chosen.items()}
    np.savez(path, **arrays, **{f"{split}_labels": labels[part] for split, part in chosen.items()})


class Nearest(nn.Module):
    """A linear net that tells the class of the nearest mean image; its weights need no training.

    They are multiples of 1/32 and, given pixels / 256, float32 computes every logit exactly, in whatever order.
    """

    def __init__(self) -> None:
        super().__init__()
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images, labels = (bunch.images[:200] * 15).reshape(200, 64) // 1 / 256.0, bunch.target[:200]
        means = torch.from_numpy(np.stack([images[labels == label].mean(0) for label in range(10)])).float()
        weight, bias = (means * 64.0).round() / 32.0, -((means**2).sum(1) * 64.0).round() / 64.0
        layer = nn.Linear(64, 10)
        layer.load_state_dict({"weight": weight, "bias": bias})
        self.layers = nn.Sequential(nn.Flatten(), layer)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Farthest(Nearest):
    """The same net the wrong way round: it is never right."""

    def forward(self, images: Tensor) -> Tensor:
        return -super().forward(images)


class Doubled(Nearest):
    """Another function of the same weights."""

    def forward(self, images: Tensor) -> Tensor:
        return 2.0 * super().forward(images)


class KeptInAList(Nearest):
    """A net whose layers no conversion to float64 reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [self.layers]
        del self.layers

    def forward(self, images: Tensor) -> Tensor:
        return self.hidden[0](images)


class Noisy(Nearest):
    """A net that adds noise from torch's own generator."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + 0.3 * torch.randn_like(images))


class NoisyByItself(Nearest):
    """A net whose noise nothing can seed."""

    def forward(self, images: Tensor) -> Tensor:
        noise = np.random.default_rng().standard_normal(tuple(images.shape))
        return super().forward(images + 0.3 * torch.from_numpy(noise).to(images))
