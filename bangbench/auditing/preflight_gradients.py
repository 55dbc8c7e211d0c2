"""Preflight: whether gradients reach the image, and say how the model's answer changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bangbench.auditing.probe import ModelError, described, finite_rows, forward, is_coarse, percent, spread
from bangbench.auditing.slopes import AGREE, LARGE_STEP, Slopes, counts, measure_slopes, median_of
from bangbench.auditing.subject import Subject, found
from bangbench.core.errors import OutOfMemoryError
from bangbench.core.seeds import torch_generator
from bangbench.nets.gradients import margin
from bangbench.store.audits import Check, Outcome

#: Images that gradients are tried on, that a forward pass is watched on, that random points lie around.
_TRIED, _WATCHED, _ROUGH_IMAGES = 8, 2, 16
#: Random points around an image, their radius and how far a neighbour lies from them, in grey levels.
_POINTS, _RADIUS, _NEAR = 100, 8.0, 0.08
#: The same for a model that computes in half precision, whose rounding hides smaller changes.
_COARSE_NEAR = 4.0
#: Roughness from which a gradient says little about the next step.
ROUGH = 6.0
#: An image counts if the margin changes in the radius by this share of the logits' spread.
_CHANGES = 1e-3
#: The function through which torch runs every backward pass, and the two public ones that call it.
_BACKWARD = ("_engine_run_backward",), ("grad", "backward")


def no_gradient(subject: Subject) -> Check:
    """Ask autograd for the gradient of the margin with respect to the image."""
    rows = finite_rows(subject, _TRIED)
    if not len(rows):
        return found("no-gradient", "not-run", "no image has finite logits")
    images, labels = subject.pixels[rows].float().requires_grad_(True), subject.labels[rows]
    try:
        with torch.enable_grad():
            value = margin(subject.classifier(images), labels).sum()
            reached = torch.autograd.grad(value, images, allow_unused=True)
    except OutOfMemoryError:
        raise
    except Exception as error:  # whatever a user's net or autograd may raise
        return found("no-gradient", "masked", f"asked for a gradient, autograd raises {described(error)}")
    if None in reached:
        return found("no-gradient", "masked", "the logits do not depend on the image as far as autograd can tell")
    return found("no-gradient", "passed", f"a gradient reaches the image, tried on {len(rows)} images")


def slopes_of(subject: Subject) -> Slopes | str:
    """Return the slopes, or why they cannot be measured."""
    if not subject.correct:
        return "the model classifies no image correctly"
    try:
        return measure_slopes(subject)
    except ModelError as failure:
        return str(failure)


def wrong_gradient(slopes: Slopes | str) -> Check:
    """Compare directional derivatives by the gradient with finite differences."""
    if isinstance(slopes, str):
        return found("wrong-gradient", "not-run", slopes)
    if slopes.on_steps and slopes.grid is not None:
        return _on_steps(slopes, slopes.grid)
    cosine, cosine32 = median_of(slopes.cosine), median_of(slopes.cosine32)
    numbers = {"cosine": cosine, "cosine_float32": cosine32, "step": slopes.step}
    if cosine is None:
        evidence = f"the gradient of the margin is zero or not finite on all {len(slopes.rows)} images"
        return found("wrong-gradient", "not-run", evidence + slopes.model.note, numbers=numbers)
    # attacks follow the float32 gradient, whatever float64 would say
    known, wrong64, wrong32 = ~slopes.cosine.isnan(), *map(slopes.disagreeing, (slopes.cosine, slopes.cosine32))
    wrong = wrong64 | wrong32
    numbers |= {"wrong": percent(wrong64), "wrong_float32": percent(wrong32)}
    evidence = (
        f"gradient and finite differences (up to {slopes.step:g} grey levels, {slopes.model.name}) disagree, at a "
        f"cosine below {AGREE:g}, on {int(wrong64.sum())} of {int(known.sum())} images, with the float32 gradient on "
        f"{int(wrong32.sum())}; the median cosine is {cosine:.4f}"
    )
    evidence += "" if cosine32 is None else f", {cosine32:.4f} with the float32 gradient"
    if not wrong.any():
        return found("wrong-gradient", "passed", evidence + slopes.model.note, numbers=numbers)
    outcome: Outcome = "masked" if counts(wrong) else "note"
    return found("wrong-gradient", outcome, evidence + slopes.model.note, numbers=numbers, rows=slopes.rows[wrong])


def _on_steps(slopes: Slopes, cosines: Tensor) -> Check:
    if counts(cosines < AGREE):
        return found("wrong-gradient", "not-run", "the model computes steps, on which differences say nothing")
    cosine = float(cosines.median())
    evidence = f"median cosine {cosine:.4f} between gradient and differences of whole grey levels"
    return found("wrong-gradient", "passed", evidence + slopes.model.note, numbers={"cosine": cosine, "step": 1.0})


def shattered_gradient(slopes: Slopes | str) -> Check:
    """Look for plateaus: small steps change nothing, large ones do."""
    if isinstance(slopes, str):
        return found("shattered-gradient", "not-run", slopes)
    share = percent(slopes.plateau)
    evidence = (
        f"on {share:.0f} % of {len(slopes.rows)} images small steps change nothing while steps of {LARGE_STEP:g} grey "
        f"levels do{slopes.model.note}"
    )
    numbers: dict[str, float | None] = {"plateaus": share}
    if slopes.grid is None:
        return found("shattered-gradient", "passed", evidence, numbers=numbers)
    shattered = slopes.plateau & (slopes.grid < AGREE)
    grid = float(slopes.grid[slopes.plateau].median())
    numbers |= {"cosine_grid": grid, "shattered": percent(shattered)}
    if not shattered.any():
        evidence += f"; for whole grey levels, which images have, the gradient is right (median cosine {grid:.4f})"
        return found("shattered-gradient", "passed", evidence, numbers=numbers)
    outcome: Outcome = "masked" if counts(shattered) else "note"
    return found("shattered-gradient", outcome, evidence, numbers=numbers, rows=slopes.rows[shattered])


def inner_gradient(subject: Subject) -> Check:
    """Watch for backward passes during forward passes, with and without a graph."""
    images = subject.pixels[:_WATCHED].float()
    with _backward_passes() as calls:
        try:
            forward(subject.classifier, images, _WATCHED)
            with torch.enable_grad():
                subject.classifier(images.requires_grad_(True))
        except OutOfMemoryError:
            raise
        except Exception as error:  # whatever a user's net may raise
            if not calls:
                return found("inner-gradient", "not-run", f"the forward pass raises {described(error)}")
    evidence = f"{len(calls)} backward passes ran during two forward passes"
    return found("inner-gradient", "suspect" if calls else "passed", evidence, numbers={"calls": float(len(calls))})


@contextmanager
def _backward_passes() -> Iterator[list[str]]:
    """Yield a list that grows by one for each backward pass that torch runs inside."""
    names = next(names for names in _BACKWARD if all(hasattr(torch.autograd, name) for name in names))
    originals = {name: getattr(torch.autograd, name) for name in names}
    calls: list[str] = []

    def counted(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return originals[name](*args, **kwargs)

        return call

    try:
        for name in names:
            setattr(torch.autograd, name, counted(name))
        yield calls
    finally:
        for name, original in originals.items():
            setattr(torch.autograd, name, original)


def rough_loss(subject: Subject, problem: str | None) -> Check:
    """Compare how the margin changes over a short and over a long way between random points around images.

    Roughness is the root mean square change to a neighbour 0.08 grey levels away over that between points anywhere in
    the radius, divided by the same quotient of the distances: 1 for a linear model, 10 where the margin walks at
    random (the root of 100), 100 where it is noise.
    """
    if problem is not None:
        return found("rough-loss", "not-run", problem)
    if not subject.correct:
        return found("rough-loss", "not-run", "the model classifies no image correctly")
    try:
        values = _roughness(subject)
    except ModelError as failure:
        return found("rough-loss", "not-run", str(failure))
    known = values[~values.isnan()]
    if not len(known):
        return found("rough-loss", "not-run", f"the margin hardly changes within {_RADIUS:g} grey levels")
    median = float(known.quantile(0.5))
    evidence = (
        f"roughness {median:.2f} (median of {len(known)} images; 1 where the margin is linear, limit {ROUGH:g}) within "
        f"{_RADIUS:g} grey levels"
    )
    numbers: dict[str, float | None] = {"roughness": median, "largest": float(known.max())}
    if median < ROUGH:
        return found("rough-loss", "passed", evidence, numbers=numbers)
    return found("rough-loss", "suspect", evidence, numbers=numbers, rows=subject.rows[:_ROUGH_IMAGES][values >= ROUGH])


def _roughness(subject: Subject) -> Tensor:
    """Return the roughness around each of the first correct images, (M,), NaN where the margin hardly changes."""
    images, labels = subject.correct_images(_ROUGH_IMAGES)
    generator = torch_generator(subject.seed, "audit", "rough-loss")
    near_by = _COARSE_NEAR if is_coarse(subject) else _NEAR
    values = []
    for image, label in zip(images, labels, strict=True):
        draws = torch.rand((2, _POINTS, *image.shape), generator=generator).to(image.device) * 2.0 - 1.0
        points = image + _RADIUS * draws[0]
        near = points + near_by * draws[1]
        logits = forward(subject.classifier, torch.cat([points, near]), subject.batch_size)
        values.append(_roughness_of(logits, label, points, near))
    return torch.stack(values)


def _roughness_of(logits: Tensor, label: Tensor, points: Tensor, near: Tensor) -> Tensor:
    margins = margin(logits, label.expand(len(logits))).double().view(2, -1)
    short, long = (margins[1] - margins[0]), margins[0, 1:] - margins[0, :-1]
    ways = _root_mean_square(near - points) / _root_mean_square(points[1:] - points[:-1])
    change = _root_mean_square(long)
    roughness = _root_mean_square(short) / change / ways
    return roughness.where(change > _CHANGES * spread(logits), torch.nan)


def _root_mean_square(values: Tensor) -> Tensor:
    return values.double().square().mean().sqrt()
