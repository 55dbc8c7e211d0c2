"""The search along the FGS direction against others' loops over the same 255 steps; all must find the same flips."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bangbench.attacks.base import Direction, Flips
from bangbench.attacks.fgs import Fgs
from bangbench.attacks.search import perturb
from bangbench.core.device import available_cores, cpu_threads
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import batch_size_for, predict
from benchmarks.compare import Comparison, Row, Work, compare, counted, fastest, with_peer
from benchmarks.inputs import CPU, Subject, subject

#: Images for each peer: as many as its runs of a few seconds allow.
_IMAGES = {"count": 1000, "art": 300, "plain": 80, "foolbox": 24}
_LIMITS = {"count": 1.15, "art": 3.0, "plain": 8.0, "foolbox": 15.0}
_STEPS = 255
_RUNS = 5
_BATCH_SIZES = (25, 50, 100, 300)
_FGS = Fgs()

#: Returns for each image the first step that flips it, NaN where none does.
Search = Callable[[Subject], Tensor]


def comparisons() -> list[Row]:
    """Compare on all cores, directions included, on images whose float32 gradient is not blank.

    Peers get the net in torch's own layout, as a user would write it; channels-last is part of what bangbench does.
    """
    with cpu_threads(None):
        everything = usable(subject(_IMAGES["count"]))
        return [
            _forwards(everything),
            _against(everything, "plain", "every step on every image", plain),
            *with_peer("art", _operation(everything, "art"), lambda: [_against_art(everything)]),
            *with_peer("foolbox", _operation(everything, "foolbox"), lambda: [_against_foolbox(everything)]),
        ]


def usable(found: Subject) -> Subject:
    """Return the images that have an FGS direction: peers do not know of blank ones, which the bench fails."""
    blank = direction_of(found).blank
    return found._replace(images=found.images[~blank], labels=found.labels[~blank])


def direction_of(found: Subject) -> Direction:
    """Return the FGS directions of the subject's images."""
    return _FGS.directions(found.classifier, found.images, found.labels, batch_size_for(CPU))


def first(found: Subject, count: int) -> Subject:
    """Return the subject with its first `count` images."""
    return found._replace(images=found.images[:count], labels=found.labels[:count])


def own_flips(found: Subject) -> Flips:
    """Return what `bangbench attack --attack fgs` searches for, its direction included."""
    return _FGS.along(found.classifier, found.images, found.labels, direction_of(found))


@torch.no_grad()
def plain(found: Subject) -> Tensor:
    """Try every step on every image."""
    _, classifier, images, labels = found
    step = direction_of(found).tensor
    scales = torch.full((len(images),), torch.nan)
    for scale in reversed(_FGS.grid.scales):
        scales[predict(classifier, perturb(images, step, torch.tensor(scale))) != labels] = scale
    return scales


def laid_out_plainly(found: Subject) -> Subject:
    """Return the subject with its net as torch lays it out unless told otherwise, which is what peers are given."""
    copied = copy.deepcopy(found.classifier)
    copied.channels_last = False
    for weight in copied.parameters():
        weight.data = weight.data.contiguous()
    return found._replace(classifier=copied)


def foolbox_search(found: Subject) -> Tensor:
    """Give foolbox all budgets at once."""
    from foolbox.attacks.fast_gradient_method import LinfFastGradientAttack
    from foolbox.models.pytorch import PyTorchModel

    model = PyTorchModel(UnitRange(found.classifier).eval(), bounds=(0, 1), device="cpu")
    budgets = [step / _STEPS for step in range(1, _STEPS + 1)]
    _, _, success = LinfFastGradientAttack()(model, found.images / 255, found.labels, epsilons=budgets)
    earliest = success.int().argmax(0).float() + 1
    return torch.where(success.any(0), earliest, torch.nan)


def art_search(batch_size: int) -> Search:
    """Return ART's own search for the smallest budget, `batch_size` images at a time."""

    def search(found: Subject) -> Tensor:
        adversarial = _art_images(found, batch_size)
        flipped = predict(found.classifier, adversarial) != found.labels
        # the farthest pixel moved by the step, unless all pixels that move are saturated before
        return torch.where(flipped, (adversarial - found.images).abs().flatten(1).amax(1).round(), torch.nan)

    return search


class UnitRange(nn.Module):
    """The classifier for images in [0, 1]: (N, C, H, W) -> logits (N, K)."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self._classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images in [0, 1]."""
        return self._classifier(images * 255.0)  # type: ignore[no-any-return]


def differing(found: Subject, search: Search) -> str:
    """Say how many images the two searches disagree about."""
    own, other = own_flips(found).scale, search(laid_out_plainly(found))
    unequal = ~((own == other) | (own.isnan() & other.isnan()))
    return f"{int(unequal.sum())} of {len(own)} images differ in the step that flips them"


def _operation(found: Subject, key: str) -> str:
    count = min(_IMAGES[key], len(found.images))
    return f"FGS search, {count} images 28x28, {found.name}, {available_cores()} threads"


def _against(everything: Subject, key: str, peer: str, search: Search, remark: str = "") -> Comparison:
    chosen = first(everything, _IMAGES[key])
    note = differing(chosen, search) + remark
    own, work = _bound(own_flips, chosen), _bound(search, laid_out_plainly(chosen))
    return compare(_operation(everything, key), own, peer, work, _RUNS, at_least=_LIMITS[key], note=note)


def _against_art(everything: Subject) -> Comparison:
    chosen = first(everything, _IMAGES["art"])
    works = {f"batch {size}": _bound(art_search(size), laid_out_plainly(chosen)) for size in _BATCH_SIZES}
    setting, _ = fastest(works)
    search = art_search(int(setting.removeprefix("batch ")))
    remark = " (it works in [0, 1] and adds its steps up, so that the last may lie beyond 1)"
    return _against(everything, "art", f"ART FastGradientMethod(minimal=True), {setting}", search, remark)


def _against_foolbox(everything: Subject) -> Comparison:
    remark = " (it works in [0, 1], so that a step is a rounded fraction of a grey level off)"
    return _against(everything, "foolbox", "foolbox LinfFastGradientAttack, 255 budgets", foolbox_search, remark)


def _bound(search: Callable[[Subject], object], chosen: Subject) -> Work:
    return lambda: search(chosen)


def _art_images(found: Subject, batch_size: int) -> Tensor:
    """Return ART's images in grey levels."""
    from art.attacks.evasion import FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

    estimator: Any = PyTorchClassifier(
        model=UnitRange(found.classifier).eval(),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(found.images.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = FastGradientMethod(estimator, eps=1.0, eps_step=1.0 / _STEPS, minimal=True, batch_size=batch_size)
    adversarial = attack.generate((found.images / 255).numpy(), found.labels.numpy())
    return torch.from_numpy(np.asarray(adversarial, dtype=np.float32) * 255)


def _forwards(everything: Subject) -> Comparison:
    """Return the images that went through the net beside those that any search step by step needs."""
    flips = own_flips(everything)
    last = last_useful(everything.images, direction_of(everything).tensor)
    needed = torch.where(flips.found, flips.scale, last)
    return counted(
        f"forward passes of the FGS search, {len(everything.images)} images, {everything.name}",
        flips.forwards,
        "steps up to the flip, or to the last that changes a pixel",
        int(needed.sum()),
        _LIMITS["count"],
    )


def last_useful(images: Tensor, step: Tensor) -> Tensor:
    """Return the step (N,) at which the last of the pixels that move reaches 0 or 255, for images of whole numbers."""
    room = torch.where(step > 0, 255.0 - images, torch.where(step < 0, images, 0.0))
    return room.flatten(1).amax(1)
