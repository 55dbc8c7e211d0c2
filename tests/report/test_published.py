"""The paper's numbers, and which of them a model stands for."""

from __future__ import annotations

import pytest

from bangbench.report.published import published, published_figure, published_label, published_row
from bangbench.store.records import AttackRecord, DataInfo


def test_both_tables_have_eight_rows_and_the_numbers_of_the_paper():
    tables = (published().table1, published().table2)

    assert [[row.id for row in table.row] for table in tables] == [["R0", "R1", *(f"B{n}" for n in range(6))]] * 2
    row = published().table1.row[3]
    assert (row.beta, row.epsilon, row.accuracy, row.fgs.rate) == (1.0, 0.815, 99.22, 1.68)
    assert (row.hc1.pass_paper, row.hc1.linf) == ((0.4880, 0.2110), (201.84, 62.51))


@pytest.mark.parametrize(
    ("name", "stated", "expected"),
    [
        ("table1/R0", None, "table1 R0"),
        ("table2/B5", None, "table2 B5"),
        ("lenet_bang", "table1/B1", "table1 B1"),
        ("table1/R0", "table1/B1", "table1 B1"),
        ("table1/B9", None, None),
        ("demo/R0", None, None),
        ("R0", None, None),
        ("source/R0", None, None),
        ("figure3/R0", None, None),
    ],
)
def test_a_model_stands_for_the_row_it_states_or_else_the_one_it_is_named_after(records, name, stated, expected):
    path = records.attack(name, "fgs", published=stated)
    model = AttackRecord.model_validate_json(path.read_text(encoding="utf-8")).model
    found = published_row(name, model)

    assert (None if found is None else f"{found.table} {found.row.id}") == expected


def test_a_figure_belongs_to_its_own_pair_only(records):
    def row(name):
        return published_row(name, records.found_noise(name, name).record.regular)

    figure = published_figure(row("table1/R0"), row("table1/B1"))
    other = published_figure(row("table2/R0"), row("table2/B0"))

    assert figure is not None and (figure.number, figure.figure.sigma, figure.figure.bang_percent) == (3, 100, 3.0)
    assert other is not None and (other.number, other.figure.sigma, other.figure.bang_percent) == (5, 40, 39.1)
    assert published_figure(row("table1/R0"), row("table1/B0")) is None
    assert published_figure(row("table1/R0"), row("table2/B0")) is None
    assert published_figure(row("table1/R0"), None) is None


@pytest.mark.parametrize(
    ("name", "source", "dataset", "expected"),
    [
        ("mnist", "mnist", "mnist", "published"),
        ("cifar10-jpeg", "folder:cifar10-jpeg.zip", "cifar10", "published (CIFAR-10)"),
        ("cifar10", "npz:cifar10.npz", "cifar10", "published (CIFAR-10)"),
        ("cifar10", "folder:cifar10", "cifar10", "published (CIFAR-10)"),
    ],
)
def test_the_label_names_the_data_set_where_the_source_is_another_one(name, source, dataset, expected):
    measured_on = DataInfo(name=name, source=source, fingerprint="ab" * 32, images=10, class_names=("0", "1"))

    assert published_label(measured_on, dataset) == expected


def test_only_figure_3_is_approximate():
    assert (published().figure3.approximate, published().figure5.approximate) == (True, False)
