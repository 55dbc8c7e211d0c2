"""The figures of the noise evolution: surfaces, lines with their intervals, and the paper's numbers on them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.stats
from matplotlib.collections import PolyCollection, QuadMesh

from bangbench.reporting.figures.noise import chosen_sigmas, evolution_of, noise_plots
from bangbench.reporting.figures.style import draw
from bangbench.reporting.groups import Group
from bangbench.reporting.per_image import NoiseRows


def group_of(found):
    return Group("table1", found.record.data, (), (found,), ())


def plots_of(found):
    """Return the surfaces and the lines of a pair."""
    surfaces, lines = noise_plots(group_of(found))
    return surfaces, lines


def with_rows(found, seed=0):
    """Return a pair with single images, most of them never flipped, and the percentages that follow from them."""
    stages, sigmas, images, draws = len(found.summary.stages), len(found.summary.sigmas), 12, 4
    random = np.random.default_rng(seed)
    flipped = random.integers(0, draws + 1, (2, stages, sigmas, images)) * random.integers(0, 2, (images,))
    percent = 100.0 * flipped.mean(axis=-1) / draws
    summary = found.summary.model_copy(
        update={
            "images": images,
            "draws": draws,
            "flipped_percent": percent.tolist(),
        }
    )
    rows = NoiseRows(np.full(flipped.shape[:3], draws), flipped)
    return found._replace(summary=summary, rows=rows)


def meshes(figure):
    """Return the three heat maps of a figure, left to right."""
    return [item for axes in figure.axes[:3] for item in axes.collections if isinstance(item, QuadMesh)]


def stars(axes):
    """Return the marked points of the paper."""
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "*"]


def bands(axes):
    return [item for item in axes.collections if isinstance(item, PolyCollection)]


def legend_of(figure):
    return [label.get_text() for legend in figure.legends for label in legend.get_texts()]


def test_the_files_of_a_pair_are_named_by_its_results(records):
    plots = plots_of(records.found_noise("table1/R0", "table1/B1"))

    assert [plot.name for plot in plots] == ["table1-R0-vs-B1-noise", "table1-R0-vs-B1-noise-lines"]
    assert {plot.section for plot in plots} == {"noise"}


def test_a_group_without_noise_has_no_figure(records):
    found = records.found_noise("R0", "B1")

    assert noise_plots(group_of(found)._replace(noise=())) == []


def test_figures_can_be_sent_to_another_process(records):
    for plot in plots_of(with_rows(records.found_noise("table1/R0", "table1/B1"))):
        assert pickle.loads(pickle.dumps(plot)).draw().axes


def test_both_models_share_a_colour_scale_and_the_difference_is_centred(records):
    percent = (((1.0, 20.0), (2.0, 24.0)), ((1.5, 8.0), (3.0, 4.0)))
    found = records.found_noise("R0", "B1", stages=(500, 1000), sigmas=(50.0, 100.0), flipped_percent=percent)

    regular, bang, difference = meshes(draw(plots_of(found)[0]))

    assert regular.get_clim() == bang.get_clim() == (0.0, 24.0)
    assert difference.get_clim() == (-20.0, 20.0)
    assert regular.get_array().tolist() == [[1.0, 2.0], [20.0, 24.0]]
    assert difference.get_array().tolist() == [[-0.5, -1.0], [12.0, 20.0]]


def test_the_axes_of_the_surfaces_are_labelled_with_units(records):
    surfaces, _ = plots_of(records.found_noise("table1/R0", "table1/B1", draws=50))
    figure = draw(surfaces)

    panels = figure.axes[:3]
    assert [axes.get_title() for axes in panels] == ["regular (R0)", "BANG (B1)", "regular minus BANG"]
    assert {axes.get_xlabel() for axes in panels} == {"iteration"}
    assert panels[0].get_ylabel().endswith("(grey levels)")
    assert [axes.get_ylabel() for axes in figure.axes[3:]] == [
        "flipped copies (%)",
        "difference (percentage points)",
    ]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["2,500", "5,000", "7,500", "10,000"]
    counts = "n = 1,000 images of mnist that both models classify correctly at all stages, 50 draws each"
    assert f"{counts} (the paper: 1,000)" in surfaces.caption


def test_surfaces_without_any_flips_are_drawn(records):
    percent = 2 * (((0.0,), (0.0,)),)
    found = records.found_noise("R0", "B1", stages=(300, 600), sigmas=(10.0,), flipped_percent=percent)

    surfaces, lines = plots_of(found)

    assert [item.get_clim() for item in meshes(draw(surfaces))] == [(0.0, 1.0), (0.0, 1.0), (-1.0, 1.0)]
    assert len(draw(lines).axes) == 1


def test_sigmas_are_sorted_whatever_their_order_on_the_command_line(records):
    found = with_rows(records.found_noise("R0", "B1", stages=(500, 1000), sigmas=(90.0, 30.0, 60.0)))

    evolution = evolution_of(found)

    assert evolution.sigmas == (30.0, 60.0, 90.0)
    expected = 100.0 * found.rows.flipped[:, :, [1, 2, 0]].mean(-1) / found.summary.draws
    np.testing.assert_allclose(evolution.percent, expected)
    low, high = evolution.interval
    assert (low <= evolution.percent).all()
    assert (evolution.percent <= high).all()


def test_lines_are_drawn_at_thirds_of_the_sigmas_that_flip_anything(records):
    # the largest percentages per sigma: 0.1, 0.4, 0.9 flip next to nothing, six do
    row = (0.1, 0.4, 0.9, 1.5, 4.0, 9.0, 14.0, 20.0, 25.0)
    found = records.found_noise(
        "x/R0", "x/B1", stages=(1, 2), sigmas=range(10, 100, 10), flipped_percent=2 * ((row, row),)
    )

    evolution = evolution_of(found)

    assert [evolution.sigmas[place] for place in chosen_sigmas(evolution)] == [50.0, 70.0, 90.0]
    figure = draw(plots_of(found)[1])
    assert [axes.get_title() for axes in figure.axes] == ["σ = 50", "σ = 70", "σ = 90"]  # noqa: RUF001


def test_bands_are_intervals_over_images_of_the_percentages_of_each_image(records):
    found = with_rows(records.found_noise("x/R0", "x/B1", stages=(500, 1000), sigmas=(100.0,)))

    (axes,) = draw(plots_of(found)[1]).axes

    share = 100.0 * found.rows.flipped[0, :, 0] / found.summary.draws
    low, high = scipy.stats.t.interval(
        0.95, share.shape[-1] - 1, loc=share.mean(-1), scale=scipy.stats.sem(share, axis=-1)
    )
    drawn = bands(axes)[0].get_paths()[0].vertices[:, 1]
    assert len(bands(axes)) == 2
    assert (drawn.min(), drawn.max()) == pytest.approx((max(low.min(), 0.0), min(high.max(), 100.0)))


def test_regular_and_bang_differ_in_colour_and_line_style(records):
    (axes, *_) = draw(plots_of(records.found_noise("x/R0", "x/B1"))[1]).axes

    regular, bang = axes.lines
    assert regular.get_color() != bang.get_color()
    assert regular.get_linestyle() != bang.get_linestyle()


def test_without_single_images_there_are_lines_but_no_bands_and_the_caption_says_so(records):
    plot = plots_of(records.found_noise("table1/R0", "table1/B1"))[1]
    figure = draw(plot)

    assert not any(bands(axes) for axes in figure.axes)
    assert "95 % interval" not in legend_of(figure)
    assert "Without confidence intervals: the counts of the single images are missing." in plot.caption


def test_a_single_image_has_no_interval(records):
    found = with_rows(records.found_noise("R0", "B1", stages=(500, 1000), sigmas=(100.0,)))
    rows = found.rows._replace(flipped=found.rows.flipped[..., :1])
    single = found._replace(rows=rows, summary=found.summary.model_copy(update={"images": 1}))

    plot = plots_of(single)[1]

    assert "there is one image only" in plot.caption
    assert not bands(draw(plot).axes[0])


def test_the_caption_states_the_difference_over_the_same_images_with_its_interval(records):
    found = with_rows(records.found_noise("x/R0", "x/B1", stages=(500, 1000), sigmas=(50.0, 100.0)))
    regular, bang = 100.0 * found.rows.flipped[:, -1, -1] / found.summary.draws
    low, high = scipy.stats.t.interval(0.95, 11, loc=np.mean(regular - bang), scale=scipy.stats.sem(regular - bang))

    caption = plots_of(found)[1].caption

    expected = f"{np.mean(regular - bang):.2f} percentage points [{low:.2f}, {high:.2f}]."
    assert caption.endswith(f"Regular minus BANG at σ 100, last stage: {expected}")  # noqa: RUF001


def test_the_paper_s_ends_are_marked_at_the_last_stage(records):
    surfaces, lines = plots_of(records.found_noise("table1/R0", "table1/B1"))
    figure = draw(lines)

    said = "Published, figure 3 at σ 100, last stage: regular about 20 %, BANG about 3 %."  # noqa: RUF001
    assert said in surfaces.caption
    assert said in lines.caption
    assert stars(figure.axes[-1]) == [(10000, 20.0), (10000, 3.0)]
    assert not any(stars(axes) for axes in figure.axes[:-1])
    assert "the paper, last stage" in legend_of(figure)


def test_the_paper_s_sigma_has_a_panel_though_others_are_larger(records):
    figure = draw(plots_of(records.found_noise("table1/R0", "table1/B1", sigmas=(100.0, 110, 120, 130, 140, 150)))[1])

    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["σ = 100", "σ = 110", "σ = 130", "σ = 150"]  # noqa: RUF001
    assert len(stars(figure.axes[0])) == 2


def test_the_paper_is_not_mentioned_where_its_sigma_was_not_measured(records):
    surfaces, lines = plots_of(records.found_noise("table1/R0", "table1/B1", sigmas=(50.0, 90.0)))
    figure = draw(lines)

    assert "ublished" not in surfaces.caption + lines.caption
    assert not any(stars(axes) for axes in figure.axes)
    assert "the paper, last stage" not in legend_of(figure)


def test_on_other_data_the_paper_is_named_with_its_own_and_not_drawn(records):
    found = records.found_noise("table2/R0", "table2/B0", data="cifar10-jpeg", sigmas=(20.0, 40.0))
    _, lines = plots_of(found)

    assert "Published (CIFAR-10), figure 5 at σ 40" in lines.caption  # noqa: RUF001
    assert not any(stars(axes) for axes in draw(lines).axes)


def test_a_single_stage_is_drawn_against_sigma_with_error_bars(records):
    found = with_rows(records.found_noise("table1/R0", "table1/B1", stages=(300,), sigmas=(100.0, 50.0)))

    (plot,) = noise_plots(group_of(found))
    (axes,) = draw(plot).axes

    assert plot.name == "table1-R0-vs-B1-noise-lines"
    assert axes.get_xlabel() == "noise σ (grey levels)"  # noqa: RUF001
    assert "at iteration 300" in plot.caption
    assert "Bars: 95 % t intervals" in plot.caption
    assert len(axes.containers) == 2
    assert axes.containers[0].lines[0].get_xdata().tolist() == [50.0, 100.0]
    ends = [segment[:, 1].tolist() for segment in axes.containers[0].lines[2][0].get_segments()]
    evolution = evolution_of(found)
    np.testing.assert_allclose(ends, np.stack([end[0, 0] for end in evolution.interval], axis=1))
    assert stars(axes) == [(100.0, 20.0), (100.0, 3.0)]


def test_one_stage_one_sigma_and_no_single_images_are_drawn(records):
    percent = 2 * (((0.0,),),)
    found = records.found_noise("R0", "B1", stages=(300,), sigmas=(10.0,), flipped_percent=percent)

    (plot,) = noise_plots(group_of(found))

    assert draw(plot).axes[0].get_ylim()[0] == 0.0
    assert "Without confidence intervals" in plot.caption


def test_noise_that_was_not_clipped_is_said_to_be_so(records):
    found = records.found_noise("R0", "B1", spec={"clip": False})

    assert all("neither rounded nor clipped" in plot.caption for plot in plots_of(found))


def test_images_that_are_all_alike_have_neither_a_band_nor_an_interval_in_words(records):
    found = with_rows(records.found_noise("R0", "B1", stages=(500, 1000), sigmas=(100.0,)))
    never = found._replace(
        rows=found.rows._replace(flipped=np.zeros_like(found.rows.flipped)),
        summary=found.summary.model_copy(update={"flipped_percent": 2 * (((0.0,), (0.0,)),)}),
    )

    plot = plots_of(never)[1]

    assert np.isnan(evolution_of(never).interval).all()
    assert plot.caption.endswith("0.00 percentage points the same for every image, so without an interval.")
    assert draw(plot).axes


def test_models_of_unknown_iterations_are_called_the_final_ones(records):
    found = with_rows(records.found_noise("x/R0", "x/B1", stages=(0,), sigmas=(50.0, 100.0)))

    (plot,) = noise_plots(group_of(found))

    assert "against σ, the final models: regular R0" in plot.caption  # noqa: RUF001
    assert "Regular minus BANG at σ 100: " in plot.caption  # noqa: RUF001
    assert "At σ 100, the final models: " in plot.alternative  # noqa: RUF001
    assert "iteration" not in plot.caption + plot.alternative


def test_models_at_iteration_0_that_is_known_are_not_called_final(records):
    found = records.found_noise("x/R0", "x/B1", stages=(0,), sigmas=(100.0,))
    regular = found.record.models[0].model_copy(update={"iterations": 0})
    found = found._replace(record=found.record.model_copy(update={"models": (regular, found.record.models[1])}))

    (plot,) = noise_plots(group_of(found))

    assert "at iteration 0" in plot.caption


def test_the_paper_is_not_drawn_over_a_copy_of_its_data(records):
    found = records.found_noise("table1/R0", "table1/B1")
    data = found.record.data.model_copy(update={"source": "npz:mnist.npz"})
    copied = found._replace(record=found.record.model_copy(update={"data": data}))

    assert evolution_of(found).published is not None
    assert evolution_of(copied).published is None
