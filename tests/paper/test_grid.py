"""A grid of cells: the table, what is said of it, and the figure."""

from __future__ import annotations

import runpy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from bangbench.core.errors import UsageError
from bangbench.paper.grid import counted, grid_table, what_it_shows
from bangbench.paper.grid_figures import grid_figures
from bangbench.reporting import ReportSpec
from bangbench.reporting.document import figures_of
from bangbench.reporting.draw import draw
from bangbench.reporting.frames import read
from bangbench.reporting.run import find, report
from bangbench.store.cells import CellNoise, CellRecord, GridCell, GridRecord, cell_path, write_grid
from bangbench.store.records import Moments, write_record

WRITTEN = runpy.run_path(str(Path(__file__).parent.parent / "reporting" / "conftest.py"))
data_info, model_info, summary = (WRITTEN[name] for name in ("data_info", "model_info", "summary"))
BETA, EPSILON = (1.0, 1.2, 1.4, 1.6), (0.78, 0.80, 0.82, 0.84)


@pytest.fixture
def grid(records):
    """Return a function that writes a grid of 4 x 4, the corners of which are level 1, and measures some cells.

    rate, accuracy: of a cell, given beta and epsilon; the regular models have an FGS rate of 90 and 91 %.
    """

    def write(measured=lambda *place: True, rate=lambda *place: 5.0, accuracy=lambda *place: 99.0):
        cells = [
            GridCell(name=f"figure2/R0{end}", place={}, seed=seed, level=1) for seed, end in enumerate(("", "-s1"))
        ]
        for beta, epsilon in product(BETA, EPSILON):
            corner = beta in (1.0, 1.6) and epsilon in (0.78, 0.84)
            place = {"beta": beta, "epsilon": epsilon}
            name = f"figure2/b{beta:.2f}-e{epsilon:.2f}"
            cells.append(GridCell(name=name, place=place, seed=0, level=1 if corner else 2))
        axes = {"beta": BETA, "epsilon": EPSILON}
        write_grid(records.root, "figure2", GridRecord(title="Figure 2", axes=axes, cells=tuple(cells)))
        for cell in cells:
            place = tuple(cell.place.values())
            if not place:
                write_record(cell_path(records.root, cell.name), _cell(cell, 90.0 + cell.seed, 99.1))
            elif measured(*place):
                write_record(cell_path(records.root, cell.name), _cell(cell, rate(*place), accuracy(*place)))
        return next(each for each in records.experiments() if each.grid is not None)

    def _cell(cell, fgs_rate, accuracy):
        method = {"method": "bang", "method_settings": {**cell.place, "ratio": 1.0}} if cell.place else {
            "method": "regular", "method_settings": {}
        }  # fmt: skip
        few = {"images": 1000, "correct": 990, "flipped": 980, "rate": 99.0, "pass_paper": Moments(mean=0.5, std=0.1)}
        return CellRecord(
            schema=1, status="done", key="k", provenance=WRITTEN["PROVENANCE"], place=cell.place, seed=cell.seed,
            spec={"attacks": {"fgs": {"limit": None}, "hc1": {"limit": 1000}}},
            model=model_info(cell.name, iterations=10_000, **method), data=data_info("mnist"), accuracy=accuracy,
            attacks={
                "fgs": summary("R0", "fgs", rate=fgs_rate, flipped=int(99.16 * fgs_rate)),
                "hc1": summary("R0", "hc1", **few),
            },
            noise=CellNoise(sigma=100.0, draws=20, images=1000, flipped_percent=3.0),
        )  # fmt: skip

    return write


def falling(beta, epsilon):
    """Return a rate that falls with epsilon but for some scatter."""
    return 5.0 - 50.0 * (epsilon - 0.78) + 0.4 * np.sin(37 * beta)


def heat_map(experiment, title):
    (figure,) = grid_figures(experiment)
    return next(each for each in figure.content.maps if each.title.startswith(title))


def test_a_notebook_reads_the_summaries_of_a_grid_as_frames(grid, records):
    grid(measured=lambda beta, epsilon: epsilon == 0.78, rate=lambda beta, epsilon: 10.0 * beta)
    frames = read(records.root)

    cells = frames.models.set_index("model").loc[lambda frame: frame["method"] == "bang"]
    assert cells[["beta", "epsilon", "accuracy_percent"]].values.tolist() == [[beta, 0.78, 99.0] for beta in BETA]
    fgs = frames.attacks[frames.attacks["attack"] == "fgs"].set_index("model")["rate_percent"]
    assert fgs[cells.index].tolist() == [10.0 * beta for beta in BETA]
    assert frames.noise["flipped_percent"].tolist() == [3.0] * 6
    assert set(frames.models["audit_verdict"]) == {"not audited"}


def test_a_coarse_grid_is_drawn_on_its_own_axes_and_a_finer_one_with_blanks(grid):
    coarse = grid(measured=lambda beta, epsilon: beta in (1.0, 1.6) and epsilon in (0.78, 0.84))
    assert heat_map(coarse, "FGS").values.shape == (2, 2)
    assert counted(coarse.grid) == "4 of 16 cells (level 1)"

    finer = grid(measured=lambda beta, epsilon: epsilon == 0.78 or beta in (1.0, 1.6))
    values = heat_map(finer, "FGS").values
    assert np.isfinite(values).tolist() == [[True] * 4, *[[True, False, False, True]] * 3]
    assert counted(finer.grid) == "10 of 16 cells (level 1, 6 of the 12 of level 2)"


def test_the_map_has_the_second_axis_upwards_and_the_mean_of_the_regular_seeds(grid):
    found = heat_map(grid(rate=lambda beta, epsilon: beta + 10 * epsilon), "FGS rate")

    assert found.values[1, 2] == pytest.approx(1.4 + 8.0)
    assert found.level == pytest.approx(90.5)


def test_the_papers_settings_lie_between_the_cells_where_they_belong(grid):
    published = heat_map(grid(), "FGS rate").published

    assert (0.5, 2.25, 1.68) in [pytest.approx(each) for each in published]
    assert len(published) == 6


def test_a_trend_is_said_with_its_interval_and_none_where_the_interval_includes_zero(grid):
    told = what_it_shows(grid(rate=falling, accuracy=lambda beta, epsilon: 99 + 0.1 * np.sin(99 * beta * epsilon)).grid)

    expected = spearmanr(*zip(*[(e, falling(b, e)) for b, e in product(BETA, EPSILON)], strict=True)).statistic
    assert f"FGS rate falls as ε grows ({expected:.2f} [" in told
    assert "whether accuracy changes with β cannot be told from these cells (" in told
    assert "HC1 PASS along β: the same number in every cell" in told
    assert "accuracy 98.90 to 99.10 % (regular 99.10, exceeded in 0 of 16 cells)" in told


def test_few_cells_have_no_trend(grid):
    told = what_it_shows(grid(measured=lambda beta, epsilon: (beta, epsilon) == (1.0, 0.78)).grid)

    assert "FGS rate along ε: too few cells" in told
    assert "Fewer than 10 cells" in told


def test_the_table_has_every_measured_model_and_the_papers_under_it(grid, records):
    table = grid_table(grid(measured=lambda beta, epsilon: beta == 1.6), None)

    assert table.name == "figure2-cells"
    rows = [(cells[0], *cells[1:5]) for _, cells in table.printed()]
    assert rows[:4] == [
        ("R0", "–", "–", "0", "99.10"),  # noqa: RUF001
        ("R0 published", "–", "–", "–", "99.16"),  # noqa: RUF001
        ("R1 published", "–", "–", "–", "99.15"),  # noqa: RUF001
        ("R0-s1", "–", "–", "1", "99.10"),  # noqa: RUF001
    ]
    assert [row[0] for row in rows[4:]] == [
        "b1.60-e0.78", "B5 published", "b1.60-e0.80", "b1.60-e0.82", "b1.60-e0.84",
    ]  # fmt: skip
    assert any("hc1: the first 1,000 test images" in note for note in table.notes)


def test_the_report_of_a_grid_is_a_page_with_its_figure_open_and_its_table_folded(grid, records):
    grid()

    result = report(ReportSpec(root=records.root, models=("figure2",)))

    folder = records.root / "results/report"
    page = (folder / "report.html").read_text()
    assert {"figure2-cells.csv", "figure2-grid.png"} <= {path.name for path in result.files}
    assert '<details class="section" id="figure2-grid" open>' in page
    assert '<details class="section" id="figure2-cells">' in page
    assert page.count("What the grid shows, from 16 of 16 cells") == 2  # above the figure, and for who cannot see it
    with pytest.raises(UsageError, match="figure2"):
        find(records.root, ("figure3",))


def test_a_grid_beside_attacked_models_of_its_folder_is_an_experiment_of_its_own(grid, records):
    grid()
    records.attack("figure2/R0", "fgs")

    assert sorted(each.name for each in records.experiments()) == ["figure2", "figure2-grid"]


def test_a_damaged_cell_is_named_and_the_others_count(grid, records):
    grid()
    cell_path(records.root, "figure2/b1.00-e0.78").write_text("{")

    found = find(records.root)

    assert len(found.experiments[0].grid.cells) == 17
    assert any("b1.00-e0.78" in problem for problem in found.problems)


def test_the_regular_models_level_is_drawn_between_cells_on_either_side_of_it_and_not_beside_a_blank(grid):
    accuracy = {1.0: 99.3, 1.4: 99.0, 1.6: 99.2}  # regular: 99.1
    (figure,) = figures_of(grid(lambda beta, epsilon: beta in accuracy, accuracy=lambda beta, epsilon: accuracy[beta]))

    panel = draw(figure).axes[0]

    assert [line.get_xdata().tolist() for line in panel.lines] == [[3, 3]] * 4
