"""Running an attack and judging what it returns: the bench never takes an attack's word for a success."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.attacks.ball import smallest_budget
from bangbench.attacks.base import Attack, Flips, Means, checked
from bangbench.attacks.expected import expected_answers
from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.nets.classifier import Classifier


class Judged(NamedTuple):
    """What an attack really did to N images.

    flips: as the attack returned them; predictions: int64 (N,), of the adversarial images, by forward passes of their
    own; linf: float64 (N,), grey levels; flipped: bool (N,), found, within the budget and classified otherwise than as
    the label; lost: found, but the stored image is classified as its label; outside: found, but farther away than the
    budget; forwards: those of the attack and of the verdict; share: float32 (N,), of the passes of a classifier that
    averages several, in which the adversarial image is classified otherwise than as the label; None for any other.
    """

    flips: Flips
    predictions: Tensor
    linf: Tensor
    flipped: Tensor
    lost: Tensor
    outside: Tensor
    forwards: int
    share: Tensor | None


def run_attack(
    attack: Attack,
    name: str,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    means: Means,
    seed: int,
    budgets: Sequence[int] = (),
) -> Judged:
    """Run an attack on images float32 (N, C, H, W) with labels (N,), and judge every image that it returns.

    budgets: increasing, in grey levels; an attack inside a ball tries one after the other on what is left. seed: of
    torch's default generators, which a net's own random layers draw from. Raises `BenchError`, naming the attack, for
    a result that is not what `Attack.run` promises.
    """
    with default_seeds(derive_seed(seed, "attack", name), images.device):
        if attack.bounded:
            flips = smallest_budget(attack, name, classifier, images, labels, budgets, means)
        else:
            flips = checked(attack.run(classifier, images, labels, means), name, images)
        predictions, share = expected_answers(classifier, flips.adversarial, labels, means.batch_size)
    linf = (flips.adversarial.double() - images.double()).abs().flatten(1).amax(1)
    within = flips.scale if attack.bounded else torch.full_like(flips.scale, torch.inf)
    outside = flips.found & (linf > within)
    other = predictions != labels
    return Judged(
        flips,
        predictions,
        linf,
        flips.found & other & ~outside,
        flips.found & ~other,
        outside,
        flips.forwards + len(images),
        share,
    )
