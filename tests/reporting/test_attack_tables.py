"""What attacks did: the bench's own columns, masked against unmasked, and Gaussian noise."""

from __future__ import annotations

import pytest

from bangbench.reporting.attack_tables import bench_table, masking_sentences, masking_table
from bangbench.reporting.noise import noise_table
from bangbench.store.records import LinfSummary, Moments, NoiseRecord, read_record, write_record


def printed(table, header):
    place = [column.header for column in table.columns].index(header)
    return [cells[place] for _, cells in table.printed()]


def test_attacks_stand_in_their_order_with_others_by_name(records):
    for attack in ("zoo", "hc1", "fgs-unmasked", "fgs", "apgd"):
        records.attack("t/R0", attack)
    table = records.table(bench_table)

    assert table.frame["attack"].tolist() == ["fgs", "fgs-unmasked", "hc1", "apgd", "zoo"]
    assert printed(table, "Rate (%)")[0] == "90.33 [89.73, 90.89]"
    assert printed(table, "ECC failures (definition / paper)")[0] == "3 / 0"
    assert any("Not audited: R0" in note and "bangbench audit t/R0" in note for note in table.notes)


def test_a_masked_attack_whose_twin_was_not_run_has_the_audits_numbers_beneath(records):
    records.attack("t/B1", "fgs")
    records.audit("t/B1")
    table = records.table(bench_table)

    assert table.frame["source"].tolist() == ["measured", "audit"]
    assert (table.frame["attack"][1], table.frame["rate_percent"][1]) == ("fgs-unmasked", 100.0)
    assert (table.frame["images"][1], table.frame["correct"][1]) == (1000, 990)
    assert printed(table, "Audit") == ["masked", "sound"]


def test_an_attack_on_no_image_has_no_median(records):
    nothing = Moments(mean=None, std=None)
    records.attack(
        "t/R0", "fgs", correct=0, flipped=0, rate=None, rate_interval=None, blank=None, accuracy=0.0,
        linf=LinfSummary(mean=None, std=None, median_censored=None), l2=nothing, pass_paper=nothing, unaligned=nothing,
        **{"pass": nothing},
    )  # fmt: skip

    assert records.table(bench_table).frame["linf_median_censored_grey_levels"].tolist() == [None]


def test_flips_that_were_not_confirmed_are_named(records):
    records.attack("t/R0", "fgs", unverified=3)

    assert any("R0 fgs 3" in note for note in records.table(bench_table).notes)


def test_masked_stands_against_unmasked_with_what_it_means(records):
    for attack in ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked"):
        records.attack("t/B1", attack)
    table = records.table(masking_table)

    assert printed(table, "FGS rate (%)") == ["1.68"]
    assert printed(table, "FGS-unmasked rate (%)") == ["100.00"]
    assert masking_sentences(records.experiment().models) == (
        "FGS against fgs-unmasked (B1 1.68 against 100.00 %, 98.30 % of gradients blank): what fgs-unmasked flips "
        "beyond FGS was hidden by vanished float32 gradients, not resisted.",
        "HC1 against hc1-unmasked (B1 95.20 against 99.80 %, median L∞ 204.25 against 115.00): where the true logit is "
        "negative, HC1's weight pushes towards the true class; that sign makes the gap between the two, not "
        "robustness.",
    )


def test_twins_that_do_alike_are_said_to_and_what_withstands_both_is_counted(records):
    records.attack("t/R0", "zoo", rate=60.0)
    records.attack("t/R0", "zoo-unmasked", rate=70.0)
    records.attack("t/R0", "fgs", rate=98.0)
    records.attack("t/R0", "fgs-unmasked")

    alike, other = masking_sentences(records.experiment().models)

    assert alike == "FGS flips at most 5 points less than fgs-unmasked: little separates the two."
    assert "30.00 % of R0's images withstand even zoo-unmasked" in other


def test_without_an_unmasked_attack_there_is_nothing_to_compare(records):
    records.attack("t/R0", "fgs")

    assert records.table(masking_table) is None


def test_noise_has_a_row_per_model_and_sigma_and_the_difference_from_the_first(records):
    path = records.noise("t/R0", "t/B1", stages=(500, 1000), sigmas=(10.0, 50.0))
    record = read_record(path, NoiseRecord)
    models = (*record.models, record.models[1].model_copy(update={"name": "t/B2"}))
    percent = (((0.0, 0.0), (1.0, 20.0)), ((0.0, 0.0), (0.5, 12.0)), ((0.0, 0.0), (2.0, 30.0)))
    summary = record.summary.model_copy(update={"flipped_percent": percent, "draws": 50})
    write_record(path, record.model_copy(update={"models": models, "summary": summary}))
    table = records.table(noise_table)

    assert table.frame["id"].tolist() == ["R0", "B1", "B2"] * 2
    assert table.frame["flipped_percent"].tolist() == [1.0, 0.5, 2.0, 20.0, 12.0, 30.0]
    assert table.frame["difference_points"].tolist() == [None, 0.5, -1.0, None, 8.0, -10.0]
    assert "95 % interval" not in [column.header for column in table.columns]
    assert any("2 stages, the last at iteration 1,000; 1,000 images, 50 draws each (the paper: 1,000)" in note
               for note in table.notes)  # fmt: skip


@pytest.mark.parametrize("stops", [True, False])
def test_noise_that_stopped_at_a_precision_shows_its_intervals_and_draws(records, stops):
    extra = {
        "precision": 1.0, "draws_used": (((7,),), ((9,),)), "flipped_interval": ((((1.0, 2.0),),), (((3.0, 4.0),),)),
    }  # fmt: skip
    percent = (((1.5,),), ((3.5,),))
    records.noise("t/R0", "t/B1", stages=(500,), sigmas=(10.0,), flipped_percent=percent, **(extra if stops else {}))
    table = records.table(noise_table)

    assert table.frame["draws_per_image"].tolist() == ([7, 9] if stops else [1000, 1000])
    if stops:
        assert printed(table, "95 % interval") == ["[1.00, 2.00]", "[3.00, 4.00]"]
        assert any("Clopper and Pearson" in note for note in table.notes)


def test_a_reduced_arithmetic_and_few_images_are_told(records):
    records.noise(
        "t/R0", "t/B1", stages=(500,), sigmas=(10.0,), arithmetic="bfloat16", compared=2400, differing=3,
        images_per_class=(90, 100), spec={"clip": False},
    )  # fmt: skip
    notes = " ".join(records.table(noise_table).notes)

    assert "predictions in bfloat16; of 2,400 copies that were predicted in float32 as well, 3 (0.125 %)" in notes
    assert "90 to 100 images per class (the paper: 100)" in notes
    assert "neither rounded nor clipped" in notes
