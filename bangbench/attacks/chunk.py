"""An attack on one chunk of images: directions, search, verification, PASS."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bangbench.attacks.ball import BallAttack, Means, smallest_budget
from bangbench.attacks.base import Attack, Direction
from bangbench.attacks.rows import nullable
from bangbench.attacks.search import Flips, first_flip
from bangbench.core.seeds import torch_generator
from bangbench.metrics.distances import l2, linf
from bangbench.metrics.pass_score import PassPool
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import true_logits, without_true_class
from bangbench.nets.predict import logits_of, predict


class BallSettings(NamedTuple):
    """What an attack inside a ball is run with: increasing budgets in grey levels, a seed, the model it copies from."""

    budgets: tuple[int, ...] = ()
    seed: int = 0
    source: Classifier | None = None


class Target(NamedTuple):
    """What is attacked and with what.

    pool: None where PASS is not defined for the images' shape; ball: only used by attacks inside a ball.
    """

    classifier: Classifier
    attack: Attack | BallAttack
    batch_size: int
    pool: PassPool | None
    ball: BallSettings = BallSettings()


class _Attempt(NamedTuple):
    """What an attack found; blank: bool (N,), gradient_max: float32 (N,), NaN where the attack has no direction."""

    flips: Flips
    blank: Tensor
    gradient_max: Tensor


def attack_chunk(target: Target, images: NDArray[np.uint8], labels: NDArray[np.int64], first: int) -> dict[str, Any]:
    """Attack images uint8 (N, C, H, W) whose indices begin at `first`; return columns and totals as numpy arrays.

    Beside them stands "adversarial", uint8 (F, C, H, W): the adversarial images of the flipped ones, in order.
    """
    started = time.perf_counter()
    device = next(target.classifier.parameters(), torch.empty(0)).device
    pixels, truth = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    logits = logits_of(target.classifier, pixels)
    attacked = logits.argmax(1) == truth
    attempt = _attempt(target, pixels[attacked].float(), truth[attacked], first)
    flips = attempt.flips
    predictions = predict(target.classifier, flips.adversarial)
    flipped = flips.found & (predictions != truth[attacked])
    columns = _clean_columns(first, logits, truth, attacked)
    columns |= _attacked_columns(columns["attacked"], attempt, flipped, predictions)
    adversarial = flips.adversarial[flipped].cpu().numpy()
    columns |= _distance_columns(columns["flipped"], adversarial, images, target.pool)
    columns["adversarial"] = adversarial
    columns["unverified"] = np.array(int((flips.found & ~flipped).sum()))
    columns["forwards"] = np.array(flips.forwards + len(images) + len(predictions))
    columns["seconds"] = np.array(time.perf_counter() - started)
    return columns


def _attempt(target: Target, images: Tensor, labels: Tensor, first: int) -> _Attempt:
    if isinstance(target.attack, BallAttack):
        generator = torch_generator(target.ball.seed, "ball", first)
        means = Means(generator, target.batch_size, target.ball.source)
        flips = smallest_budget(target.attack, target.classifier, images, labels, target.ball.budgets, means)
        return _Attempt(flips, torch.zeros_like(flips.found), torch.full_like(flips.scale, torch.nan))
    direction = directions(target.classifier, target.attack, images, labels, target.batch_size)
    flips = first_flip(target.classifier, images, labels, direction, target.attack.grid, target.batch_size)
    return _Attempt(flips, direction.blank, direction.gradient_max)


def directions(classifier: Classifier, attack: Attack, images: Tensor, labels: Tensor, batch_size: int) -> Direction:
    """Return the directions of an attack along a line for images (N, C, H, W) with labels (N,), in batches."""
    pairs = zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
    parts = [attack.direction(classifier, *pair) for pair in pairs]
    return Direction(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _clean_columns(first: int, logits: Tensor, truth: Tensor, attacked: Tensor) -> dict[str, NDArray[Any]]:
    own = true_logits(logits, truth)
    margin = own - without_true_class(logits, truth).amax(1)
    return {
        "index": np.arange(first, first + len(truth), dtype=np.int32),
        "label": truth.cpu().numpy().astype(np.int16),
        "prediction": logits.argmax(1).cpu().numpy().astype(np.int16),
        "attacked": attacked.cpu().numpy(),
        "margin": margin.cpu().numpy(),
        "true_logit": own.cpu().numpy(),
    }


def _attacked_columns(
    attacked: NDArray[np.bool_], attempt: _Attempt, flipped: Tensor, predictions: Tensor
) -> dict[str, NDArray[Any]]:
    everywhere = np.zeros(len(attacked), dtype=np.bool_)
    flipped_rows, blank_rows = everywhere.copy(), everywhere.copy()
    flipped_rows[attacked] = flipped.cpu().numpy()
    blank_rows[attacked] = attempt.blank.cpu().numpy()
    return {
        "flipped": flipped_rows,
        "blank": blank_rows,
        "gradient_max": nullable(attempt.gradient_max.cpu().numpy(), attacked, np.nan),
        "scale": nullable(attempt.flips.scale[flipped].cpu().numpy(), flipped_rows, np.nan),
        "adversarial_prediction": nullable(predictions[flipped].cpu().numpy().astype(np.int16), flipped_rows, -1),
    }


def _distance_columns(
    flipped: NDArray[np.bool_], adversarial: NDArray[np.uint8], images: NDArray[np.uint8], pool: PassPool | None
) -> dict[str, NDArray[Any]]:
    original = images[flipped]
    unknown, unscored = np.full(len(original), np.nan), np.full(len(original), -1, dtype=np.int8)
    values: dict[str, NDArray[Any]] = {
        "linf": linf(adversarial, original).astype(np.float32),
        "l2": l2(adversarial, original).astype(np.float32),
        "pass": unknown,
        "pass_paper": unknown,
        "ssim": unknown,
        "ecc_status": unscored,
        "ecc_status_paper": unscored,
    }
    if pool is not None:
        scores = pool.score(adversarial, original)
        definition, paper = scores["definition"], scores["paper"]
        values |= {"pass": definition.score, "pass_paper": paper.score, "ssim": definition.unaligned}
        values |= {"ecc_status": definition.status, "ecc_status_paper": paper.status}
    return {name: nullable(array, flipped, -1 if array.dtype == np.int8 else np.nan) for name, array in values.items()}
