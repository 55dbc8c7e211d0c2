"""PASS of many pairs against the loop a user would write with OpenCV and scikit-image."""

from __future__ import annotations

import numpy as np

from bangbench.data.sources import open_source
from bangbench.metrics.pass_score import pass_scores_all
from bangbench.metrics.reference import pass_pair_presets
from benchmarks.compare import Comparison, compare

_PAIRS = 200


def comparisons() -> list[Comparison]:
    """Compare both presets on digits with a structured perturbation, in one process."""
    original = open_source("digits", None).load("test").images[:_PAIRS]
    stripes = np.where(np.arange(original.shape[-1]) % 4 < 2, 40, -40)
    adversarial = np.clip(original.astype(np.int16) + stripes, 0, 255).astype(np.uint8)
    return [
        compare(
            f"PASS, both presets, {_PAIRS} pairs 28x28",
            lambda: pass_scores_all(adversarial, original, workers=1),
            "loop with OpenCV and scikit-image",
            lambda: [pass_pair_presets(*pair) for pair in zip(adversarial, original, strict=True)],
            runs=5,
        )
    ]
