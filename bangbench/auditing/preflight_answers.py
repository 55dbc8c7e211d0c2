"""Preflight: whether the model knows anything, and knows more than these very images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from bangbench.auditing.probe import ModelError, finite_rows, percent, right_answers
from bangbench.auditing.subject import Subject, found
from bangbench.core.seeds import torch_generator
from bangbench.core.statistics import mcnemar
from bangbench.store.audits import Check, Outcome

#: Accuracy has to lie above chance by this share of the way to 100 %, or be twice as high as chance, ...
_KNOWS, _TIMES = 0.1, 2.0
#: ...and chance would reach it as rarely as this. A guess is what it may be where it reaches so much that often.
_CHANCE, _GUESSED = 0.01, 0.05
#: Predictions are constant where so many go to one class, and so many more than the labels do.
_ONE_CLASS, _MORE = 0.95, 0.1
#: Differences of so few rounding steps of the logits are none.
_ROUNDING_STEPS = 64.0
#: Images that are moved.
_MOVED = 500
#: Images with a shorter side are not moved by whole pixels, which are too much of them.
_SIDE = 16


def chance_accuracy(subject: Subject) -> Check:
    """Compare the accuracy with a guess among the classes and with always answering the commonest class."""
    labels, classes = subject.labels, subject.logits.shape[1]
    count, correct = len(labels), subject.correct
    commonest = float(labels.bincount().max()) / count if count else 1.0
    # where all images are of one class, as in the first ones of a sorted data set, only the guess is left
    guess = 1.0 / classes if commonest == 1.0 else max(1.0 / classes, commonest)
    limit = min(guess + _KNOWS * (1.0 - guess), _TIMES * guess)
    if count == 0 or limit >= 1.0 or limit**count >= _CHANCE:
        return found("chance-accuracy", "not-run", f"{count} images are too few to tell an accuracy from chance")
    p = _reached(correct, count, limit)
    evidence = (
        f"accuracy {100.0 * correct / count:.1f} % on {count} images, where a guess gets {100.0 * guess:.1f} %; if "
        f"{100.0 * limit:.1f} % were all it can do, so many would be right with a probability of {p:.2g}"
    )
    numbers: dict[str, float | None] = {"accuracy": 100.0 * correct / count, "guess": 100.0 * guess, "p": p}
    outcome: Outcome = "passed" if p < _CHANCE else "inconclusive"
    if p >= _CHANCE and (_reached(correct, count, guess) >= _GUESSED or _most(correct, count) <= limit):
        outcome = "suspect"
    return found("chance-accuracy", outcome, evidence, numbers=numbers)


def _reached(correct: int, count: int, chance: float) -> float:
    """Return how probable so many right answers or more are of one who is right with a probability of `chance`."""
    return float(binomtest(correct, count, chance, alternative="greater").pvalue)


def _most(correct: int, count: int) -> float:
    """Return the upper end of the one-sided 95 % interval (Clopper and Pearson's) of the probability to be right."""
    return float(binomtest(correct, count, alternative="less").proportion_ci(0.95).high)


def constant_predictions(subject: Subject) -> Check:
    """Look whether nearly all images are given the same class, or the same logits."""
    rows = finite_rows(subject)
    if len(rows) < 10:
        return found("constant-predictions", "not-run", "fewer than ten images have finite logits")
    logits, labels = subject.logits[rows].double(), subject.labels[rows]
    counts = logits.argmax(1).bincount(minlength=logits.shape[1])
    top = int(counts.argmax())
    given, due = float(counts[top]) / len(rows), float((labels == top).double().mean())
    steps = _ROUNDING_STEPS * torch.finfo(subject.logits.dtype).eps * float(logits.abs().amax())
    equal = float((logits - logits[0]).abs().amax()) <= steps
    numbers: dict[str, float | None] = {"class": float(top), "given": 100.0 * given, "labels": 100.0 * due}
    evidence = (
        f"class {top} is given to {100.0 * given:.1f} % of {len(rows)} images; {100.0 * due:.1f} % of them belong to it"
    )
    evidence += "; the logits of all images are equal" if equal else ""
    constant = equal or (given >= _ONE_CLASS and given - due >= _MORE)
    return found("constant-predictions", "suspect" if constant else "passed", evidence, numbers=numbers)


class _Move(NamedTuple):
    """A change that leaves an image what it is; points: how many points of accuracy it may cost at most."""

    name: str
    images: Tensor
    points: float


def knows_test_images(subject: Subject) -> Check:
    """Compare the accuracy with that on images moved by a grey level, by a quarter of a pixel, by a pixel."""
    rows = finite_rows(subject, _MOVED)
    if len(rows) < 2:
        return found("knows-test-images", "not-run", "fewer than two images have finite logits")
    images, labels = subject.pixels[rows].float(), subject.labels[rows]
    try:
        given = right_answers(subject, images, labels)
        moves = [(move, right_answers(subject, move.images, labels)) for move in _moves(subject, images)]
    except ModelError as failure:
        return found("knows-test-images", "not-run", str(failure))
    lost = [move.name for move, right in moves if _collapses(given, right, move.points)]
    accuracies: dict[str, float | None] = {"as given": percent(given)}
    accuracies |= {move.name: percent(right) for move, right in moves}
    listed = ", ".join(f"{value:.1f} % {name}" for name, value in accuracies.items())
    evidence = f"accuracy {listed}, on {len(rows)} images"
    return found("knows-test-images", "suspect" if lost else "passed", evidence, numbers=accuracies)


def _moves(subject: Subject, images: Tensor) -> list[_Move]:
    """Return images float32 (N, C, H, W) moved in several ways, in whole grey levels in 0..255.

    One grey level at random changes hardly any answer of a model that sees more than noise; a shift of a pixel may
    cost a model that is not used to shifts a good deal, but not half of what it knows. On images of a few pixels a
    quarter of one is as much, and a whole one is left out.
    """
    generator = torch_generator(subject.seed, "audit", "knows-test-images")
    signs = 2.0 * torch.randint(0, 2, images.shape, generator=generator).to(images) - 1.0
    inside = torch.where((images + signs < 0.0) | (images + signs > 255.0), -signs, signs)
    quarter = 0.75 * images + 0.25 * _shifted(images, -1)
    small = min(images.shape[2:]) < _SIDE
    moves = [
        _Move("by a grey level at random", images + inside, 10.0),
        _Move("by a grey level", torch.where(images < 255.0, images + 1.0, images - 1.0), 10.0),
        _Move("by a quarter of a pixel", quarter.round(), 50.0 if small else 25.0),
    ]
    if small:
        return moves
    return [
        *moves,
        _Move("by a pixel to the right", _shifted(images, -1), 50.0),
        _Move("by a pixel downwards", _shifted(images, -2), 50.0),
    ]


def _shifted(images: Tensor, dimension: int) -> Tensor:
    """Return the images moved by one pixel, the border repeated."""
    size = images.shape[dimension]
    return torch.cat([images.narrow(dimension, 0, 1), images.narrow(dimension, 0, size - 1)], dimension)


def _collapses(given: Tensor, moved: Tensor, points: float) -> bool:
    """Return whether so many points of accuracy are lost, and more than chance explains."""
    lost, won = int((given & ~moved).sum()), int((moved & ~given).sum())
    return 100.0 * (lost - won) / len(given) > points and mcnemar(lost, won) < _CHANCE
