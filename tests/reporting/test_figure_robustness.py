"""Figures of robust accuracy: which are made, what their lines hold and where they are cut."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from bangbench.reporting.collect import collect
from bangbench.reporting.figures import style
from bangbench.reporting.figures.robustness import robustness_plots
from bangbench.reporting.groups import group_records
from bangbench.reporting.per_image import AttackRows


def attack_rows(linf, wrong=0):
    """Return rows with these L_inf for the correct images (infinite: not flipped) and so many wrong ones after them."""
    distances = np.array([*linf, *[math.inf] * wrong], dtype=np.float64)
    flipped, attacked = np.isfinite(distances), np.arange(len(distances)) < len(linf)
    numbers = np.where(flipped, distances, np.nan)
    indices = np.arange(len(distances))
    return AttackRows(indices, attacked, flipped, numbers, pass_definition=numbers, margin=numbers, true_logit=numbers)


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


def drawn(plot):
    """Return the figure as a worker process would draw it, laid out."""
    figure = style.draw(pickle.loads(pickle.dumps(plot)))
    figure.draw_without_rendering()
    return figure


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_model_has_a_panel_with_its_attacks_and_their_worst_case(records):
    rows = {
        ("t/R0", "fgs"): attack_rows([10.0, 60.0, math.inf], wrong=1),
        ("t/R0", "own-attack"): attack_rows([20.0, 30.0, math.inf], wrong=1),
        ("t/B0", "fgs"): attack_rows([10.0, 60.0, 70.0], wrong=1),
    }
    plot, _ = robustness_plots(group_with(records, rows))

    figure = drawn(plot)

    assert (plot.name, plot.section) == ("t-robustness", "robustness")
    assert [axes.get_title() for axes in figure.axes] == ["R0 on mnist", "B0 on mnist"]
    assert [len(axes.lines) for axes in figure.axes] == [3, 2]
    worst = figure.axes[0].lines[0]
    assert worst.get_xydata().tolist() == [[0, 75], [10, 50], [30, 25], [255, 25]]
    assert worst.get_color() == "#000000"
    assert all(line.get_linewidth() < worst.get_linewidth() for line in figure.axes[0].lines[1:])
    assert legend_texts(figure) == ["fgs", "own-attack", "worst case"]
    assert "n = 4" in plot.caption
    assert "R0: fgs, own-attack; B0: fgs" in plot.caption
    assert "R0, worst case: 75.0 % clean, 75.0 % at 8, 25.0 % at 32" in plot.alternative


def test_an_attack_has_the_same_colour_and_style_in_every_panel(records):
    rows = attack_rows([10.0, 60.0])
    group = group_with(records, {("t/R0", "fgs"): rows, ("t/R0", "hc1"): rows, ("t/B0", "hc1"): rows})

    first, second = drawn(robustness_plots(group)[0]).axes

    looks = [(line.get_color(), line.get_linestyle()) for line in (*first.lines[1:], *second.lines[1:])]
    assert looks[1] == looks[2] != looks[0]


def test_the_band_is_the_wilson_interval_of_the_worst_case(records):
    (plot,) = robustness_plots(group_with(records, {("t/R0", "fgs"): attack_rows([40.0] * 50 + [math.inf] * 50)}))

    (band,) = drawn(plot).axes[0].collections

    heights = band.get_paths()[0].vertices
    at_255 = sorted({round(y, 2) for x, y in heights if x == 255.0})
    assert (at_255[0], at_255[-1]) == (40.38, 59.62)


def test_figures_are_cut_where_every_line_is_flat(records):
    group = group_with(records, {("t/R0", "fgs"): attack_rows([20.0] * 10), ("t/R0", "hc1"): attack_rows([50.0] * 10)})

    (plot,) = robustness_plots(group)

    assert drawn(plot).axes[0].get_xlim() == (0, 53)
    assert drawn(plot).axes[0].get_ylim()[0] == 0
    assert "Cut at 53 grey levels" in plot.caption


@pytest.mark.parametrize("linf", [[255.0, 3.0], [math.inf, math.inf]])
def test_figures_reach_255_and_no_further_where_lines_fall_to_the_end_or_not_at_all(records, linf):
    (plot,) = robustness_plots(group_with(records, {("t/R0", "fgs"): attack_rows(linf)}))

    assert drawn(plot).axes[0].get_xlim() == (0, 255)
    assert "Cut" not in plot.caption


def test_the_worst_cases_of_several_models_stand_in_one_axes(records):
    rows = attack_rows([10.0, 60.0])
    plots = robustness_plots(group_with(records, {("t/R0", "fgs"): rows, ("t/R0", "hc1"): rows, ("t/B0", "fgs"): rows}))

    figure = drawn(plots[1])

    assert plots[1].name == "t-robustness-worst"
    assert legend_texts(figure) == ["R0 (2 attacks)", "B0 (1 attack)"]
    assert figure.get_size_inches()[0] == style.COLUMN
    assert "not attacked alike" in plots[1].caption


def test_models_attacked_alike_carry_no_warning(records):
    plots = robustness_plots(group_with(records, {(name, "fgs"): attack_rows([9.0]) for name in ("t/R0", "t/B0")}))

    assert "not attacked alike" not in plots[1].caption


def test_of_more_than_four_models_only_the_worst_cases_are_drawn_each_looking_different(records):
    names = [f"t/m{number}" for number in range(12)]
    plots = robustness_plots(group_with(records, {(name, "fgs"): attack_rows([9.0, 40.0]) for name in names}))

    (axes,) = drawn(plots[0]).axes

    assert [plot.name for plot in plots] == ["t-robustness-worst"]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 12


def test_four_models_fill_two_rows_without_an_empty_panel(records):
    names = ["t/R0", "t/R1", "t/B0", "t/B1"]
    plots = robustness_plots(group_with(records, {(name, "fgs"): attack_rows([9.0, 40.0]) for name in names}))

    figure = drawn(plots[0])

    assert [axes.get_title() for axes in figure.axes] == ["R0 on mnist", "R1 on mnist", "B0 on mnist", "B1 on mnist"]
    assert len({round(axes.get_position().y0, 3) for axes in figure.axes}) == 2


def test_nothing_is_drawn_without_single_images(records):
    assert robustness_plots(group_with(records, {("t/R0", "fgs"): None, ("t/B0", "fgs"): attack_rows([])})) == []
