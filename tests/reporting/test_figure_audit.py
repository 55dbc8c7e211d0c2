"""The figure of robust accuracy within each budget, as the audits measured it."""

from __future__ import annotations

import pickle

import pytest

from bangbench.core.statistics import wilson_interval
from bangbench.reporting.collect import collect
from bangbench.reporting.figures import style
from bangbench.reporting.figures.audit import audit_plots
from bangbench.reporting.groups import group_records


def plots_of(records):
    (group,) = group_records(collect(records.root, ())).groups
    return audit_plots(group)


def drawn(plot):
    """Return the figure as a worker process would draw it, laid out."""
    figure = style.draw(pickle.loads(pickle.dumps(plot)))
    figure.draw_without_rendering()
    return figure


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_model_has_a_panel_with_its_attacks_and_their_worst_case(records):
    for name in ("t/R0", "t/B1"):
        records.audit(name)
    (plot,) = plots_of(records)

    figure = drawn(plot)

    assert (plot.name, plot.section) == ("t-audit", "audit")
    assert [axes.get_title() for axes in figure.axes] == ["R0: sound", "B1: masked"]
    assert legend_texts(figure) == ["fgs", "pgd", "square", "worst case"]
    lines = {line.get_color(): line for line in figure.axes[1].lines if line.get_linestyle() != "None"}
    assert lines["#000000"].get_xdata().tolist() == [0, 26, 51, 76]
    assert lines["#000000"].get_ydata().tolist() == pytest.approx([99.0, 41.4, 3.8, 0.5])
    assert lines[style.colour(0)].get_ydata().tolist() == pytest.approx([99.0, 96.6, 96.6, 96.6])
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert ticks == ["0", "26\n(0.1)", "51\n(0.2)", "76\n(0.3)"]


def test_bars_are_the_wilson_intervals_of_the_worst_case(records):
    records.audit("t/R0")
    (plot,) = plots_of(records)

    (bars,) = drawn(plot).axes[0].collections

    low, high = wilson_interval(5, 1000)
    assert bars.get_segments()[-1][:, 1].tolist() == pytest.approx([low, high])
    assert bars.get_segments()[0].tolist() == [[0, 99.0], [0, 99.0]]


def test_of_more_than_four_models_only_the_worst_cases_are_drawn_each_looking_different(records):
    for number in range(11):
        records.audit(f"t/R{number}")
    (plot,) = plots_of(records)

    figure = drawn(plot)

    assert len(figure.axes) == 1
    assert legend_texts(figure) == [f"R{number}" for number in range(11)]
    looks = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in figure.axes[0].lines
        if line.get_linestyle() != "None"
    }
    assert len(looks) == 11
    assert "One line per model" in plot.caption


def test_caption_and_words_have_the_verdicts_numbers_and_images(records):
    records.audit("t/R0")
    records.audit("t/B1", images=2000)
    (plot,) = plots_of(records)

    assert "n = 1,000 or 2,000" in plot.caption
    assert "Verdicts: R0 sound, B1 masked." in plot.caption
    assert "R0, sound, worst case: 99.0 % clean, 41.4 % at 26 (0.1), 3.8 % at 51 (0.2), 0.5 % at 76 (0.3)." in (
        plot.alternative
    )


def test_an_attack_that_one_model_lacks_keeps_its_look_in_the_others(records):
    records.audit("t/R0", budgets=())
    records.audit("t/B1")
    (plot,) = plots_of(records)

    assert [axes.get_title() for axes in drawn(plot).axes] == ["B1: masked"]


def test_nothing_is_drawn_without_an_audit_or_a_budget(records):
    records.attack("t/R0", "fgs")
    assert plots_of(records) == []

    records.audit("t/R0", budgets=())
    assert plots_of(records) == []
