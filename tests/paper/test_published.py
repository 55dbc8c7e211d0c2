"""The paper's numbers, and which of them a model stands for."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bangbench.nets.catalogue import net_definition
from bangbench.paper.published import published, published_figure, published_label, published_row
from bangbench.store.records import DataInfo, Preprocessing
from bangbench.training.spec import TrainSpec

WRITTEN = runpy.run_path(str(Path(__file__).parent.parent / "reporting" / "conftest.py"))
data_info, model_card, model_info = (WRITTEN[name] for name in ("data_info", "model_card", "model_info"))


def test_both_tables_have_eight_rows_and_the_numbers_of_the_paper():
    tables = (published().table1, published().table2)

    assert [[row.id for row in table.row] for table in tables] == [["R0", "R1", *(f"B{n}" for n in range(6))]] * 2
    row = published().table1.row[3]
    assert (row.beta, row.epsilon, row.accuracy, row.fgs.rate) == (1.0, 0.815, 99.22, 1.68)
    assert (row.hc1.pass_paper, row.hc1.linf) == ((0.4880, 0.2110), (201.84, 62.51))


def row_of(name, measured_on="mnist", card=None, **changes):
    """Return table and id of the row that a model stands for, None where there is none."""
    found = published_row(model_info(name, **changes), data_info(measured_on), card)
    return None if found is None else f"{found.table} {found.row.id}"


@pytest.mark.parametrize("name", ["lenet_bang", "table1/R0", "table2/B5", "R0"])
def test_the_authors_weights_stand_for_the_row_they_are_known_by_whatever_they_are_called(name):
    assert row_of(name, published="table1/B1", method="regular", data=None, iterations=None) == "table1 B1"
    assert row_of(name, published="table1/B9") is None


@pytest.mark.parametrize("table", ["table1", "table2"])
@pytest.mark.parametrize("row_id", ["R0", "R1", "B0", "B1", "B2", "B3", "B4", "B5"])
def test_a_model_trained_as_that_of_a_row_stands_for_it(table, row_id):
    data = "mnist" if table == "table1" else "cifar10"

    assert row_of(f"{table}/{row_id}", data, seed=7) == f"{table} {row_id}"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "pgd-at", "method_settings": {"budget": 0.3, "step": 0.01, "steps": 40, "warmup": 0}},
        {"method": "pgd-at"},
        {"method": None, "method_settings": {}},
        {"method": "regular", "method_settings": {}, "data": "fashion"},
        {"method_settings": {"beta": 1.0, "epsilon": 0.9, "ratio": 1.0}},
        {"method_settings": {"beta": 1.1, "epsilon": 0.815, "ratio": 1.0}},
        {"method_settings": {"beta": 1.0, "epsilon": 0.815, "ratio": 0.5}},
        {"method_settings": {"beta": 1.0, "epsilon": 0.815}},
        {"net": "nets.py:lenet"},
        {"data": "digits"},
        {"data": None},
        {"iterations": 9_999},
        {"iterations": None},
        {"preprocessing": Preprocessing(input_scale=255.0)},
    ],
)
def test_the_name_of_a_row_makes_no_model_its_own(changes):
    assert row_of("table1/B1", **changes) is None


def test_a_name_chooses_only_among_the_rows_that_fit():
    regular, as_b0 = {"method": "regular", "method_settings": {}}, {"beta": 1.0, "epsilon": 0.785, "ratio": 1.0}

    assert row_of("own/R1", iterations=10_000) == "table1 R1"
    assert row_of("own/net", iterations=10_000) == "table1 R0"
    assert row_of("table1/B1", **regular) == "table1 R0"
    assert row_of("table1/B1", method_settings=as_b0) == "table1 B0"
    assert row_of("table2/R1", net="lenet", preprocessing=Preprocessing(input_scale=256.0), data="mnist",
                  iterations=10_000) == "table1 R1"  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 32},
        {"learning_rate": 0.02},
        {"rate_policy": "constant()"},
        {"momentum": 0.0},
        {"weight_decay": 0.0},
        {"shuffle": True},
        {"train_images": 1000},
    ],
)
def test_what_only_the_card_tells_counts_too(other):
    assert row_of("table1/B1", card=model_card("table1/B1")) == "table1 B1"
    assert row_of("table1/B1", card=model_card("table1/B1", spec=other)) is None


@pytest.mark.parametrize(
    ("data", "source", "measured_on", "expected"),
    [
        ("cifar10", "cifar10", "cifar10", "table2 B0"),
        ("cifar10", "cifar10", "cifar10-jpeg", "table2 B0"),
        ("cifar10-jpeg", None, "cifar10-jpeg", "table2 B0"),
        ("cifar10-jpeg", None, "cifar10", None),
        ("cifar10-png", None, "cifar10-png", None),
        ("cifar10", "npz:cifar10.npz", "cifar10", None),
    ],
)
def test_a_copy_of_the_images_stands_for_them_only_where_it_is_trained_and_measured_on(
    data, source, measured_on, expected
):
    settings = {"batch_size": 100, "learning_rate": 0.001, "rate_policy": "steps(18000, 19000)", "weight_decay": 0.004}
    card = model_card("table2/B0", spec=settings, source=source, data=data)

    assert row_of("table2/B0", measured_on, card, data=data) == expected
    if source != "npz:cifar10.npz":  # the name alone does not tell it from CIFAR-10
        assert row_of("table2/B0", measured_on, data=data) == expected


@pytest.mark.parametrize("table", [published().table1, published().table2])
def test_the_paper_s_models_are_trained_with_the_defaults_of_their_nets(table):
    definition, spec = net_definition(table.net), TrainSpec(name="R0", net=table.net)
    defaults = spec.settings() | definition.solver._asdict()

    assert table.training.model_dump().items() <= defaults.items()
    assert table.preprocessing == definition.preprocessing


def test_a_figure_belongs_to_its_own_pair_only():
    def row(name):
        return published_row(model_info(name), data_info("mnist" if "table1" in name else "cifar10"))

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
