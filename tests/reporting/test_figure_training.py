"""The figure of the course of training."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from bangbench.reporting.collect import collect
from bangbench.reporting.figures.style import draw
from bangbench.reporting.figures.training import is_logarithmic, training_plots
from bangbench.reporting.groups import group_records
from bangbench.reporting.training_log import TrainingLog


def log_of(loss=(0.5, 0.1, 0.02), accuracy=(90.0, 98.0, 99.0)):
    stages = len(loss)
    iteration = tuple(500.0 * stage for stage in range(1, stages + 1))
    return TrainingLog(iteration, loss, (0.01,) * stages, accuracy, accuracy)


def group_with(records, logs, **changes):
    """Return the group of models with these logs, by name."""
    for name in logs:
        records.attack(name, "fgs", **changes)
    (group,) = group_records(collect(records.root, ())).groups
    return group._replace(models=tuple(model._replace(log=logs[model.name]) for model in group.models))


def test_loss_and_test_error_are_drawn_against_iteration(records):
    group = group_with(records, {"table1/R0": log_of(), "table1/B1": log_of(loss=(0.9, 0.3, 0.1))}, data="mnist")

    (plot,) = training_plots(group)
    figure = draw(plot)

    left, right = figure.axes
    assert (plot.name, plot.section) == ("table1-training", "training")
    assert [line.get_ydata().tolist() for line in left.lines] == [[0.5, 0.1, 0.02], [0.9, 0.3, 0.1]]
    np.testing.assert_allclose(right.lines[0].get_ydata(), [10.0, 2.0, 1.0])
    assert left.lines[0].get_xdata().tolist() == [500, 1000, 1500]
    assert (left.get_yscale(), right.get_yscale()) == ("log", "log")
    assert (left.get_ylabel(), right.get_ylabel()) == ("mean training loss", "test error (%)")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["R0", "B1"]
    assert "Logarithmic scale of the loss and the error." in plot.caption
    assert "R0: loss 0.02, test error 1.00 % at iteration 1,500" in plot.alternative


def test_models_without_a_log_are_left_out_and_without_any_there_is_no_figure(records):
    group = group_with(records, {"table1/R0": None, "table1/B1": log_of()})

    (plot,) = training_plots(group)

    assert plot.caption.startswith("One model trained on mnist.")
    assert len(draw(plot).axes[0].lines) == 1
    assert training_plots(group._replace(models=group.models[:1])) == []
    assert training_plots(group_with(records, {"table1/R0": None, "table1/B1": TrainingLog((), (), (), (), ())})) == []


def test_the_number_of_images_is_given_where_the_whole_test_split_was_attacked(records):
    group = group_with(records, {"table1/R0": log_of()}, data="mnist")
    (model,) = group.models
    trained = model._replace(model=model.model.model_copy(update={"data": "mnist"}))
    other = model._replace(model=model.model.model_copy(update={"data": "digits"}))
    found = model.attacks["fgs"]
    limited = found._replace(record=found.record.model_copy(update={"spec": {"limit": 100}}))

    def caption(one):
        return training_plots(group._replace(models=(one,)))[0].caption

    assert "whole test split (10,000 images)" in caption(trained)
    assert "images" not in caption(other)
    assert "trained on digits" in caption(other)
    assert "images" not in caption(trained._replace(attacks={"fgs": limited}))


def test_a_single_stage_and_an_error_of_zero_are_drawn(records):
    group = group_with(records, {"R0": log_of(loss=(0.4,), accuracy=(100.0,))})

    (plot,) = training_plots(group)
    left, right = draw(plot).axes

    assert plot.name == "models-mnist-training"
    assert (left.get_yscale(), right.get_yscale()) == ("linear", "linear")
    assert left.lines[0].get_marker() == "o"
    assert "Logarithmic" not in plot.caption


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.1, 0.31), True),
        ((0.1, 0.29), False),
        ((0.0, 5.0), False),
        ((), False),
        ((float("nan"), 1.0, 9.0), True),
        ((float("inf"), 1.0, 2.0), False),
    ],
)
def test_values_are_on_a_logarithmic_scale_where_they_are_positive_and_far_apart(values, expected):
    assert is_logarithmic(values) is expected


def test_a_diverged_model_is_drawn_as_far_as_it_has_numbers(records):
    group = group_with(records, {"table1/R0": log_of(loss=(2.3, float("nan"), float("inf")))})

    figure = draw(training_plots(group)[0])
    figure.canvas.draw()

    assert np.isfinite(figure.axes[0].get_ylim()).all()


def test_more_than_eight_models_are_spread_over_figures_in_which_no_two_lines_look_alike(records):
    group = group_with(records, {f"table1/B{number}": log_of() for number in range(11)})

    plots = training_plots(group)

    assert [plot.name for plot in plots] == ["table1-training", "table1-training-2"]
    assert [len(draw(plot).axes[0].lines) for plot in plots] == [8, 3]
    looks = [(line.get_color(), line.get_linestyle()) for line in draw(plots[0]).axes[0].lines]
    assert len(set(looks)) == 8
    assert pickle.loads(pickle.dumps(plots[1])).draw().axes
