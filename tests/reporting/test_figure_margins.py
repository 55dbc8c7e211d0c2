"""Figures of margins and true logits: the line at which float32 softmax saturates, and the shares beside it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from bangbench.reporting.collect import collect
from bangbench.reporting.figures import style
from bangbench.reporting.figures.margins import SATURATED_MARGIN, margin_plots
from bangbench.reporting.groups import group_records
from bangbench.reporting.per_image import AttackRows


def attack_rows(margin, true_logit, wrong=0):
    """Return rows with these logits on the correct images, and so many wrong ones with a margin of -1000 after them."""
    margins, logits = (np.array([*values, *[-1000.0] * wrong], dtype=np.float64) for values in (margin, true_logit))
    total = len(margins)
    attacked, flipped = np.arange(total) < len(margin), np.zeros(total, np.bool_)
    missing = np.full(total, np.nan)
    return AttackRows(
        np.arange(total), attacked, flipped, missing, pass_definition=missing, margin=margins, true_logit=logits
    )


def group_with(records, rows, **changes):
    """Return the group of these models and attacks, with these rows."""
    for name, attack in rows:
        records.attack(name, attack, **changes)
    (group,) = group_records(collect(records.root, ())).groups
    models = []
    for model in group.models:
        attacks = {key: found._replace(rows=rows[model.name, key]) for key, found in model.attacks.items()}
        models.append(model._replace(attacks=attacks))
    return group._replace(models=tuple(models))


def drawn(plot):
    """Return the two axes as a worker process would draw them, laid out."""
    figure = style.draw(pickle.loads(pickle.dumps(plot)))
    figure.draw_without_rendering()
    return figure.axes


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def outlines(axes):
    return [patch for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()]


def test_the_line_is_where_float32_softmax_first_gives_exactly_one():
    one = np.float32(1)

    assert one + np.float32(np.exp(-SATURATED_MARGIN * (1 + 1e-6))) == one
    assert one + np.float32(np.exp(-SATURATED_MARGIN * (1 - 1e-6))) > one
    assert pytest.approx(16.6355, abs=1e-4) == SATURATED_MARGIN


def test_shares_are_of_the_correct_images_on_either_side_of_the_lines(records):
    rows = attack_rows([1.0, 2.0, SATURATED_MARGIN, 90.0], [-5.0, 0.0, 3.0, 4.0], wrong=3)
    (plot,) = margin_plots(group_with(records, {("t/R0", "fgs"): rows}, blank=40.0))

    left, right = drawn(plot)

    assert (plot.name, plot.section) == ("t-margins", "masking")
    assert labels(left) == ["R0: 50.0 % beyond, 40.0 % blank under FGS", "24 ln 2 = 16.6: float32 softmax gives 1"]
    assert labels(right)[0] == "R0: 25.0 % negative"
    assert "n: R0 4" in plot.caption
    assert "R0: median margin 9.3, 50.0 % beyond" in plot.alternative


@pytest.mark.parametrize("scale", [1e-3, 1.0, 37.7, 1e4])
def test_every_image_is_in_a_bin_and_no_bin_straddles_a_line(records, scale):
    rows = attack_rows(np.linspace(0, 3 * scale, 3001), np.linspace(-2.03 * scale, scale, 3001))
    (plot,) = margin_plots(group_with(records, {("t/R0", "fgs"): rows}))

    for axes, line, values in zip(drawn(plot), (SATURATED_MARGIN, 0.0), (rows.margin, rows.true_logit), strict=True):
        (outline,) = outlines(axes)
        heights, edges, _ = outline.get_data()
        assert heights.sum() == pytest.approx(100.0)
        assert heights[edges[:-1] >= line - 1e-9 * scale].sum() == pytest.approx(100.0 * np.mean(values >= line))


def test_equal_values_on_the_line_can_be_drawn(records):
    rows = attack_rows([SATURATED_MARGIN] * 3, [0.0] * 3)
    (plot,) = margin_plots(group_with(records, {("t/R0", "fgs"): rows}))

    assert [outlines(axes)[0].get_data().values.tolist() for axes in drawn(plot)] == [[100.0], [100.0]]


def test_any_attack_gives_the_logits_and_fgs_need_not_have_been_run(records):
    rows = {("t/R0", "own"): attack_rows([1.0], [1.0]), ("t/R0", "hc1"): None}
    (plot,) = margin_plots(group_with(records, rows))

    assert labels(drawn(plot)[0])[0] == "R0: 0.0 % beyond"


def test_at_most_four_models_are_drawn_each_looking_different(records):
    names = ["t/R0", "t/R1", "t/R2", "t/R3", "t/R4", "t/B0"]
    (plot,) = margin_plots(
        group_with(records, {(name, "fgs"): attack_rows([1.0, 30.0], [1.0, -9.0]) for name in names})
    )

    left, _ = drawn(plot)

    assert [label.split(":")[0] for label in labels(left)[:-1]] == ["R0", "R1", "R2", "B0"]
    assert plot.caption.endswith(" Not shown: R3, R4.")
    assert len({patch.get_linestyle() for patch in outlines(left)}) == 4
    assert len({patch.get_edgecolor() for patch in outlines(left)}) == 4


def test_models_without_single_images_are_named(records):
    rows = {("t/R0", "fgs"): attack_rows([1.0], [1.0]), ("t/R1", "fgs"): None, ("t/B0", "fgs"): None}
    (plot,) = margin_plots(group_with(records, rows))

    assert plot.caption.endswith("pushes towards the true class. No single images: R1, B0.")


def test_logits_that_are_not_finite_are_left_out(records):
    rows = attack_rows([np.nan, 20.0, np.inf], [1.0, 1.0, 1.0])
    (plot,) = margin_plots(group_with(records, {("t/R0", "fgs"): rows}))

    assert "n: R0 1)" in plot.caption
    assert labels(drawn(plot)[0])[0].startswith("R0: 100.0 % beyond")


def test_nothing_is_drawn_without_correct_images_or_without_single_images(records):
    rows = {("t/R0", "fgs"): attack_rows([], [], wrong=2), ("t/B0", "fgs"): None}

    assert margin_plots(group_with(records, rows)) == []
