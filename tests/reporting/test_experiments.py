"""What may stand in one table, in which order, and under which name."""

from __future__ import annotations

from bangbench.reporting.collect import collect
from bangbench.reporting.experiments import group_records, natural_key
from bangbench.reporting.table import left_out_notes


def groups_of(records):
    return records.experiments()


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


def test_of_one_model_the_attacks_on_most_images_count_and_the_others_are_named(records):
    records.attack("table1/R0", "fgs", data="mnist:40")
    records.attack("table1/R0", "hc1", data="mnist:20")
    records.attack("table1/again", "fgs", data="mnist:20")
    records.attack("table1/B1", "fgs", data="mnist:20", weights_sha256="cd" * 32)
    records.audit("table1/R0", data="mnist:20")
    records.audit("table1/again", data="mnist:40")

    assert names_of(records) == [
        ("table1-mnist-20", ["table1/B1"]),
        ("table1-mnist-40", ["table1/R0", "table1/again"]),
    ]
    _, largest = groups_of(records)
    assert list(largest.models[0].attacks) == ["fgs"]
    assert [(each.name, each.record.attack) for each in largest.fewer] == [
        ("table1/R0", "hc1"),
        ("table1/again", "fgs"),
    ]
    assert left_out_notes(largest) == (
        "Not in the tables, since the same model was attacked on more images: R0 hc1 (20), again fgs (20).",
    )


def test_a_model_trained_again_is_another_model_however_few_images_it_was_attacked_on(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/R0", "hc1", data="mnist:1000", weights_sha256="cd" * 32)

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

    assert group_records(collect(records.root, ()))[1] == (
        "table1/R0: its results (fgs, hc1) belong to different weights; run the older again",
    )


def test_names_sort_naturally():
    assert sorted(["b10", "b9", "a²", "10", "9", ""], key=natural_key) == ["", "9", "10", "a²", "b9", "b10"]


def test_an_audit_of_fewer_images_belongs_to_its_model(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/B1", "fgs")
    records.audit("table1/B1", data="mnist:1000")

    (group,) = groups_of(records)

    assert [model.audit is None for model in group.models] == [True, False]
    assert (group.name, group.data.images) == ("table1", 10000)


def test_an_audit_holds_for_every_choice_of_images_from_its_data_set_and_for_no_other(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/B1", "hc1", data="mnist:500", weights_sha256="cd" * 32)
    records.attack("table2/R0", "fgs", data="cifar10")
    records.audit("table1/R0")
    records.audit("table1/B1", weights_sha256="cd" * 32)
    records.audit("table2/R0", data="cifar10-jpeg:1000")

    found = {group.name: [model.audit is not None for model in group.models] for group in groups_of(records)}

    assert found == {
        "table1-mnist-500": [True],
        "table1-mnist-10000": [True],
        "table2-cifar10": [False],
        "table2-cifar10-jpeg": [True],
    }


def test_a_model_with_an_audit_alone_stands_beside_the_others_of_its_folder_but_in_no_table_of_attacks(records):
    records.attack("table1/R0", "fgs")
    records.audit("table1/B1")
    records.audit("alone/B1")

    assert names_of(records) == [("alone", ["alone/B1"]), ("table1", ["table1/R0", "table1/B1"])]
    (_, group) = groups_of(records)
    assert [model.name for model in group.attacked] == ["table1/R0"]
    assert group.models[1].accuracy == 99.0


def test_an_audit_of_other_weights_is_named_and_left_out(records):
    records.attack("table1/B1", "fgs")
    path = records.audit("table1/B1", weights_sha256="cd" * 32)

    experiments, problems = group_records(collect(records.root, ()))

    assert experiments[0].models[0].audit is None
    assert problems == (
        f"{path}: the audit is of other weights of table1/B1 than its results, so it is left out; audit it again: "
        "bangbench audit table1/B1",
    )


def test_noise_stands_beside_the_attacks_on_its_models_however_few_their_images_were(records):
    records.attack("table1/R0", "fgs", data="mnist:40")
    records.attack("table1/B2", "fgs", data="mnist:500", weights_sha256="cd" * 32)
    records.noise("table1/R0", "table1/B1")
    records.noise("table1/R0", "table1/B3", data="cifar10")

    found = {group.name: (group.data.images, len(group.noise)) for group in groups_of(records)}

    assert found == {"table1-mnist-40": (40, 1), "table1-mnist-500": (500, 0), "table1-cifar10": (10000, 1)}


def test_a_model_known_from_noise_alone_has_its_audit_too(records):
    records.noise("table1/R0", "demo/B1")
    records.audit("table1/R0")
    records.audit("demo/B1")

    found = {
        group.name: (
            sorted(model.name for model in group.everyone if model.audit is not None),
            [model.name for model in group.models],
        )
        for group in groups_of(records)
    }

    assert found == {
        "demo": (["demo/B1"], ["demo/B1"]),
        "table1": (["demo/B1", "table1/R0"], ["table1/R0"]),
    }


def test_an_unfinished_audit_is_mentioned_where_its_model_stands(records):
    records.attack("table1/R0", "fgs")
    records.audit("table1/R0", status="started")

    assert [(item.name, item.run) for item in groups_of(records)[0].unfinished] == [("table1/R0", "audit")]
