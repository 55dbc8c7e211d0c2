"""The figure of accuracy, FGS rate and HC1 PASS over BANG's beta and epsilon."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from matplotlib.contour import ContourSet
from matplotlib.tri import LinearTriInterpolator, Triangulation

from bangbench.reporting.collect import collect
from bangbench.reporting.figures.settings import colour_ends, delaunay, settings_plots
from bangbench.reporting.figures.style import draw
from bangbench.reporting.groups import group_records
from bangbench.store.records import Moments

SETTINGS = {"B0": (1.0, 0.785), "B1": (1.0, 0.815), "B2": (1.2, 0.81), "B4": (1.5, 0.84)}


def measure(records, settings, attacks=("fgs", "hc1"), **changes):
    """Write BANG models with these settings, by name, and return their group."""
    for number, (name, (beta, epsilon)) in enumerate(settings.items()):
        for attack in attacks:
            records.attack(
                f"table1/{name}",
                attack,
                method_settings={"beta": beta, "epsilon": epsilon, "ratio": 1.0},
                rate=2.0 + number,
                pass_paper=Moments(mean=0.5 + number / 100, std=0.1),
                **({"iterations": 10_000} | changes),
            )
    return grouped(records)


def grouped(records):
    (group,) = group_records(collect(records.root, ())).groups
    return group


def panels_of(figure):
    """Return the panels, without the colour bars."""
    return [axes for axes in figure.axes if axes.get_xlabel() == "β"]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def areas(axes):
    return [item for item in axes.collections if isinstance(item, ContourSet)]


def points(axes):
    """Return beta, epsilon and value of the markers."""
    (markers,) = [item for item in axes.collections if not isinstance(item, ContourSet)]
    return np.column_stack([markers.get_offsets(), markers.get_array()]).tolist()


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_quantity_has_a_panel_with_labelled_points(records):
    (plot,) = settings_plots(measure(records, SETTINGS))
    figure = draw(plot)

    accuracy, rate, score = panels_of(figure)
    assert (plot.name, plot.section) == ("table1-settings", "settings")
    assert [axes.get_title() for axes in (accuracy, rate, score)] == ["accuracy", "FGS rate", "HC1 PASS"]
    assert points(rate) == [[1.0, 0.785, 2.0], [1.0, 0.815, 3.0], [1.2, 0.81, 4.0], [1.5, 0.84, 5.0]]
    assert [value for _, _, value in points(score)] == pytest.approx([0.5, 0.51, 0.52, 0.53])
    assert texts(rate) == ["B0", "2.00", "B1", "3.00", "B2", "4.00", "B4", "5.00"]
    assert rate.get_xlim() == accuracy.get_xlim()
    assert accuracy.get_ylabel() == "ε"
    assert "4 BANG models on mnist (n = 10,000 test images) over β and ε, ratio 1." in plot.caption
    assert "FGS rate (%): B0 2.00, B1 3.00" in plot.alternative


def test_the_area_behind_the_points_is_faint_and_said_to_be_interpolated(records):
    (plot,) = settings_plots(measure(records, SETTINGS))
    figure = draw(plot)

    for axes in panels_of(figure)[1:]:
        (area,) = areas(axes)
        assert area.get_facecolor()[:, :3].min() > 0.6
        assert area.get_rasterized()
    assert "interpolated (linear)" in legend_of(figure)
    assert "the faint areas are linearly interpolated between them" in plot.caption


@pytest.mark.parametrize(
    "settings",
    [
        {"B0": (1.0, 0.7), "B1": (1.0, 0.8), "B2": (1.0, 0.9)},
        {"B0": (1.0, 0.7), "B1": (1.1, 0.8), "B2": (1.2, 0.9)},
        {"B0": (1.0, 0.7), "B1": (1.1, 0.8)},
        {"B0": (1.0, 0.8), "B1": (1.1, 0.8)},
    ],
)
def test_settings_on_a_line_are_points_without_an_area(records, settings):
    (plot,) = settings_plots(measure(records, settings))
    figure = draw(plot)
    figure.canvas.draw()

    assert not any(areas(axes) for axes in panels_of(figure))
    assert len(points(panels_of(figure)[0])) == len(settings)
    assert "interpolated (linear)" not in legend_of(figure)
    assert "interpolated" not in plot.caption


def test_a_quantity_that_one_model_has_is_one_point_on_the_same_axes(records):
    measure(records, SETTINGS, attacks=("fgs",))
    group = measure(records, {"B0": SETTINGS["B0"]}, attacks=("hc1",))

    (plot,) = settings_plots(group)
    figure = draw(plot)

    accuracy, _, score = panels_of(figure)
    assert points(score) == [[1.0, 0.785, 0.5]]
    assert not areas(score)
    assert score.get_xlim() == accuracy.get_xlim()
    assert "over the flipped images, measured for 1 of the models." in plot.caption


def test_a_quantity_that_nobody_has_is_left_out(records):
    figure = draw(settings_plots(measure(records, SETTINGS, attacks=("fgs-unmasked",)))[0])

    assert [axes.get_title() for axes in panels_of(figure)] == ["accuracy"]


def test_a_rate_without_correct_images_is_no_point(records):
    measure(records, SETTINGS, attacks=("fgs",))
    records.attack(
        "table1/B4", "fgs", method_settings={"beta": 1.5, "epsilon": 0.84, "ratio": 1.0}, rate=None, correct=0
    )

    figure = draw(settings_plots(grouped(records))[0])

    assert [len(points(axes)) for axes in panels_of(figure)] == [4, 3]


def test_fewer_than_two_settings_of_bang_have_no_figure(records):
    records.attack("table1/R0", "fgs")
    assert settings_plots(grouped(records)) == []

    group = measure(records, {"B0": (1.0, 0.8), "B1": (1.0, 0.8)})
    assert settings_plots(group) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"net": "other"},
        {"iterations": 500},
        {"data": "digits"},
        {"method_settings": {"beta": 1.0, "epsilon": 0.785, "ratio": 0.5}},
    ],
)
def test_models_trained_in_another_way_are_left_out_and_named(records, changes):
    measure(records, SETTINGS)
    given = {"method_settings": {"beta": 1.0, "epsilon": 0.785, "ratio": 1.0}, "rate": 90.0} | changes
    data = given.pop("data", None)  # for the writer of records it is the data measured on
    records.attack("table1/B7", "fgs", **given)
    records.attack("table1/R0", "fgs", rate=4.0)
    group = grouped(records)
    if data is not None:
        group = trained_on(group, "B7", data)

    (plot,) = settings_plots(group)

    assert points(panels_of(draw(plot))[1])[0] == [1.0, 0.785, 2.0]
    assert "4 BANG models" in plot.caption
    assert "Not shown, since net, iterations, ratio or training data differ: B7." in plot.caption
    assert "Regular: R0." in plot.caption


def trained_on(group, name, data):
    """Return the group with one model's training data replaced."""
    models = [
        model._replace(model=model.model.model_copy(update={"data": data})) if model.name.endswith(name) else model
        for model in group.models
    ]
    return group._replace(models=tuple(models))


def test_regular_models_trained_in_another_way_are_no_level(records):
    records.attack("table1/R0", "fgs", rate=4.0, iterations=500)
    (plot,) = settings_plots(measure(records, SETTINGS))

    assert "Regular" not in plot.caption
    assert "Not shown" not in plot.caption
    assert panels_of(draw(plot))[1].get_title() == "FGS rate"


def test_other_methods_with_the_same_settings_are_not_bang(records):
    assert settings_plots(measure(records, SETTINGS, method="other")) == []


def test_models_of_one_setting_are_one_point_at_their_mean(records):
    (plot,) = settings_plots(measure(records, {"B0": (1.0, 0.7), "B1": (1.0, 0.7), "B2": (1.1, 0.9)}))

    _, rate, _ = panels_of(draw(plot))
    assert points(rate) == [[1.0, 0.7, 2.5], [1.1, 0.9, 4.0]]
    assert texts(rate)[0] == "B0, B1"
    assert "models with the same settings at their mean" in plot.caption


def test_the_regular_level_is_a_line_on_the_colour_bar_and_in_the_title(records):
    records.attack("table1/R0", "fgs", rate=4.0)
    records.attack("table1/R1", "fgs", rate=5.0)
    (plot,) = settings_plots(measure(records, SETTINGS, attacks=("fgs",)))

    figure = draw(plot)

    assert panels_of(figure)[1].get_title() == "FGS rate\n(regular 4.50)"
    (bar,) = [axes for axes in figure.axes if axes.get_ylabel() == "FGS rate (%)"]
    assert [line.get_ydata() for line in bar.lines if len(line.get_xdata()) == 2][-1] == [4.5, 4.5]
    assert "Regular: the mean of R0, R1." in plot.caption
    assert "regular (on the colour bar)" in legend_of(figure)


def test_a_regular_level_far_away_is_said_to_be_beyond_the_scale(records):
    records.attack("table1/R0", "fgs", rate=92.0, accuracy=10.0)
    figure = draw(settings_plots(measure(records, SETTINGS, attacks=("fgs",)))[0])

    assert [axes.get_title() for axes in panels_of(figure)] == [
        "accuracy\n(regular 10.00, off scale)",
        "FGS rate\n(regular 92.00, off scale)",
    ]
    assert "regular (on the colour bar)" not in legend_of(figure)


def test_the_colours_reach_a_regular_level_that_is_near_and_ignore_one_that_is_far():
    values = np.array([10.0, 12.0])

    low, high = colour_ends(values, 13.5)
    assert low == 10.0
    assert 13.5 < high < 14.0
    assert colour_ends(values, 14.5) == (10.0, 12.0)
    assert colour_ends(values, 11.0) == (10.0, 12.0)
    assert colour_ends(values, None) == (10.0, 12.0)
    low, high = colour_ends(np.array([0.0]), 0.0)
    assert low < 0.0 < high


def test_the_triangles_interpolate_a_plane_exactly():
    settings = np.array([(1.0, 0.785), (1.0, 0.815), (1.2, 0.81), (1.35, 0.78), (1.5, 0.84), (1.6, 0.78)])
    plane = 3.0 * settings[:, 0] - 50.0 * settings[:, 1]

    triangulation = Triangulation(*settings.T, delaunay(settings))

    inside = settings.mean(axis=0)
    assert float(LinearTriInterpolator(triangulation, plane)(*inside)) == pytest.approx(3 * inside[0] - 50 * inside[1])
    assert np.unique(triangulation.triangles).tolist() == list(range(6))


def test_triangles_do_not_depend_on_the_units_of_an_axis():
    settings = np.random.default_rng(0).random((9, 2))

    assert delaunay(settings).tolist() == delaunay(settings * (1.0, 0.001)).tolist()


def test_nothing_is_interpolated_between_settings_that_are_nearly_on_a_line():
    settings = np.array([(0.0, 0.0), (0.5, 0.5 + 1e-6), (1.0, 1.0)])

    assert delaunay(settings) is None
    assert delaunay(settings[:2]) is None
    assert delaunay(settings + np.array([(0, 0), (0, 0.1), (0, 0)])) is not None


def test_many_settings_keep_their_names_only_while_there_is_room(records):
    grid = {f"B{number}": (1.0 + number % 4 / 10, 0.7 + number // 4 / 50) for number in range(12)}

    (plot,) = settings_plots(measure(records, grid, attacks=("fgs",)))

    assert texts(panels_of(draw(plot))[0]) == list(grid)
    assert pickle.loads(pickle.dumps(plot)).name == plot.name
