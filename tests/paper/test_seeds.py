"""The figure of several seeds beside the published numbers."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.core.statistics import prediction_interval
from bangbench.paper.figures import seed_figures
from bangbench.reporting.draw import draw


def test_every_seed_is_a_point_at_its_difference_from_the_published_number(records, trained):
    for seed, rate in enumerate((90.0, 91.0, 95.0)):
        trained(f"table1/R0{f'-s{seed}' * bool(seed)}", seed, rate=rate)
    records.attack("table1/B1", "fgs")

    (figure,) = seed_figures(records.experiment())
    strip = figure.content.strips[1]
    panel = draw(figure).axes[1]

    assert figure.content.labels == ("R0 (n = 3)", "B1 (n = 1)")
    assert strip.values[0] == pytest.approx((-0.33, 0.67, 4.67))
    assert strip.intervals == (pytest.approx(prediction_interval(np.array(strip.values[0]))), None)
    assert sorted(panel.lines[1].get_xdata()) == sorted(strip.values[0])
    assert "R0 (n = 3) -0.33, 0.67, 4.67" in figure.alternative


def test_one_seed_a_row_or_other_images_make_no_figure(records, trained):
    trained("table1/R0", 0)
    assert list(seed_figures(records.experiment())) == []

    records.attack("table2/R0", "fgs", data="cifar10-jpeg")
    assert all(not list(seed_figures(each)) for each in records.experiments())
