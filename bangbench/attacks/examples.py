"""Which images of an attack are kept: some of each class, the easiest, the typical, the hardest, and failures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bangbench.attacks.rows import Columns
from bangbench.store.chunks import Chunks
from bangbench.store.examples import Examples

#: Attacked images of each class, the first ones: models that see the same test images share most of them.
PER_CLASS = 3

#: Flipped images with the smallest L_inf, around its median, and with the largest.
PER_PART = 10

#: Images that the attack did not flip, the first ones.
FAILURES = 10

#: Bytes of pixels that are kept at most, as long as there is more than the parts and the failures: a thousand classes
#: of large images are more than a report can show. Every class has one image before any has a second.
MOST_BYTES = 1 << 27


class Adversarial(Protocol):
    """Adversarial images of the flipped ones, uint8 (F, C, H, W), in order."""

    def __getitem__(self, places: NDArray[np.intp], /) -> NDArray[np.uint8]:
        """Return those at `places`, in this order."""


class FlippedImages:
    """The adversarial images in the chunks of a run, which are read again for those that are asked for."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._counts: list[int] = []

    def columns_of(self, number: int) -> dict[str, NDArray[Any]]:
        """Return a chunk (all of them are asked for, in order) without its images, which are counted."""
        columns = self._chunks.read(number)
        self._counts.append(len(columns.pop("adversarial")))
        return columns

    def __getitem__(self, places: NDArray[np.intp], /) -> NDArray[np.uint8]:
        """Return the images at `places` among the flipped ones, ascending, of which there is one at least."""
        bounds = np.searchsorted(places, np.cumsum([0, *self._counts]))
        parts = []
        for number, (begin, end) in enumerate(pairwise(bounds)):
            if begin < end or number == 0:  # of the first chunk perhaps none, in their shape
                first = sum(self._counts[:number])
                parts.append(self._chunks.read(number)["adversarial"][places[begin:end] - first])
        return np.concatenate(parts)


def choose_examples(columns: Columns, images: NDArray[np.uint8], adversarial_of_flipped: Adversarial) -> Examples:
    """Return the images worth keeping of an attack, in the order of the test images.

    columns: one value per image, ascending by index (`attack_chunk`); images: uint8 (N, C, H, W), all that the columns
    speak of; adversarial_of_flipped: uint8 (F, C, H, W), one for each flipped image, in order. Kept are, without
    repetition, PER_CLASS attacked images of each class, PER_PART flipped images from the start, the middle and the end
    of the order by L_inf (ties by index), and FAILURES failures; all there are where there are fewer. Of the classes'
    images no more are kept than fit into `MOST_BYTES`.
    """
    attacked, flipped = columns["attacked"], columns["flipped"]
    order = _by_linf(columns)
    failures = np.flatnonzero(attacked & ~flipped)[:FAILURES]
    most = MOST_BYTES // (2 * int(np.prod(images.shape[1:])))
    kept = np.unique(np.concatenate([_of_each_class(columns)[:most], *_parts(order), failures]))
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
    """Return the first attacked image of each class, then the second ones, and so on."""
    attacked = np.flatnonzero(columns["attacked"])
    labels: NDArray[Any] = columns["label"][attacked]
    chosen = [attacked[labels == label][:PER_CLASS] for label in np.unique(labels)]
    rounds = [part[turn : turn + 1] for turn in range(PER_CLASS) for part in chosen]
    return np.concatenate([*rounds, attacked[:0]])
