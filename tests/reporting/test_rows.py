"""From records to the rows of each table."""

from __future__ import annotations

import math

import pytest

from bangbench.reporting.bench_rows import bench_table
from bangbench.reporting.claim_rows import claims
from bangbench.reporting.collect import collect
from bangbench.reporting.figures.noise import evolution_of
from bangbench.reporting.groups import group_records
from bangbench.reporting.masking_rows import masking_table
from bangbench.reporting.noise_rows import noise_table
from bangbench.reporting.rows import paper_table
from bangbench.reporting.table import cell_text
from bangbench.store.records import LinfSummary, Moments


def only_group(records):
    (group,) = group_records(collect(records.root, ())).groups
    return group


def said(table):
    """Return the notes but for the one that tells how to audit."""
    return tuple(note for note in table.notes if not note.startswith("Not audited: "))


def printed(table, row):
    """Return a row as a list of what is printed."""
    pairs = zip(table.columns, table.rows[row].cells, strict=True)
    return [cell_text(column, cell) for column, cell in pairs if column.show is not None]


def column(table, field):
    """Return the values that go under one CSV header."""
    place, part = next(
        (index, item.fields.index(field)) for index, item in enumerate(table.columns) if field in item.fields
    )
    return [row.cells[place][part] for row in table.rows]


def test_every_cell_has_as_many_values_as_its_column_has_fields(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/B1", "hc1-unmasked")
    records.noise("table1/R0", "table1/B1")
    group = only_group(records)

    for table in (paper_table(group), bench_table(group), masking_table(group), noise_table(group)):
        for row in table.rows:
            assert len(row.cells) == len(table.columns)
            for item, cell in zip(table.columns, row.cells, strict=True):
                assert len(cell) == (len(item.fields) or 1)


def test_the_published_row_stands_directly_under_the_measured_one(records):
    for name in ("B1", "R0", "extra"):
        records.attack(f"table1/{name}", "fgs")

    table = paper_table(only_group(records))

    assert [(row.source, printed(table, index)[0]) for index, row in enumerate(table.rows)] == [
        ("measured", "R0"),
        ("published", "published"),
        ("measured", "B1"),
        ("published", "published"),
        ("measured", "extra"),
    ]
    assert column(table, "accuracy_percent") == [99.16, 99.16, 99.22, 99.22, 99.16]
    assert column(table, "model") == ["table1/R0", "table1/R0", "table1/B1", "table1/B1", "table1/extra"]


def test_the_paper_table_shows_pass_paper_and_says_whose_definition_that_is(records):
    records.attack("table1/R0", "fgs")

    table = paper_table(only_group(records))

    assert column(table, "fgs_pass_paper_mean") == [0.40712, 0.4072]
    note = " ".join(table.notes)
    assert "pass_paper, which was matched empirically to the paper's Table 1 and is not the authors' code" in note
    assert "PASS by its written definition stands in table1-bench" in note


def test_a_model_that_only_bears_the_name_of_a_row_has_no_published_one(records):
    records.attack("table1/B1", "fgs", method="pgd-at", method_settings={"budget": 0.3})
    records.attack("table1/R0", "fgs")
    group = only_group(records)

    assert [row.source for row in paper_table(group).rows] == ["measured", "published", "measured"]
    assert {claim.model for claim in claims(group)} == {"R0"}


def test_noise_on_a_model_that_only_bears_the_name_of_a_row_has_no_published_ends(records):
    records.noise("table1/R0", "table1/B1", bang_model={"method": "pgd-at", "method_settings": {"budget": 0.3}})
    group = only_group(records)

    assert not any("figure 3" in note for note in noise_table(group).notes)
    assert claims(group) == ()
    assert evolution_of(group.noise[0]).published is None


def test_what_the_cards_tell_of_a_training_counts_for_a_pair_that_met_noise_only(records):
    records.noise("table1/R0", "table1/B1", sigmas=(100.0,))
    records.card("table1/R0")
    records.card("table1/B1")
    assert any("figure 3" in note for note in noise_table(only_group(records)).notes)

    records.card("table1/B1", spec={"batch_size": 32})
    assert not any("figure 3" in note for note in noise_table(only_group(records)).notes)


def test_models_of_other_experiments_have_no_published_row(records):
    records.attack("demo/R0", "fgs", data="digits")

    table = paper_table(only_group(records))

    assert len(table.rows) == 1
    assert not any("Published" in note for note in table.notes)


def test_a_lossy_copy_of_cifar10_is_never_labelled_with_the_published_name_alone(records):
    records.attack("table2/R0", "fgs", data="cifar10-jpeg")

    table = paper_table(only_group(records))

    assert table.title == "table2: cifar10-quick on cifar10-jpeg, 10,000 test images"
    assert printed(table, 1)[0] == "published (CIFAR-10)"
    assert column(table, "data") == ["cifar10-jpeg", "cifar10"]
    assert any("published (CIFAR-10) were measured on cifar10-jpeg" in note for note in table.notes)


def test_the_authors_own_weights_have_their_row_whatever_they_are_called(records):
    records.attack("lenet_bang", "fgs", published="table1/B1")

    table = paper_table(only_group(records))

    assert column(table, "fgs_rate_percent")[1] == 1.68
    assert column(table, "id") == ["lenet_bang", "lenet_bang"]
    assert "lenet_bang stands for Table 1 B1." in table.notes


def test_a_missing_attack_is_a_dash(records):
    records.attack("table1/R0", "hc1-unmasked")

    table = paper_table(only_group(records))

    assert printed(table, 0) == ["R0", "–", "–", "99.16", *["–"] * 6]  # noqa: RUF001  # en dashes
    assert column(table, "fgs_rate_percent") == [None, 90.33]


def test_an_unfinished_attack_is_named_under_the_tables_of_its_group_only(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/R0", "hc1", status="started")
    records.attack("table1/R0", "hc1-unmasked", status="started", data="mnist:1000")

    table = paper_table(only_group(records))

    assert "Started but not finished, so not in the tables: R0 hc1." in table.notes


def test_the_bench_table_has_every_attack_in_order_strangers_last(records):
    for attack in ("zoo", "hc1-unmasked", "fgs", "apgd", "hc1", "fgs-unmasked"):
        records.attack("table1/B1", attack)

    table = bench_table(only_group(records))

    assert column(table, "attack") == ["fgs", "fgs-unmasked", "hc1", "hc1-unmasked", "apgd", "zoo"]
    assert printed(table, 0) == [
        "B1", "fgs", "10,000", "9,922", "167", "1.68 [1.45, 1.95]", "98.30", "5.47 ± 2.77", "∞",
        "0.7666 ± 0.1328", "0.7652 ± 0.1349", "0.7641 ± 0.1357", "3 / 0",
    ]  # fmt: skip


def test_a_median_of_failures_is_infinite_and_no_median_at_all_is_missing(records):
    nothing = Moments(mean=None, std=None)
    no_linf = LinfSummary(mean=None, std=None, median_censored=None)
    records.attack("table1/B1", "fgs")
    records.attack(
        "table1/B1", "hc1", correct=0, flipped=0, accuracy=0.0, rate=None, rate_interval=None, blank=None,
        linf=no_linf, pass_paper=nothing, unaligned=nothing, ecc_failures={},
    )  # fmt: skip

    table = bench_table(only_group(records))

    assert column(table, "linf_median_censored_grey_levels") == [math.inf, None]
    dash = "–"  # noqa: RUF001  # an en dash
    assert printed(table, 1)[2:9] == ["10,000", "0", "0", dash, dash, dash, dash]
    assert printed(table, 1)[-1] == f"{dash} / {dash}"


def test_flips_that_were_not_confirmed_are_reported(records):
    records.attack("table1/B1", "fgs", unverified=2)

    assert any(
        "predicting the stored image again: B1 fgs 2." in note for note in bench_table(only_group(records)).notes
    )


def test_there_is_no_masking_table_without_an_unmasked_attack(records):
    records.attack("table1/R0", "fgs")

    assert masking_table(only_group(records)) is None


def test_a_gap_in_fgs_rate_is_called_vanished_gradients(records):
    for attack in ("fgs", "fgs-unmasked"):
        records.attack("table1/B1", attack)

    table = masking_table(only_group(records))

    assert column(table, "fgs_rate_percent") + column(table, "fgs_unmasked_rate_percent") == [1.683128, 100.0]
    assert not any("HC1" in column.header for column in table.columns)
    assert said(table)[1:] == (
        "FGS against fgs-unmasked (B1 1.68 against 100.00 %, 98.30 % of gradients blank): what fgs-unmasked flips "
        "beyond FGS was hidden by vanished float32 gradients, not resisted.",
    )


def test_images_that_withstand_the_unmasked_attack_are_not_blamed_on_vanished_gradients(records):
    records.attack("table1/B1", "fgs", rate=30.0)
    records.attack("table1/B1", "fgs-unmasked", rate=40.0)
    records.attack("table1/R0", "fgs", rate=92.92)
    records.attack("table1/R0", "fgs-unmasked", rate=99.92)

    (sentence,) = said(masking_table(only_group(records)))[1:]

    assert "R0 92.92 against 99.92 %" in sentence
    assert sentence.endswith(", not resisted; 60.00 % of B1's images withstand even fgs-unmasked.")


def test_a_pair_has_its_columns_where_one_of_the_two_was_run(records):
    records.attack("table1/R0", "fgs-unmasked")
    records.attack("table1/R0", "hc1")

    table = masking_table(only_group(records))

    assert [column.header for column in table.columns if column.header.endswith("rate (%)")] == [
        "FGS rate (%)", "FGS-unmasked rate (%)", "HC1 rate (%)", "HC1-unmasked rate (%)",
    ]  # fmt: skip
    assert column(table, "fgs_rate_percent") == column(table, "hc1_unmasked_rate_percent") == [None]
    assert len(said(table)) == 1


def test_attacks_of_others_are_set_beside_their_twins_under_their_own_names(records):
    records.attack("table1/R0", "rfgsm", rate=60.0)
    records.attack("table1/R0", "rfgsm-unmasked", rate=90.0)
    records.attack("table1/R0", "pgd-unmasked", rate=80.0)
    records.attack("table1/R0", "plain", rate=70.0)

    table = masking_table(only_group(records))

    assert [column.header for column in table.columns if column.header.endswith("rate (%)")] == [
        "pgd rate (%)", "pgd-unmasked rate (%)", "rfgsm rate (%)", "rfgsm-unmasked rate (%)",
    ]  # fmt: skip
    assert column(table, "pgd_rate_percent") + column(table, "pgd_unmasked_rate_percent") == [None, 80.0]
    assert column(table, "rfgsm_unmasked_rate_percent") == [90.0]
    assert said(table)[1:] == (
        "rfgsm against rfgsm-unmasked (R0 60.00 against 90.00 %): what rfgsm-unmasked flips beyond rfgsm is not "
        "resisted; 10.00 % of R0's images withstand even rfgsm-unmasked.",
    )


@pytest.mark.parametrize(("rate", "called"), [(95.1, False), (94.9, True)])
def test_five_points_decide_what_is_said_of_fgs(records, rate, called):
    records.attack("table1/B1", "fgs", rate=rate)
    records.attack("table1/B1", "fgs-unmasked")

    sentence = said(masking_table(only_group(records)))[1]

    assert ("was hidden by vanished float32 gradients" in sentence) is called
    assert ("vanished gradients hold its rates down by at most 5 points" in sentence) is not called


def test_a_larger_median_of_hc1_is_called_the_sign_of_its_weight(records):
    for attack in ("hc1", "hc1-unmasked"):
        records.attack("table1/B1", attack)
        records.attack("table1/R0", attack)

    sentence = said(masking_table(only_group(records)))[-1]

    assert sentence.startswith("HC1 against hc1-unmasked (B1 95.20 against 99.80 %, median L∞ 204.25 against 115.00)")
    assert sentence.endswith("; that sign makes the gap between the two, not robustness.")
    assert "R0" not in sentence


def test_hc1_as_strong_as_its_twin_needs_no_excuse(records):
    for attack in ("hc1", "hc1-unmasked"):
        records.attack("table1/R1", attack, rate=99.0)

    assert "the sign of its weight matters little" in said(masking_table(only_group(records)))[-1]


def test_the_noise_table_has_the_last_stage_and_the_published_end_of_figure_3(records):
    records.noise(
        "table1/R0", "table1/B1", stages=(500, 1000), sigmas=(50.0, 100.0), draws=50, images=990,
        images_per_class=(100,) * 9 + (90,),
        flipped_percent=(((9.0, 8.0), (5.0, 25.0)), ((7.0, 6.0), (1.0, 5.5))),
    )  # fmt: skip

    table = noise_table(only_group(records))

    assert [printed(table, row) for row in (0, 1)] == [
        ["R0 vs B1", "990", "50", "50", "5.00", "1.00", "4.00"],
        ["R0 vs B1", "990", "50", "100", "25.00", "5.50", "19.50"],
    ]
    assert column(table, "iteration") == [1000, 1000]
    assert said(table)[1:] == (
        "R0 vs B1: 2 stages, the last at iteration 1,000; 990 images, 50 draws each (the paper: 1,000).",
        "R0 vs B1: 90 to 100 images per class (the paper: 100).",
        "R0 vs B1, published, figure 3 at σ 100, last stage: regular about 20 %, BANG about 3 %.",  # noqa: RUF001
    )


def test_final_models_without_iterations_have_no_iteration(records):
    records.noise("own/R0", "own/B1", stages=(0,), sigmas=(50.0,))

    table = noise_table(only_group(records))

    assert column(table, "iteration") == [None]
    assert "R0 vs B1: the final models; 1,000 images, 1,000 draws each." in table.notes


def test_models_of_two_folders_keep_their_folders_in_the_name_of_a_pair(records):
    records.noise("table1/R0", "demo/R0")

    assert column(noise_table(only_group(records)), "bang")[0] == "demo/R0"
    assert printed(noise_table(only_group(records)), 0)[0] == "table1/R0 vs demo/R0"


def test_noise_on_other_data_than_the_paper_s_says_so(records):
    records.noise("table2/R0", "table2/B0", data="cifar10-jpeg", spec={"clip": False})

    notes = noise_table(only_group(records)).notes

    assert any(note.startswith("R0 vs B0, published (CIFAR-10), figure 5") for note in notes)
    assert any(note.endswith("regular 46 %, BANG 39.1 %.") for note in notes)
    assert "R0 vs B0: noisy copies neither rounded nor clipped to 0 to 255." in notes


def test_a_single_stage_and_another_pair_than_the_paper_s_are_tabulated(records):
    records.noise("demo/R0", "demo/B1", data="digits", stages=(300,), sigmas=(10.0,), images_per_class=(5,) * 10)

    table = noise_table(only_group(records))

    assert len(table.rows) == 1
    assert said(table)[1:] == (
        "R0 vs B1: one stage, at iteration 300; 1,000 images, 1,000 draws each.",
        "R0 vs B1: 5 images per class (the paper: 100).",
    )


def test_there_is_no_noise_table_without_noise(records):
    records.attack("table1/R0", "fgs")

    assert noise_table(only_group(records)) is None
