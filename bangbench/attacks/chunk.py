"""An attack on one chunk of images: directions, search, verification, PASS."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bangbench.attacks.base import Attack, Means
from bangbench.attacks.judged import Judged, run_attack
from bangbench.attacks.rows import nullable
from bangbench.core.seeds import default_seeds, derive_seed, torch_generator
from bangbench.metrics.distances import l2, linf
from bangbench.metrics.pass_score import PassPool
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import true_logits, without_true_class
from bangbench.nets.predict import answered, logits_of


class Target(NamedTuple):
    """What is attacked and with what.

    pool: None where PASS is not defined for the images' shape; seed: of everything random; budgets: increasing, in
    grey levels, for an attack inside a ball; source: the model that an attack copies from.
    """

    classifier: Classifier
    attack: Attack
    name: str
    batch_size: int
    pool: PassPool | None
    seed: int = 0
    budgets: tuple[int, ...] = ()
    source: Classifier | None = None


def attack_chunk(target: Target, images: NDArray[np.uint8], labels: NDArray[np.int64], first: int) -> dict[str, Any]:
    """Attack images uint8 (N, C, H, W) whose indices begin at `first`; return columns and totals as numpy arrays.

    Beside them stands "adversarial", uint8 (F, C, H, W): the adversarial images of the flipped ones, in order.
    """
    started = time.perf_counter()
    device = target.classifier.device
    pixels, truth = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    with default_seeds(derive_seed(target.seed, "clean", first), device):
        logits = logits_of(target.classifier, pixels, target.batch_size)
    attacked = answered(logits, truth)
    judged = _judged(target, pixels[attacked].float(), truth[attacked], first)
    columns = _clean_columns(first, logits, truth, attacked)
    columns |= _attacked_columns(columns["attacked"], judged)
    adversarial = judged.flips.adversarial[judged.flipped].cpu().numpy()
    columns |= _distance_columns(columns["flipped"], adversarial, images, target.pool)
    columns["adversarial"] = adversarial
    columns["unverified"] = np.array(int((judged.lost | judged.outside).sum()))
    columns["forwards"] = np.array(judged.forwards + len(images))
    columns["seconds"] = np.array(time.perf_counter() - started)
    return columns


def _judged(target: Target, images: Tensor, labels: Tensor, first: int) -> Judged:
    generator = torch_generator(target.seed, "ball", first)
    means = Means(generator, target.batch_size, target.source)
    seed = derive_seed(target.seed, "chunk", first)
    return run_attack(target.attack, target.name, target.classifier, images, labels, means, seed, target.budgets)


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


def _attacked_columns(attacked: NDArray[np.bool_], judged: Judged) -> dict[str, NDArray[Any]]:
    everywhere, flips, flipped = np.zeros(len(attacked), dtype=np.bool_), judged.flips, judged.flipped
    flipped_rows, blank_rows = everywhere.copy(), everywhere.copy()
    flipped_rows[attacked] = flipped.cpu().numpy()
    blank_rows[attacked] = flips.blank.cpu().numpy()
    predictions = judged.predictions[flipped].cpu().numpy().astype(np.int16)
    return {
        "flipped": flipped_rows,
        "blank": blank_rows,
        "gradient_max": nullable(flips.gradient_max.cpu().numpy(), attacked, np.nan),
        "scale": nullable(flips.scale[flipped].cpu().numpy(), flipped_rows, np.nan),
        "adversarial_prediction": nullable(predictions, flipped_rows, -1),
        **_shares(flipped_rows, judged),
    }


def _shares(flipped: NDArray[np.bool_], judged: Judged) -> dict[str, NDArray[Any]]:
    """Return the column that rows of a random model have beside the others."""
    if judged.share is None:
        return {}
    return {"flipped_share": nullable(judged.share[judged.flipped].cpu().numpy(), flipped, np.nan)}


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
