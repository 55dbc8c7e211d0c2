"""A noise evolution that stopped once it was precise enough, or computed in fewer digits, in all parts of a report."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bangbench.core.errors import BenchError
from bangbench.core.statistics import mean_interval, t_interval_ends
from bangbench.reporting.claim_rows import claims
from bangbench.reporting.collect import collect
from bangbench.reporting.figures.noise import evolution_of, noise_plots
from bangbench.reporting.groups import group_records
from bangbench.reporting.noise_rows import noise_table
from bangbench.reporting.page.facts import models_table
from bangbench.reporting.page.limits import limits
from bangbench.reporting.per_image import cell_draws, read_noise_rows
from bangbench.reporting.render import RENDERERS, to_csv
from bangbench.reporting.table import cell_text
from bangbench.store.tables import write_table

IMAGES = 8
DRAWS = (((3, 8), (5, 20)), ((3, 3), (8, 12)))
STOPPED = "up to 20 draws each, stopped at 95 % simultaneous intervals narrower than 2.5 points (the paper: 1,000)"


def counts_of(seed: int = 3) -> np.ndarray:
    """Return flipped draws of each image, (2, stages, sigmas, images), more at the second sigma."""
    draws = np.array(DRAWS)[..., None]
    return np.random.default_rng(seed).binomial(np.broadcast_to(draws, (2, 2, 2, IMAGES)), [[0.1], [0.6]])


def stopped(flipped: np.ndarray) -> dict[str, object]:
    """Return a summary's fields for these counts."""
    draws = np.array(DRAWS)
    percent = 100 * flipped.sum(-1) / (IMAGES * draws)
    ends = np.stack([np.maximum(percent - 1.25, 0), percent + 1.25], axis=-1)
    return {
        "stages": (500, 1000), "sigmas": (50.0, 100.0), "draws": 20, "images": IMAGES, "precision": 2.5,
        "draws_used": DRAWS,
        "flipped_percent": percent.tolist(),
        "flipped_interval": ends.tolist(),
    }  # fmt: skip


def write_counts(path, flipped: np.ndarray) -> None:
    write_table(path.with_suffix(".parquet"), {"flipped": flipped.ravel()}, pa.schema([("flipped", pa.int32())]))


@pytest.fixture
def flipped() -> np.ndarray:
    return counts_of()


@pytest.fixture
def group(records, flipped):
    """A pair with single images."""
    path = records.noise("table1/R0", "table1/B1", spec={"precision": 2.5}, **stopped(flipped))
    write_counts(path, flipped)
    collected = collect(records.root, ())
    assert collected.problems == ()
    (found,) = group_records(collected).groups
    return found


def percent_of_images(flipped: np.ndarray) -> np.ndarray:
    """Return each image's percentage, one cell at a time."""
    result = np.empty(flipped.shape)
    for model, draws in enumerate(DRAWS):
        for stage, sigma in np.ndindex(2, 2):
            result[model, stage, sigma] = 100 * flipped[model, stage, sigma] / draws[stage][sigma]
    return result


def test_the_percentages_of_single_images_are_of_the_draws_of_their_cell(group, flipped):
    (found,) = group.noise
    assert cell_draws(found.summary).tolist() == [[[3, 8], [5, 20]], [[3, 3], [8, 12]]]
    np.testing.assert_allclose(found.rows.percent, percent_of_images(flipped))


def test_counts_that_another_number_of_draws_belongs_to_are_refused(group, flipped):
    (found,) = group.noise
    draws = (((3, 8), (5, 20)), ((3, 3), (8, 18)))
    other = found.summary.model_copy(update={"draws_used": draws})
    with pytest.raises(BenchError, match="flipped of model 2 at stage 1000 and sigma 100"):
        read_noise_rows(found.path.with_suffix(".parquet"), other)


def test_the_table_has_draws_and_interval_of_both_models(group):
    table = noise_table(group)
    (found,) = group.noise
    shown = [column for column in table.columns if column.show is not None]
    assert [column.header for column in shown] == [
        "Pair", "Images", "σ", "Regular draws", "Regular flipped (%)", "Regular interval (%)",  # noqa: RUF001
        "BANG draws", "BANG flipped (%)", "BANG interval (%)", "Difference (points)",
    ]  # fmt: skip
    pairs = zip(table.columns, table.rows[1].cells, strict=True)
    texts = [cell_text(column, cell) for column, cell in pairs if column.show is not None]
    regular, bang = (surface[-1][1] for surface in found.summary.flipped_percent)
    assert texts[:4] == ["R0 vs B1", "8", "100", "20"]
    assert texts[4:6] == [f"{regular:.2f}", f"[{regular - 1.25:.2f}, {regular + 1.25:.2f}]"]
    assert texts[6:8] == ["12", f"{bang:.2f}"]
    assert texts[9] == f"{regular - bang:.2f}"
    header = to_csv(table).splitlines()[0].split(",")
    assert "draws_per_image" not in header
    for name in ("regular_draws_per_image", "bang_flipped_low_percent", "bang_flipped_high_percent"):
        assert name in header


def test_the_notes_say_where_drawing_stopped_and_what_the_intervals_cover(group):
    notes = noise_table(group).notes
    assert f"R0 vs B1: 2 stages, the last at iteration 1,000; 8 images, {STOPPED}." in notes
    assert any("they cover the drawing of noise, not the choice of images" in note for note in notes)


def test_every_format_renders_the_table(group):
    for render in RENDERERS.values():
        assert "20" in render(noise_table(group))


def test_a_pair_without_a_precision_beside_one_with_has_draws_and_no_interval(records, flipped):
    records.noise("table1/R0", "table1/B1", **stopped(flipped))
    records.noise("table1/R0", "table1/B0", stages=(500, 1000), sigmas=(100.0,), draws=70)
    (both,) = group_records(collect(records.root, ())).groups
    table = noise_table(both)
    (row,) = [row for row in table.rows if row.cells[0] == ("R0 vs B0",)]
    cells = dict(zip([column.header for column in table.columns], row.cells, strict=True))
    assert (cells["Regular draws"], cells["BANG draws"]) == ((70,), (70,))
    assert cells["BANG interval (%)"] == (None, None)
    assert any("images, 70 draws each (the paper: 1,000)" in note for note in table.notes)


def test_the_figures_bands_and_captions_use_the_draws_of_each_cell(group, flipped):
    (found,) = group.noise
    percent = percent_of_images(flipped)
    low, high = t_interval_ends(percent)
    interval = evolution_of(found).interval
    np.testing.assert_allclose(interval[0], np.maximum(low, 0))
    np.testing.assert_allclose(interval[1], np.minimum(high, 100))
    surfaces, lines = noise_plots(group)
    assert f"at all stages, {STOPPED}." in surfaces.caption
    regular, bang = percent[:, -1, 1]
    assert f"last stage: {np.mean(regular - bang):.2f} percentage points" in lines.caption


def test_the_papers_numbers_are_compared_with_the_percentages_of_the_cell(group, flipped):
    (claim,) = [claim for claim in claims(group) if claim.cell.endswith("BANG")]
    low, high = mean_interval(percent_of_images(flipped)[1, -1, 1]).interval
    assert claim.interval == pytest.approx((low - 3.0, high - 3.0))
    assert claim.ours == pytest.approx(percent_of_images(flipped)[1, -1, 1].mean())


def test_the_page_says_how_many_draws_there_were(group):
    assert f"8 images, {STOPPED.removesuffix(' (the paper: 1,000)')}, 2 x 2 stages" in " ".join(
        models_table(group).notes
    )
    assert "The noise evolution of R0 vs B1 has 3 to 20 noisy copies of each image; the paper has 1,000." in limits(
        group
    )


def test_a_reduced_arithmetic_is_told_with_what_it_changed(records):
    records.noise("table1/R0", "table1/B1", arithmetic="bfloat16", compared=4000, differing=7)
    (group,) = group_records(collect(records.root, ())).groups
    said = (
        "redictions in bfloat16; of 4,000 copies that were predicted in float32 as well, 7 (0.175 %) are flipped in "
        "one arithmetic and not in the other."
    )
    assert f"R0 vs B1: p{said}" in noise_table(group).notes
    assert all(f"P{said}" in plot.caption for plot in noise_plots(group))
    assert f"Noise evolution of R0 vs B1: p{said}" in limits(group)


def test_float32_and_all_draws_need_no_words(records):
    records.noise("table1/R0", "table1/B1")
    (group,) = group_records(collect(records.root, ())).groups
    told = " ".join((*noise_table(group).notes, *(plot.caption for plot in noise_plots(group)), *limits(group)))
    assert "1,000 draws each." in told
    for word in ("stopped", "predictions in", "simultaneous", "the paper has"):
        assert word not in told
