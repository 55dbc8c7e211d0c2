"""How the margin changes around images: along random directions, by steps of several sizes, beside its gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.auditing.probe import Precise, forward, gradients, is_coarse, precise, spread
from bangbench.auditing.subject import Subject
from bangbench.core.seeds import torch_generator
from bangbench.nets.gradients import largest_entry, margin

#: Images, and random directions for each.
IMAGES, DIRECTIONS = 32, 20
#: Steps in grey levels, tried until gradient and differences agree. The first is so small that neither the corners of
#: ReLU and max-pooling nor the edges of rounded inputs are met; float32 needs larger ones.
_STEPS = {torch.float64: (1e-5, 1e-2, 0.5), torch.float32: (1e-2, 0.1, 0.5)}
#: Steps for a model that computes in half precision and cannot do otherwise.
_COARSE_STEPS = (2.0, 8.0, 16.0)
#: Gradient and finite differences of an image agree from this cosine on.
AGREE = 0.9
#: Share of images on which they may disagree, and one in any case: an image may sit in a corner.
_SHARE = 0.05
#: A large step, in grey levels, and how far it moves the margin at least, as a share of the logits' spread.
LARGE_STEP, _MOVES = 16.0, 1e-3
#: Share of directions without any change from which an image lies on a plateau: a step along all pixels at once meets
#: the edge of some plateau now and then, while a smooth model answers no step with exactly nothing.
_PLATEAU = 0.5
#: Differences of so few rounding steps of the logits are none.
_ROUNDING_STEPS = 8.0


class Slopes(NamedTuple):
    """Gradient and finite differences of the margin at M images.

    cosine, cosine32: between the directional derivatives that the gradient predicts (in the precision measured in, in
    float32) and those measured, the best over all steps tried, (M,), NaN where the gradient is zero or not finite;
    step: the largest of them, grey levels; plateau: (M,) True where a small step changes nothing and a large one does;
    grid: the cosine for steps of one grey level, (M,), -1 where the gradient is zero, None unless some images lie on
    plateaus; rows: places of the images; model: what was measured.
    """

    cosine: Tensor
    cosine32: Tensor
    step: float
    plateau: Tensor
    grid: Tensor | None
    rows: Tensor
    model: Precise

    @property
    def on_steps(self) -> bool:
        """Return whether the model computes steps around most images."""
        return bool(self.plateau.double().mean() >= 0.5)

    def disagreeing(self, cosine: Tensor) -> Tensor:
        """Return which images have a gradient that the differences contradict, (M,); plateaus are another matter."""
        return (cosine < AGREE) & ~self.plateau


def measure_slopes(subject: Subject) -> Slopes:
    """Return the slopes at the first correct images, of which there is at least one; raises `ModelError`.

    Images are moved half a grey level at random, into the inside of the range: in a flat background many corners of
    max-pooling coincide, and at the ends of the range lie those of a model that clips.
    """
    rows = subject.rows[:IMAGES]
    images, labels = subject.correct_images(IMAGES)
    model = precise(subject.classifier, images)
    generator = torch_generator(subject.seed, "audit", "slopes", "place")
    jitter = torch.rand(images.shape, generator=generator, dtype=model.dtype).to(images.device) - 0.5
    inside = 1.0 + images.to(model.dtype) * (253.0 / 255.0) + jitter
    given = gradients(model.classifier, inside, labels, "margin", subject.batch_size)
    given32 = gradients(subject.classifier, inside.float(), labels, "margin", subject.batch_size)
    predicted, predicted32 = _predicted(subject, given), _predicted(subject, given32.to(model.dtype))
    steps = _steps(subject, model)
    measured = _differences(subject, model, inside, labels, steps[0])
    plateau = _plateaus(subject, model, inside, labels, measured, steps[0])
    grid = _grid_cosine(subject, model, images, labels) if plateau.any() else None
    slopes = Slopes(_cosine(predicted, measured), _cosine(predicted32, measured), steps[0], plateau, grid, rows, model)
    for larger in steps[1:] if not slopes.on_steps else ():
        if not any(counts(slopes.disagreeing(cosine)) for cosine in (slopes.cosine, slopes.cosine32)):
            break
        again = _differences(subject, model, inside, labels, larger)
        best = slopes.cosine.maximum(_cosine(predicted, again)), slopes.cosine32.maximum(_cosine(predicted32, again))
        slopes = slopes._replace(cosine=best[0], cosine32=best[1], step=larger)
    return slopes


def _steps(subject: Subject, model: Precise) -> tuple[float, ...]:
    """Return the steps to try, in grey levels; those of float32 are lost in the rounding of a half precision."""
    if model.dtype == torch.float32 and is_coarse(subject):
        return _COARSE_STEPS
    return _STEPS[model.dtype]


def _grid_cosine(subject: Subject, model: Precise, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cosines between gradient and differences of one grey level at whole grey levels, (M,); -1: none.

    A model that rounds its input to grey levels computes steps, but none that an adversarial image could lie between.
    """
    inside = images.to(model.dtype).clamp(1.0, 254.0)
    given = gradients(model.classifier, inside, labels, "margin", subject.batch_size)
    differences = _differences(subject, model, inside, labels, 1.0)
    return _cosine(_predicted(subject, given), differences).nan_to_num(nan=-1.0)


def counts(flags: Tensor) -> bool:
    """Return whether so many of the images, bool (M,), are more than a few in corners."""
    return int(flags.sum()) > max(1.0, _SHARE * len(flags))


def median_of(cosines: Tensor) -> float | None:
    """Return the median of the cosines (M,) that are not NaN; None if all are."""
    known = cosines[~cosines.isnan()]
    return float(known.quantile(0.5)) if len(known) else None


def _directions(subject: Subject, like: Tensor) -> list[Tensor]:
    """Return the random directions, each of entries +1 and -1 in the shape of the images (M, C, H, W)."""
    generator = torch_generator(subject.seed, "audit", "slopes", "directions")
    draws = (torch.randint(0, 2, like.shape, generator=generator, dtype=torch.int8) for _ in range(DIRECTIONS))
    return [2.0 * draw.to(like) - 1.0 for draw in draws]


def _differences(subject: Subject, model: Precise, images: Tensor, labels: Tensor, step: float) -> Tensor:
    """Return the central differences of the margin along the directions, (M, directions), per grey level."""
    columns = []
    for direction in _directions(subject, images):
        ends = [
            margin(forward(model.classifier, images + sign * step * direction, subject.batch_size), labels)
            for sign in (1.0, -1.0)
        ]
        columns.append((ends[0] - ends[1]) / (2.0 * step))
    return torch.stack(columns, 1)


def _predicted(subject: Subject, gradient: Tensor) -> Tensor:
    """Return what a gradient (M, C, H, W) predicts along the directions, (M, directions); NaN where it is unusable."""
    columns = [(gradient * direction).flatten(1).sum(1) for direction in _directions(subject, gradient)]
    largest = largest_entry(gradient)
    usable = (largest > 0.0) & largest.isfinite()
    return torch.stack(columns, 1).where(usable[:, None], torch.nan)


def _cosine(predicted: Tensor, measured: Tensor) -> Tensor:
    """Return the cosine of each image's rows (M, directions), (M,): NaN stays, 0 where nothing changes."""
    scaled = [values / values.abs().amax(1, keepdim=True).clamp_min(1e-300) for values in (predicted, measured)]
    return torch.nn.functional.cosine_similarity(scaled[0], scaled[1], dim=1)


def _plateaus(subject: Subject, model: Precise, images: Tensor, labels: Tensor, small: Tensor, step: float) -> Tensor:
    """Return where a small step (whose differences are given, (M, directions)) changes nothing and a large one does."""
    logits = forward(model.classifier, images, subject.batch_size)
    rounding = _ROUNDING_STEPS * torch.finfo(logits.dtype).eps * logits.abs().amax(1)
    unchanged = (small * 2.0 * step).abs() <= rounding[:, None]
    large = (_differences(subject, model, images, labels, LARGE_STEP) * 2.0 * LARGE_STEP).abs().median(1).values
    return (unchanged.double().mean(1) >= _PLATEAU) & (large > _MOVES * spread(logits))
