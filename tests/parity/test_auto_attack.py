"""The standard audit's battery beside AutoAttack standard as others wrote it, on images that try both.

`python -m benchmarks.auto_attack` compares them on more images, models and budgets.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bangbench.attacks.opened import open_with_images
from bangbench.attacks.spec import ModelSpec
from bangbench.auditing.subject import make_subject
from benchmarks.auto_attack import auto_attack, battery

pytestmark = [pytest.mark.data, pytest.mark.slow]

#: Test images of which table1/B1 lets go within 25 grey levels under targeted losses only.
TARGETED_ONLY = (7, 26, 29, 31, 37, 38, 45, 72, 73, 74)
BUDGET = 25


@pytest.mark.skipif("BANGBENCH_DATA" not in os.environ, reason="BANGBENCH_DATA is not set")
def test_auto_attack_flips_nothing_that_the_battery_leaves():
    root = Path(__file__).parents[2]
    opened = open_with_images(ModelSpec(model="table1/B1", root=root, device="cpu", limit=100))
    chosen = np.array(TARGETED_ONLY)
    images, labels = torch.from_numpy(opened.data.images[chosen]), torch.from_numpy(opened.data.labels[chosen])
    subject = make_subject(opened.model.classifier, images, labels, batch_size=64, seed=0)
    ours, _ = battery(subject, (BUDGET,))
    theirs = auto_attack(subject, BUDGET)
    assert theirs.any()
    assert not (theirs & ~ours[BUDGET]).any()
