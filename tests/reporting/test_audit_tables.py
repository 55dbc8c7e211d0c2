"""What the audits found: verdicts, budgets, checks, one row per defence, and the answer in words."""

from __future__ import annotations

import pytest

from bangbench.core.statistics import wilson_interval
from bangbench.reporting.audit_tables import (
    answer,
    budget_table,
    sources_note,
    standings,
    verdict_sentences,
    verdict_table,
)
from bangbench.reporting.frames import frames_of, records_of


def lines_of(records):
    experiment = records.experiment()
    return standings(experiment, frames_of([experiment]))


def test_there_are_no_audit_tables_without_audits(records):
    records.attack("t/R0", "fgs")

    assert records.table(verdict_table) is records.table(budget_table) is None


def test_verdicts_stand_claim_by_claim_twins_side_by_side(records):
    records.audit("t/B1")
    table = records.table(verdict_table)

    assert table.frame["claim"].tolist() == [
        "overall", "predictions", "fgs", "fgs-unmasked", "hc1", "hc1-unmasked", "worst-case",
    ]  # fmt: skip
    assert table.frame["audit_verdict"].tolist()[:3] == ["masked", "sound", "masked"]
    assert table.frame["reasons"][2] == "fgs-masked, loss-underflow"
    assert verdict_sentences(records.experiment().models) == (
        "B1 is masked under fgs, hc1 (fgs 2.40 % at a mean L∞ of 6.4, unmasked 100.00 % at 40.4; hc1 95.30 % at a mean "
        "L∞ of 200.1, unmasked 99.80 % at 121.4; fgs-masked, hot-cold-sign): these rates are no robustness; all "
        "attacks of the audit together: 99.49 % [98.82, 99.78] flipped at L∞ 76 (0.3).",
    )


def test_sound_and_suspect_models_are_told_apart(records):
    records.audit("t/R0")
    records.audit("t/R1")
    records.audit("t/X", verdict="suspect", reasons=("few",))

    suspect, sound = verdict_sentences(records.experiment().models)

    assert suspect.startswith("X is suspect in overall (few): read with care")
    assert sound.startswith("R0, R1 are sound (R0 99.49 %")


def test_budgets_stand_side_by_side_with_the_worst_case_and_what_is_left(records):
    records.audit("t/R0", budgets=(records.held(8, 400, fgs=100), records.held(16, 700, fgs=300, zoo=650)))
    records.audit("t/B1", budgets=(records.held(8, 500, fgs=1),), strength="quick")
    table = records.table(budget_table)
    found = table.frame.set_index(["budget_grey_levels", "attack"])

    assert found.loc[(8, "fgs"), "R0_percent"] == pytest.approx(100 * 100 / 990)
    assert found.loc[(16, "zoo"), "B1_percent"] is None
    assert found.loc[(8, "robust accuracy"), "B1_percent"] == pytest.approx(49.0)
    assert found.loc[(16, "worst case"), "R0_low_percent"] == pytest.approx(wilson_interval(700, 990)[0])
    assert [column.header for column in table.columns][-2:] == ["R0 (%)", "B1, quick (%)"]
    assert any("by an earlier version" in note for note in table.notes)


def test_an_attack_that_got_only_what_the_others_left_has_no_rate_of_its_own(records):
    rates = records.held(8, 400, fgs=100, zoo=9).model_copy(update={"tried": {"zoo": 12}})
    records.audit("t/R0", budgets=(rates,))

    assert "zoo" not in records.table(budget_table).frame["attack"].tolist()


def test_checks_come_worst_first_and_the_sources_of_what_was_found_are_named(records):
    records.audit("t/B1")
    checks = records_of(frames_of([records.experiment()]).checks)

    assert [check["code"] for check in checks] == ["fgs-masked", "loss-underflow", "input-scale"]
    assert sources_note(checks)[0].startswith("Sources. ")
    assert not sources_note([check | {"outcome": "passed"} for check in checks])


def test_the_answer_names_the_best_and_the_one_that_fgs_flatters(records):
    records.audit("t/B1", budgets=(records.held(8, 990, fgs=20),))
    records.audit("t/good", budgets=(records.held(8, 500, fgs=300),))

    assert answer(lines_of(records)) == (
        "good holds best: 49.0 % of the images stay right under every attack tried within 8/255. "
        "B1 looks 97 % robust to FGS alone; under the worst case nothing is left."
    )


def test_the_answer_says_where_nothing_holds_and_where_nothing_is_known(records):
    records.attack("t/R0", "fgs")
    assert answer(lines_of(records)).startswith("The only model is not audited")

    records.audit("t/R0", budgets=(records.held(8, 990, fgs=950),))
    assert answer(lines_of(records)) == (
        "None of the 1 audited models holds: at most 0.0 % of the images stay right under every attack tried within "
        "8/255."
    )


def test_accuracy_and_robust_accuracy_of_a_line_are_over_the_same_images(records):
    records.attack("t/R0", "fgs", accuracy=91.0)
    records.audit("t/R0", accuracy=99.0)

    (line,) = lines_of(records)

    assert (line.clean, line.worst.n) == (99.0, 1000)
