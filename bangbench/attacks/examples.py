"""Which images of an attack are kept: some of each class, the easiest, the typical, the hardest, and failures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.attacks.rows import Columns
from bangbench.store.examples import Examples

#: Attacked images of each class, the first ones: models that see the same test images share most of them.
PER_CLASS = 3

#: Flipped images with the smallest L_inf, around its median, and with the largest.
PER_PART = 10

#: Images that the attack did not flip, the first ones.
FAILURES = 10


def choose_examples(columns: Columns, images: NDArray[np.uint8], adversarial_of_flipped: NDArray[np.uint8]) -> Examples:
    """Return the images worth keeping of an attack, in the order of the test images.

    columns: one value per image, ascending by index (`attack_chunk`); images: uint8 (N, C, H, W), all that the columns
    speak of; adversarial_of_flipped: uint8 (F, C, H, W), one for each flipped image, in order. Kept are, without
    repetition, PER_CLASS attacked images of each class, PER_PART flipped images from the start, the middle and the end
    of the order by L_inf (ties by index), and FAILURES failures; all there are where there are fewer.
    """
    attacked, flipped = columns["attacked"], columns["flipped"]
    order = _by_linf(columns)
    failures = np.flatnonzero(attacked & ~flipped)[:FAILURES]
    kept = np.unique(np.concatenate([_of_each_class(columns), *_parts(order), failures]))
    adversarial = np.zeros((len(kept), *images.shape[1:]), dtype=np.uint8)
    adversarial[flipped[kept]] = adversarial_of_flipped[(np.cumsum(flipped) - 1)[kept[flipped[kept]]]]
    ranks = np.full(len(images), -1, dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return Examples(
        indices=columns["index"][kept].astype(np.int64),
        original=images[kept],
        adversarial=adversarial,
        flipped=flipped[kept],
        labels=columns["label"][kept].astype(np.int64),
        predictions=columns["adversarial_prediction"][kept].astype(np.int64),
        ranks=ranks[kept],
    )


def _by_linf(columns: Columns) -> NDArray[np.intp]:
    """Return the places of the flipped images, by L_inf and then by index."""
    flipped = np.flatnonzero(columns["flipped"])
    return flipped[np.argsort(columns["linf"][flipped], kind="stable")]


def _parts(order: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
    middle = max(0, (len(order) - PER_PART) // 2)
    return order[:PER_PART], order[middle : middle + PER_PART], order[-PER_PART:]


def _of_each_class(columns: Columns) -> NDArray[np.intp]:
    attacked = np.flatnonzero(columns["attacked"])
    labels: NDArray[Any] = columns["label"][attacked]
    chosen = [attacked[labels == label][:PER_CLASS] for label in np.unique(labels)]
    return np.concatenate([*chosen, attacked[:0]])
