"""The tables of the audits: verdicts, budgets, findings."""

from __future__ import annotations

import csv
import io

import pytest

from bangbench.core.statistics import wilson_interval
from bangbench.reporting.audit_rows import budget_table, verdict_sentences, verdict_table
from bangbench.reporting.collect import collect
from bangbench.reporting.finding_rows import finding_table
from bangbench.reporting.groups import group_records
from bangbench.reporting.render import RENDERERS, to_csv
from bangbench.reporting.table import cell_text
from bangbench.store.audits import BudgetRates, Check, ClaimVerdict


def only_group(records):
    (group,) = group_records(collect(records.root, ())).groups
    return group


@pytest.fixture
def audited(records):
    for name in ("table1/R0", "table1/B1"):
        records.attack(name, "fgs")
        records.audit(name, against="table1/R0" if name != "table1/R0" else None)
    return records


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


def test_each_claim_has_its_verdict_with_rate_distance_and_reasons(audited):
    table = verdict_table(only_group(audited))

    assert table.name == "table1-verdicts"
    assert column(table, "claim")[7:] == column(table, "claim")[:7] == [
        "overall", "predictions", "fgs", "fgs-unmasked", "hc1", "hc1-unmasked", "worst-case",
    ]  # fmt: skip
    assert printed(table, 7) == ["B1", "overall", "masked", "–", "–", "fgs-masked, hot-cold-sign"]  # noqa: RUF001
    assert printed(table, 9) == ["B1", "fgs", "masked", "2.40", "6.40 ± 3.60", "fgs-masked, loss-underflow"]
    assert printed(table, 10) == ["B1", "fgs-unmasked", "sound", "100.00", "40.40 ± 16.00", "–"]  # noqa: RUF001
    assert set(column(table, "audit_verdict")[:7]) == {"sound"}


def test_a_masked_model_is_told_in_one_sentence_with_the_worst_case(audited):
    masked, sound = verdict_sentences(only_group(audited))
    low, high = wilson_interval(985, 990)
    worst = f"99.49 % [{low:.2f}, {high:.2f}] flipped at L∞ 76 (0.3)"

    assert masked == (
        "B1 is masked under fgs, hc1 (fgs 2.40 % at a mean L∞ of 6.4, unmasked 100.00 % at 40.4; hc1 95.30 % at a mean "
        "L∞ of 200.1, unmasked 99.80 % at 121.4; fgs-masked, hot-cold-sign): these rates are no robustness; all "
        f"attacks of the audit together: {worst}."
    )
    assert sound == f"R0 is sound ({worst}): its rates mean what they say."


def test_a_suspect_model_is_told_by_the_claims_that_are_in_doubt(records):
    claims = (
        ClaimVerdict(claim="fgs", verdict="sound", rate=90.0),
        ClaimVerdict(claim="worst-case", verdict="suspect", reasons=("not-converged",), rate=95.0),
    )
    records.audit("t/R0", verdict="suspect", reasons=("not-converged",), claims=claims)

    (sentence,) = verdict_sentences(only_group(records))

    assert sentence.startswith("R0 is suspect in worst-case (not-converged): read with care; all attacks")


def test_a_quick_audit_says_so_beside_its_worst_case(records):
    records.audit("t/R0", strength="quick")
    records.audit("t/R1", strength="standard")

    (sentence,) = verdict_sentences(only_group(records))

    assert sentence.count("76 (0.3), quick") == 1
    notes = " ".join(budget_table(only_group(records)).notes)
    assert "strength quick" in notes
    assert "strength standard" in notes


def test_an_attack_that_tried_what_was_left_has_no_rate(records):
    flipped = {"pgd": 900, "square": 3}
    rates = BudgetRates(
        budget=76,
        flipped=flipped,
        tried={"square": 90},
        worst_case=903,
        rate=91.2,
        rate_interval=None,
        robust_accuracy=8.7,
    )
    records.audit("t/R0", budgets=(rates,))

    table = budget_table(only_group(records))

    assert column(table, "attack") == ["pgd", "worst case", "robust accuracy"]
    assert column(table, "R0_percent")[0] == pytest.approx(100.0 * 900 / 990)


def test_an_inconclusive_model_is_told_as_one_in_doubt(records):
    claims = (ClaimVerdict(claim="fgs", verdict="inconclusive", reasons=("few-images",), rate=90.0),)
    records.audit("t/R0", verdict="inconclusive", reasons=("few-images",), claims=claims)

    (sentence,) = verdict_sentences(only_group(records))

    assert sentence.startswith("R0 is inconclusive in fgs (few-images): read with care; all attacks")


def test_several_sound_models_share_a_sentence(records):
    for name in ("t/R0", "t/R1"):
        records.audit(name)

    (sentence,) = verdict_sentences(only_group(records))

    assert sentence.startswith("R0, R1 are sound (R0 99.49 %")
    assert "; R1 99.49 %" in sentence


def test_the_verdict_table_says_which_images_and_against_whom(audited):
    notes = verdict_table(only_group(audited)).notes

    less = "by an earlier version that tried less than strength standard (its robust accuracy is too high)"
    assert f"Audited on the first 1,000 test images of mnist, {less}: R0 (990 correct)." in notes
    transferred = f"with images transferred from R0, {less}: B1 (990 correct)."
    assert f"Audited on the first 1,000 test images of mnist, {transferred}" in notes


def test_models_stand_side_by_side_under_each_attack_and_budget(audited):
    table = budget_table(only_group(audited))

    assert table.name == "table1-budgets"
    assert [item.header for item in table.columns if item.show is not None] == ["Budget", "Attack", "R0 (%)", "B1 (%)"]
    assert column(table, "attack")[:5] == ["fgs", "pgd", "square", "worst case", "robust accuracy"]
    assert column(table, "budget_grey_levels") == [26] * 5 + [51] * 5 + [76] * 5
    assert printed(table, 11) == ["76 (0.3)", "pgd", "99.29", "99.29"]
    assert column(table, "B1_percent")[11:] == pytest.approx([98300 / 990, 78600 / 990, 98500 / 990, 0.5])
    assert column(table, "B1_low_percent")[13] == wilson_interval(985, 990)[0]
    assert column(table, "B1_high_percent")[14] == wilson_interval(5, 1000)[1]
    assert column(table, "B1_low_percent")[11] is None


def test_a_budget_that_only_one_model_has_is_a_dash_for_the_other(audited):
    path = audited.root / "results/table1/B1/audit.json"
    path.write_text(path.read_text().replace('"budget": 76', '"budget": 8'))

    table = budget_table(only_group(audited))

    assert printed(table, 0)[0] == "8 (0.031)"
    assert printed(table, 0)[2:] == ["–", "2.42"]  # noqa: RUF001  # an en dash
    assert column(table, "R0_percent")[0] is None


def test_an_audit_without_budgets_or_correct_images_is_shown_all_the_same(records):
    records.audit("t/R0", budgets=(), correct=0, accuracy=0.0)
    group = only_group(records)

    assert budget_table(group) is None
    assert verdict_sentences(group) == ("R0 is sound (no budget tried): its rates mean what they say.",)


def test_findings_come_worst_first_with_all_that_is_known_of_them(audited):
    table = finding_table(only_group(audited))

    assert table.name == "table1-findings"
    assert list(zip(column(table, "id"), column(table, "code"), column(table, "outcome"), strict=True)) == [
        ("R0", "loss-underflow", "note"),
        ("R0", "input-scale", "passed"),
        ("R0", "fgs-masked", "passed"),
        ("B1", "fgs-masked", "masked"),
        ("B1", "loss-underflow", "note"),
        ("B1", "input-scale", "passed"),
    ]
    assert printed(table, 3) == [
        "B1", "fgs-masked", "masked", "fgs", "It is so on 966 of 990 images.", "Meaning of it.", "Advice on it.",
        "966: 0, 1, 2, ...",
    ]  # fmt: skip
    assert column(table, "sources")[3] == "protocol; Croce 2020"
    assert any(note.startswith("Sources. Croce 2020: Croce, Hein") for note in table.notes)
    assert not any("Croce 2021" in note for note in table.notes), "a check that passed needs no source"


def test_a_check_of_another_version_is_shown_without_sources(records):
    records.audit("t/R0", checks=(Check(code="new-code", outcome="note", evidence="New.", count=2),))

    table = finding_table(only_group(records))

    assert column(table, "sources") == [None]
    assert printed(table, 0)[-1] == "2"
    assert not any(note.startswith("Sources") for note in table.notes)


def test_without_an_audit_there_are_no_such_tables(records):
    records.attack("table1/R0", "fgs")
    group = only_group(records)

    assert (verdict_table(group), budget_table(group), finding_table(group)) == (None, None, None)


def test_numbers_stay_numbers_in_the_csv_and_every_format_can_be_written(audited):
    group = only_group(audited)
    for table in (verdict_table(group), budget_table(group), finding_table(group)):
        for row in table.rows:
            assert [len(cell) for cell in row.cells] == [len(item.fields) or 1 for item in table.columns]
        for render in RENDERERS.values():
            assert "B1" in render(table)
    rows = list(csv.DictReader(io.StringIO(to_csv(verdict_table(group)))))
    assert [float(row["rate_percent"]) for row in rows if row["rate_percent"]][:2] == [99.0, 91.2]
