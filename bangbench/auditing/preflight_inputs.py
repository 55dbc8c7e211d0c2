"""Preflight: whether the model is shown its images as it was trained to see them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from bangbench.auditing.probe import ModelError, finite_rows, percent, right_answers
from bangbench.auditing.subject import Subject, found
from bangbench.core.statistics import mcnemar
from bangbench.store.audits import Check

#: Images that accuracies are compared on.
_IMAGES = 500
#: Another preprocessing matters if it is better by so many points...
_POINTS = 5.0
#: ...and chance would favour it as much less often than this, with some fifteen preprocessings tried.
_CHANCE = 1e-3

_SCALES = (("times 1/255", 1.0 / 255.0), ("times 1/256", 1.0 / 256.0), ("times 255", 255.0), ("times 256", 256.0))


def input_scale(subject: Subject) -> Check:
    """Compare the accuracy as given with that under other scales, mean subtraction, standardisation, inversion."""
    return _compare(subject, "input-scale", _other_preprocessings)


def channel_order(subject: Subject) -> Check:
    """Compare the accuracy as given with that of the reversed channels."""
    channels = subject.pixels.shape[1]
    if channels != 3:
        plural = "channel" if channels == 1 else "channels"
        return found("channel-order", "not-run", f"the images have {channels} {plural}, not 3")
    return _compare(subject, "channel-order", lambda images: {"channels reversed": images.flip(1)})


def _other_preprocessings(images: Tensor) -> dict[str, Tensor]:
    """Return the images float32 (N, C, H, W) as they would be under other preprocessings, by what was done."""
    mean_value = images.mean((0, 2, 3), keepdim=True)
    shifted = {
        "": images,
        "minus the mean image": images - images.mean(0),
        "minus the mean value": images - mean_value,
        "standardised": (images - mean_value) / images.std((0, 2, 3), keepdim=True).clamp_min(1e-6),
    }
    variants = {name: moved for name, moved in shifted.items() if name}
    for how, moved in shifted.items():
        variants |= {", ".join(filter(None, (how, name))): moved * factor for name, factor in _SCALES}
    return variants | {"inverted": 255.0 - images}


def _compare(subject: Subject, code: str, preprocess: Callable[[Tensor], dict[str, Tensor]]) -> Check:
    rows = finite_rows(subject, _IMAGES)
    if len(rows) < 2:
        return found(code, "not-run", "fewer than two images have finite logits")
    images, labels = subject.pixels[rows].float(), subject.labels[rows]
    try:
        given = right_answers(subject, images, labels)
    except ModelError as failure:
        return found(code, "not-run", str(failure))
    accuracies, better, failed = {"as given": percent(given)}, {}, 0
    for name, variant in preprocess(images).items():
        try:
            right = right_answers(subject, variant, labels)
        except ModelError:  # a model may refuse what are no grey levels
            failed += 1
            continue
        accuracies[name] = percent(right)
        if _clearly_better(right, given):
            better[name] = accuracies[name]
    return _report(code, accuracies, better, failed, len(rows))


def _report(code: str, accuracies: dict[str, float], better: dict[str, float], failed: int, images: int) -> Check:
    others = {name: value for name, value in accuracies.items() if name != "as given"}
    if not others:
        return found(code, "not-run", "the model refuses its images under every other preprocessing")
    best = max(better or others, key=others.__getitem__)
    evidence = f"accuracy {accuracies['as given']:.1f} % as given, "
    if len(others) == 1:
        evidence += f"{others[best]:.1f} % with {best}, on {images} images"
    else:
        evidence += (
            f"at most {others[best]:.1f} % ({best}) under {len(others)} other preprocessings, on {images} images"
        )
    evidence += f"; the model refuses {failed} more" if failed else ""
    return found(code, "suspect" if better else "passed", evidence, numbers=accuracies)


def _clearly_better(right: Tensor, given: Tensor) -> bool:
    """Return whether a preprocessing is better by enough points, and by more than chance explains."""
    only_other, only_given = int((right & ~given).sum()), int((given & ~right).sum())
    points = 100.0 * (only_other - only_given) / len(given)
    return points >= _POINTS and mcnemar(only_other, only_given) < _CHANCE
