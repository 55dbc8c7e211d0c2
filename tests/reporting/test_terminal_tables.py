"""Tables in a terminal: they fit, whole, and the paper's rows stand back."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bangbench.cli.tables import print_standings, print_table
from bangbench.reporting.audit_tables import standings
from bangbench.reporting.document import tables_of
from bangbench.reporting.frames import frames_of


def shown(tables, width, **options):
    stream = io.StringIO()
    console = Console(file=stream, width=width, **options)
    for table in tables:
        print_table(table, console)
    return stream.getvalue()


@pytest.fixture
def tables(records):
    for name in ("table1/R0", "table1/B1"):
        for attack in ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked"):
            records.attack(name, attack)
    records.noise("table1/R0", "table1/B1")
    return all_tables(records)


def named(tables, name):
    return next(table for table in tables if table.name == name)


def all_tables(records):
    experiment = records.experiment()
    return list(tables_of(experiment, frames_of([experiment])))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_table_fits_without_a_cut_or_folded_cell(tables, width):
    output = shown(tables, width)

    assert max(map(len, output.splitlines())) <= width
    assert "…" not in output
    for value in ("published", "fgs-unmasked", "99.96, 100.00]", "±0.1085", "122.60", "∞"):
        assert value in output, value


@pytest.mark.parametrize("audited", [("R0", "B1"), ("B1",)])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_verdicts_fit_too_whole(records, tables, audited, width):
    for name in audited:
        records.audit(f"table1/{name}")
    output = shown(all_tables(records), width)

    assert max(map(len, output.splitlines())) <= width
    assert "…" not in output
    wanted = ["[masked]", "unmasked", "fgs-unmasked", "fgs-masked", "99.96, 100.00]", "±0.1085", "worst-case"]
    for value in [*wanted, *(["[no audit]", "not audited"] if len(audited) == 1 else ["[sound]"])]:
        assert value in output, value


def test_a_mean_and_its_deviation_share_a_line_where_there_is_room(tables):
    assert "0.4071 ±0.1085 40.56 ±15.74" in shown([named(tables, "table1")], 100)
    assert "0.4071 ±0.1085" not in shown([named(tables, "table1")], 80)


def test_the_paper_s_rows_are_dimmed_and_the_measured_ones_are_not(tables):
    output = shown([named(tables, "table1")], 100, force_terminal=True, color_system="standard")
    published = [line for line in output.splitlines() if "published" in line and "90.33" in line]
    measured = [line for line in output.splitlines() if "R0" in line and "90.33" in line]

    assert len(published) == len(measured) == 1
    assert "\x1b[2m" in published[0]
    assert "\x1b[2m" not in measured[0]


def test_brackets_are_text_and_not_markup(tables):
    assert "90.33 [89.73, 90.89]" in shown([named(tables, "table1-bench")], 160)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_summary_is_whole_on_a_narrow_terminal(records, width):
    records.attack("table1/R0", "fgs")
    records.audit("table1/B1", budgets=(records.held(26, 500), records.held(76, 900)))
    experiment, stream = records.experiment(), io.StringIO()
    lines = standings(experiment, frames_of([experiment]))
    print_standings([(experiment, lines)], Console(file=stream, width=width))
    assert "…" not in stream.getvalue()
    row = next(line for line in stream.getvalue().splitlines() if line.split()[:1] == ["B1"])
    assert "9.0" in row  # robust within the largest budget


def test_a_summary_is_one_line_a_model_on_one_screen(records):
    for number in range(40):
        records.attack(f"table1/m{number}", "fgs")
    records.audit("table1/m0", strength="quick")
    records.audit("table1/B1")
    stream = io.StringIO()
    experiment = records.experiment()

    print_standings([(experiment, standings(experiment, frames_of([experiment])))], Console(file=stream, width=160))

    lines = stream.getvalue().splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert "can be trusted (quick)" in stream.getvalue()
    assert "attacks masked" in stream.getvalue()
    assert "more models of table1: --details" in stream.getvalue()
