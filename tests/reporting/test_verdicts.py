"""The verdict of the audit beside every rate, and never a masked rate alone."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.reporting.bench_rows import bench_table
from bangbench.reporting.claim_rows import claim_table
from bangbench.reporting.collect import collect
from bangbench.reporting.comparison import compare, paragraph
from bangbench.reporting.groups import group_records
from bangbench.reporting.masking_rows import masking_table
from bangbench.reporting.noise_rows import noise_table
from bangbench.reporting.pair_rows import pair_table
from bangbench.reporting.per_image import AttackRows
from bangbench.reporting.robustness_rows import robustness_table
from bangbench.reporting.rows import paper_table
from bangbench.reporting.seed_rows import seed_table
from bangbench.reporting.table import cell_text
from bangbench.reporting.verdicts import budget_text, verdict_on, verdicts_in_words, worst_of
from bangbench.store.audits import ClaimVerdict

IMAGES = 60


def only_group(records):
    (group,) = group_records(collect(records.root, ())).groups
    return group


def rows_of(flipped):
    """Return rows in which all images are correct and the first `flipped` are flipped."""
    flags = np.arange(IMAGES) < flipped
    linf, unknown = np.where(flags, 10.0, np.nan), np.full(IMAGES, np.nan)
    return AttackRows(np.arange(IMAGES), np.ones(IMAGES, bool), flags, linf, unknown, unknown, unknown)


def with_rows(group, flipped):
    """Return the group with single images: so many flipped by each attack, by name of the model."""
    models = []
    for model in group.models:
        found = {name: each._replace(rows=rows_of(flipped[model.name])) for name, each in model.attacks.items()}
        models.append(model._replace(attacks=found))
    return group._replace(models=tuple(models))


def printed(table):
    """Return every row as what is printed of it, by header."""
    shown = [(item, place) for place, item in enumerate(table.columns) if item.show is not None]
    return [{item.header: cell_text(item, row.cells[place]) for item, place in shown} for row in table.rows]


def column(table, field):
    """Return the values that go under one CSV header."""
    place, part = next(
        (index, item.fields.index(field)) for index, item in enumerate(table.columns) if field in item.fields
    )
    return [row.cells[place][part] for row in table.rows]


@pytest.fixture
def audited(records):
    """Two audited models under all attacks of the bench, a third without an audit."""
    for name in ("table1/R0", "table1/R1", "table1/B1"):
        for attack in ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked"):
            records.attack(name, attack)
    for name in ("table1/R0", "table1/B1"):
        records.audit(name)
    return records


def test_the_paper_table_has_the_verdict_in_each_cell_with_a_rate(audited):
    table = paper_table(only_group(audited))
    rows = printed(table)

    assert [row["FGS rate (%)"] for row in rows] == [
        "90.33 [sound]", "90.33", "90.33 [no audit]", "91.41", "1.68 [masked]", "100.00 [sound]", "1.68",
    ]  # fmt: skip
    assert [row["ID"] for row in rows[4:]] == ["B1", "unmasked", "published"]
    assert rows[5]["HC1 rate (%)"] == "99.80 [sound]"
    assert rows[5]["FGS L∞"] == "40.38 ± 15.96"
    assert column(table, "source") == [
        "measured", "published", "measured", "published", "measured", "unmasked", "published",
    ]  # fmt: skip
    assert column(table, "fgs_audit_verdict") == ["sound", None, "not audited", None, "masked", "sound", None]
    assert column(table, "fgs_rate_percent")[4] == 1.683128
    assert column(table, "predictions_audit_verdict")[:3] == ["sound", None, "not audited"]


def test_an_accuracy_is_marked_only_where_it_is_in_doubt(records):
    records.attack("table1/R0", "fgs")
    records.audit("table1/R0", claims=(ClaimVerdict(claim="predictions", verdict="suspect", rate=99.0),))

    row, published = printed(paper_table(only_group(records)))

    assert (row["Accuracy (%)"], published["Accuracy (%)"]) == ("99.16 [suspect]", "99.16")


def test_an_unmasked_rate_that_was_not_measured_is_the_audits(records):
    records.attack("table1/B1", "fgs")
    records.attack("table1/B1", "hc1-unmasked")
    records.audit("table1/B1")
    group = only_group(records)

    unmasked, bench, masking = (
        printed(paper_table(group))[1],
        printed(bench_table(group)),
        printed(masking_table(group)),
    )

    assert (unmasked["ID"], unmasked["FGS rate (%)"], unmasked["FGS PASS"]) == ("unmasked", "100.00 [sound]", "–")  # noqa: RUF001
    assert [(row["Attack"], row["Rate (%)"], row["Audit"]) for row in bench] == [
        ("fgs", "1.68 [1.45, 1.95]", "masked"),
        ("fgs-unmasked", "100.00", "sound"),
        ("hc1-unmasked", "99.80 [99.69, 99.87]", "sound"),
    ]
    assert bench[1]["Images"] == "1,000"
    assert column(bench_table(group), "source") == ["measured", "audit", "measured"]
    assert (masking[1]["ID"], masking[1]["FGS-unmasked rate (%)"]) == ("in the audit", "100.00 [sound]")
    assert masking[1]["HC1-unmasked rate (%)"] == "–"  # noqa: RUF001  # measured, so it stands in the row above


def test_a_masked_rate_without_a_twin_has_the_worst_case_in_a_note(records):
    records.attack("t/B1", "zoo")
    records.audit("t/B1", claims=(ClaimVerdict(claim="zoo", verdict="masked", rate=3.0),))

    table = bench_table(only_group(records))

    assert [row["Audit"] for row in printed(table)] == ["masked"]
    (note,) = [note for note in table.notes if note.startswith("Masked")]
    assert note.startswith("Masked, with the worst case over all attacks of the audit: B1 (zoo): 99.49 % [")
    assert note.endswith("] flipped at L∞ 76 (0.3).")


def test_an_attack_that_the_audit_does_not_know_is_not_audited(records):
    records.attack("t/R0", "zoo")
    records.audit("t/R0")

    table = bench_table(only_group(records))

    assert column(table, "audit_verdict") == ["not audited"]
    assert "Not looked into by the audit: R0 zoo." in table.notes


def test_masking_robustness_pairs_and_seeds_have_the_verdict(audited):
    group = only_group(audited)
    counted = with_rows(group, {"table1/R0": 50, "table1/R1": 50, "table1/B1": 3})

    masking, pairs = printed(masking_table(group)), printed(pair_table(counted))
    robust = [(row["ID"], row["Attack"], row["Audit"]) for row in printed(robustness_table(counted))]

    assert masking[2]["FGS rate (%)"] == "1.68 [masked]"
    assert masking[2]["FGS-unmasked rate (%)"] == "100.00 [sound]"
    assert [(row["First rate (%)"], row["Second rate (%)"]) for row in pairs if row["Attack"] == "fgs"] == [
        ("83.33 [sound]", "83.33 [no audit]"),
        ("83.33 [sound]", "5.00 [masked]"),
        ("83.33 [no audit]", "5.00 [masked]"),
    ]
    assert robust[-5:] == [
        ("B1", "fgs", "masked"),
        ("B1", "fgs-unmasked", "sound"),
        ("B1", "hc1", "masked"),
        ("B1", "hc1-unmasked", "sound"),
        ("B1", "worst case", "sound"),
    ]


def test_a_worst_case_over_masked_attacks_alone_is_masked(records):
    records.attack("table1/B1", "fgs")
    records.audit("table1/B1")

    table = robustness_table(with_rows(only_group(records), {"table1/B1": 3}))

    assert [row["Audit"] for row in printed(table)] == ["masked", "masked"]


def test_seeds_name_the_verdict_once_where_it_is_the_same(records):
    for seed, name in enumerate(("t/B0", "t/B1", "t/B2")):
        for attack in ("fgs", "hc1"):
            records.attack(name, attack, seed=seed, weights_sha256=f"{seed:02x}" * 32)
        records.audit(name, weights_sha256=f"{seed:02x}" * 32)
        records.card(name, seed=seed, weights_sha256=f"{seed:02x}" * 32)
    claims = (
        ClaimVerdict(claim="fgs", verdict="masked", rate=1.0),
        ClaimVerdict(claim="hc1", verdict="sound", rate=1.0),
    )
    records.audit("t/B2", weights_sha256="02" * 32, claims=claims)

    table = seed_table(only_group(records))

    assert column(table, "audit_verdict") == ["masked", "B0 masked, B1 masked, B2 sound"]


def test_claims_have_the_verdict_and_the_unmasked_number_under_a_masked_one(audited):
    table = claim_table(only_group(audited))
    rows = [row for row in printed(table) if row["Model"] == "B1"]

    assert [
        (row["Number"], row["Ours"], row["Audit"], row["Verdict"]) for row in rows if "PASS" not in row["Number"]
    ] == [
        ("accuracy", "99.22", "sound", "agrees"),
        ("FGS rate", "1.68", "masked", "agrees"),
        ("FGS-unmasked rate", "100.00", "sound", "not published"),
        ("FGS L∞", "5.47", "masked", "agrees"),
        ("FGS-unmasked L∞", "40.38", "sound", "not published"),
        ("HC1 rate", "95.20", "masked", "differs"),
        ("HC1-unmasked rate", "99.80", "sound", "not published"),
        ("HC1 L∞", "200.00", "masked", "differs"),
        ("HC1-unmasked L∞", "121.40", "sound", "not published"),
    ]
    assert table.notes[0].startswith("Of 21 published numbers"), "unmasked numbers are not counted"


def test_a_number_that_was_not_measured_has_no_verdict(records):
    records.attack("table1/R0", "fgs")
    records.audit("table1/R0")

    rows = printed(claim_table(only_group(records)))

    assert {row["Audit"] for row in rows if row["Verdict"] == "not measured"} == {"–"}  # noqa: RUF001


def test_noise_is_judged_by_the_predictions(records):
    records.noise("table1/R0", "table1/B1", stages=(500,), sigmas=(100.0,))
    records.audit("table1/B1", claims=(ClaimVerdict(claim="predictions", verdict="masked", rate=99.0),))

    table = noise_table(only_group(records))

    assert printed(table)[0]["Regular flipped (%)"] == "20.25 [no audit]"
    assert printed(table)[0]["BANG flipped (%)"].endswith("[masked]")
    assert column(table, "bang_audit_verdict") == ["masked"]
    assert any(note.startswith("Not audited: R0;") for note in table.notes)
    assert any(note.startswith("Masked, with") and "B1 (predictions)" in note for note in table.notes)


def test_without_any_audit_tables_look_as_ever_and_say_how_to_audit(records):
    for name in ("table1/R0", "table1/B1"):
        records.attack(name, "fgs")
    table = paper_table(only_group(records))

    assert printed(table)[0]["FGS rate (%)"] == "90.33"
    assert column(table, "fgs_audit_verdict") == ["not audited", None, "not audited", None]
    assert "Audit" not in printed(bench_table(only_group(records)))[0]
    said = "Not audited: R0, B1; a low rate may be robustness or a gradient that is gone. To tell: "
    assert f"{said}bangbench audit table1/R0" in table.notes


def test_the_command_names_the_regular_model_to_audit_against(audited):
    audited.attack("table1/R2", "fgs", method="regular", method_settings={})
    (note,) = [note for note in paper_table(only_group(audited)).notes if note.startswith("Not audited")]

    assert note.startswith("Not audited: R1, R2;")
    assert note.endswith("bangbench audit table1/R1 --against table1/R0")


def test_two_models_are_compared_with_their_verdicts(audited):
    group = with_rows(only_group(audited), {"table1/R0": 50, "table1/R1": 50, "table1/B1": 3})
    regular, other, bang = group.models

    text = paragraph(compare(regular, bang))

    assert "The audit calls R0 sound; its worst case: 99.49 %" in text
    assert "The audit calls B1 masked (fgs-masked, hot-cold-sign); its worst case: 99.49 %" in text
    assert "fgs flips 83.33 % of them for R0 (sound) and 5.00 % for B1 (masked): R0 is flipped more often" in text
    assert "; what is masked is no robustness of B1." in text
    assert "R1 is not audited" in paragraph(compare(regular, other))


def test_a_caption_names_the_verdicts(audited):
    group = only_group(audited)

    assert verdicts_in_words(group.models, ("fgs", "fgs-unmasked")) == (
        "Audit: masked: B1 fgs; sound: R0, B1 fgs-unmasked; not audited: R1.",
    )
    assert verdicts_in_words(group.models[1:2], ("fgs",)) == ()


def test_the_worst_of_several_verdicts():
    assert worst_of(["sound", "masked", "suspect"]) == "masked"
    assert worst_of(["sound", "not audited"]) == "not audited"
    assert worst_of([]) == verdict_on(None, "fgs") == "not audited"


@pytest.mark.parametrize(("budget", "text"), [(76, "76 (0.3)"), (8, "8 (0.031)"), (255, "255 (1)"), (26, "26 (0.1)")])
def test_a_budget_is_given_in_grey_levels_and_as_a_share_of_the_range(budget, text):
    assert budget_text(budget) == text
