"""Which test images take part: those that no stage of any model gets wrong without noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def select_images(correct: NDArray[np.bool_], labels: NDArray[np.int64], per_class: int) -> NDArray[np.int64]:
    """Return the indices of the first `per_class` images of each class that are always correct, in test order.

    correct: (models * stages, N), whether each classifies each image as its label; labels: (N,). A class with fewer
    such images contributes what it has.
    """
    always = np.flatnonzero(correct.all(axis=0))
    chosen = [always[labels[always] == label][:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))
