"""Figures of PASS against L_inf: which panels there are and what they hold."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection

from bangbench.reporting.collect import collect
from bangbench.reporting.figures import style
from bangbench.reporting.figures.similarity import similarity_plots
from bangbench.reporting.groups import group_records
from bangbench.reporting.per_image import AttackRows


def attack_rows(flipped, failed=3, similarity=None):
    """Return rows with L_inf 1, 2, ... of so many flipped images, PASS falling from 1 to 0 unless given."""
    total = flipped + failed
    linf = np.full(total, np.nan)
    linf[:flipped] = np.arange(1, flipped + 1) % 256
    score = np.full(total, np.nan)
    score[:flipped] = np.linspace(1, 0, flipped) if similarity is None else similarity
    hits, every = np.arange(total) < flipped, np.ones(total, np.bool_)
    return AttackRows(np.arange(total), every, hits, linf, pass_definition=score, margin=linf, true_logit=linf)


def group_with(records, rows):
    """Return the group of these models and attacks, with these rows."""
    for name, attack in rows:
        records.attack(name, attack)
    (group,) = group_records(collect(records.root, ())).groups
    models = []
    for model in group.models:
        attacks = {key: found._replace(rows=rows[model.name, key]) for key, found in model.attacks.items()}
        models.append(model._replace(attacks=attacks))
    return group._replace(models=tuple(models))


def panels(plot):
    """Return the axes with a title: the others are colour bars."""
    figure = style.draw(pickle.loads(pickle.dumps(plot)))
    figure.draw_without_rendering()
    return [axes for axes in figure.axes if axes.get_title()]


def titles(plot):
    return [axes.get_title().splitlines()[0] for axes in panels(plot)]


def test_fgs_and_hc1_come_first_and_models_stand_side_by_side(records):
    attacks = ("fgs", "fgs-unmasked", "hc1", "aaa")
    (plot,) = similarity_plots(
        group_with(records, {(name, a): attack_rows(9) for name in ("t/R0", "t/B0") for a in attacks})
    )

    assert (plot.name, plot.section) == ("t-similarity", "robustness")
    assert titles(plot) == ["R0 fgs: 9 flipped", "B0 fgs: 9 flipped", "R0 hc1: 9 flipped", "B0 hc1: 9 flipped"]
    assert "n: R0 fgs 9, B0 fgs 9" in plot.caption


def test_other_attacks_are_drawn_where_those_are_missing(records):
    rows = attack_rows(9)
    group = group_with(records, {("t/R0", "zoo"): rows, ("t/R0", "own"): rows, ("t/R0", "hc1-unmasked"): rows})

    assert titles(similarity_plots(group)[0]) == ["R0 hc1-unmasked: 9 flipped", "R0 own: 9 flipped"]


def test_of_many_models_three_are_drawn_with_every_method_among_them(records):
    names = ["t/R0", "t/R1", "t/R2", "t/R3", "t/B0"]
    (plot,) = similarity_plots(group_with(records, {(name, "fgs"): attack_rows(9) for name in names}))

    assert titles(plot) == ["R0 fgs: 9 flipped", "R1 fgs: 9 flipped", "B0 fgs: 9 flipped"]
    assert plot.caption.endswith(" Not shown: R2, R3.")


def test_models_attacks_and_panels_that_are_missing_are_named(records):
    rows = {("t/R0", attack): attack_rows(9) for attack in ("fgs", "hc1", "fgs-unmasked")}
    rows |= {("t/B0", "fgs"): attack_rows(9), ("t/B0", "hc1"): attack_rows(0), ("t/B1", "fgs"): None}
    (plot,) = similarity_plots(group_with(records, rows))

    assert plot.caption.endswith(" Not shown: fgs-unmasked, B0 hc1; no single images: B1.")


def test_few_images_are_dots_and_many_a_density_on_one_scale(records):
    rows = {("t/R0", "fgs"): attack_rows(600), ("t/B0", "fgs"): attack_rows(49), ("t/R0", "hc1"): attack_rows(50)}
    (plot,) = similarity_plots(group_with(records, rows))

    dense, few, least_dense = panels(plot)

    assert [type(axes.collections[0]) for axes in (dense, least_dense)] == [PolyCollection] * 2
    assert type(few.collections[0]) is PathCollection
    assert len(few.collections[0].get_offsets()) == 49
    assert dense.collections[0].norm is least_dense.collections[0].norm
    assert dense.collections[0].norm.vmax == dense.collections[0].get_array().max()
    assert all(axes.collections[0].get_rasterized() for axes in (dense, few, least_dense))
    assert len({axes.get_xlim() for axes in (dense, few, least_dense)}) == 1


@pytest.mark.parametrize("flipped", [60, 128, 255, 400])
def test_every_flipped_image_is_in_some_cell(records, flipped):
    (plot,) = similarity_plots(group_with(records, {("t/R0", "fgs"): attack_rows(flipped)}))

    assert panels(plot)[0].collections[0].get_array().sum() == flipped


def test_a_pass_below_zero_stays_inside(records):
    scores = np.linspace(-0.3, 0.4, 80)
    (plot,) = similarity_plots(group_with(records, {("t/R0", "fgs"): attack_rows(80, similarity=scores)}))

    (axes,) = panels(plot)

    assert axes.collections[0].get_array().sum() == 80
    assert axes.get_ylim()[0] < -0.3


def test_medians_are_marked_and_named(records):
    (plot,) = similarity_plots(group_with(records, {("t/R0", "fgs"): attack_rows(9)}))

    (axes,) = panels(plot)

    assert axes.lines[0].get_xydata().tolist() == [[5.0, 0.5]]
    assert axes.get_title().splitlines()[1] == "medians: L∞ 5, PASS 0.50"
    assert "R0 fgs (n = 9) L∞ 5, PASS 0.50" in plot.alternative


def test_panels_without_a_defined_pass_are_left_out_and_missing_scores_counted(records):
    partly = np.array([np.nan, 0.5, 0.5, np.nan])
    rows = {("t/R0", "fgs"): attack_rows(4, similarity=np.nan), ("t/R0", "hc1"): attack_rows(4, similarity=partly)}
    (plot,) = similarity_plots(group_with(records, rows))

    assert titles(plot) == ["R0 hc1: 4 flipped"]
    assert "Left out, since PASS is not defined for them: R0 hc1 2." in plot.caption
    assert len(panels(plot)[0].collections[0].get_offsets()) == 2


def test_nothing_is_drawn_where_nothing_flipped_or_no_single_images_are_there(records):
    assert similarity_plots(group_with(records, {("t/R0", "fgs"): attack_rows(0), ("t/B0", "fgs"): None})) == []
