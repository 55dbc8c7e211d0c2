"""What may stand in one table, in which order, and under which name."""

from __future__ import annotations

from bangbench.report.collect import collect
from bangbench.report.groups import group_records, natural_key


def groups_of(records):
    return group_records(collect(records.root, ())).groups


def names_of(records):
    return [(group.name, [model.name for model in group.models]) for group in groups_of(records)]


def test_rows_follow_the_paper_and_numbers_are_counted_not_spelled(records):
    for name in ("B10", "B2", "other", "R1", "B0", "R0", "Rx2", "B2-long"):
        records.attack(f"table1/{name}", "fgs")

    assert names_of(records) == [
        ("table1", [f"table1/{name}" for name in ("R0", "R1", "B0", "B2", "B10", "B2-long", "Rx2", "other")])
    ]


def test_each_prefix_is_a_group_and_models_without_one_are_named_after_their_data(records):
    records.attack("table10/R0", "fgs")
    records.attack("table2/R0", "fgs")
    records.attack("lenet", "fgs")

    assert names_of(records) == [
        ("models-mnist", ["lenet"]),
        ("table2", ["table2/R0"]),
        ("table10", ["table10/R0"]),
    ]


def test_data_sets_are_never_mixed_in_a_group(records):
    records.attack("table2/R0", "fgs", data="cifar10")
    records.attack("table2/R0", "hc1", data="cifar10-jpeg")
    records.attack("table2/B0", "fgs", data="cifar10-jpeg")

    assert names_of(records) == [
        ("table2-cifar10", ["table2/R0"]),
        ("table2-cifar10-jpeg", ["table2/R0", "table2/B0"]),
    ]
    assert [list(group.models[0].attacks) for group in groups_of(records)] == [["fgs"], ["hc1"]]


def test_a_limited_run_is_another_group_than_the_full_one(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/R0", "hc1", data="mnist:1000")

    assert [name for name, _ in names_of(records)] == ["table1-mnist-1000", "table1-mnist-10000"]


def test_groups_that_would_write_the_same_files_get_different_names(records):
    records.attack("lenet", "fgs")
    records.attack("models-mnist/R0", "fgs")

    names = [name for name, _ in names_of(records)]

    assert len(set(names)) == 2


def test_a_name_becomes_a_file_name(records):
    records.attack("lenet", "fgs", data="my data/set")

    assert [name for name, _ in names_of(records)] == ["models-my-data-set"]


def test_results_of_different_weights_in_one_row_are_named(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/R0", "hc1", weights_sha256="cd" * 32)
    records.attack("table1/B1", "fgs")

    assert group_records(collect(records.root, ())).problems == (
        "table1/R0: its results (fgs, hc1) belong to different weights; run the older again",
    )


def test_names_sort_naturally():
    assert sorted(["b10", "b9", "a²", "10", "9", ""], key=natural_key) == ["", "9", "10", "a²", "b9", "b10"]
