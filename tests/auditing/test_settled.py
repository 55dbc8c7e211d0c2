"""An alarm about gradients is no reason against an attack that worked, and one against an attack that did not."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bangbench.auditing.claims import gradient_claims, judge
from bangbench.auditing.settled import settled

SCENES = runpy.run_path(str(Path(__file__).with_name("scenes.py")))
ball, check, evidence_of, flags, line_at = (
    SCENES[name] for name in ("ball", "check", "evidence_of", "flags", "line_at")
)
COUNT = 200
LINES = ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")
CODES = ["wrong-gradient", "shattered-gradient", "inner-gradient", "rough-loss", "margin-gradient-gone"]


def evidence(pgd=200, apgd=200, line=200, square=120):
    """Return what attacks did within 10 and 20 grey levels, so many images each within the larger budget."""
    counts = {"pgd": pgd, "apgd": apgd, "apgd-ce": 200, "square": square}
    battery = {(name, 20): ball(flags(COUNT, range(count))) for name, count in counts.items()}
    battery |= {(name, 10): ball(flags(COUNT, range(count // 2))) for name, count in counts.items()}
    battery["apgd-t", 20] = ball(flags(COUNT, []), tried=flags(COUNT, [199]))
    return evidence_of(dict.fromkeys(LINES, line_at(30, line, COUNT)), battery, (10, 20))


def verdicts(found, *compared, code="shattered-gradient", outcome="masked"):
    """Return the verdict on each claim that rests on gradients, given an alarm about them."""
    checks = settled([check(code, outcome, gradient_claims())], compared, found)
    return {claim: judge(claim, checks)[0] for claim in gradient_claims()}, checks[0]


@pytest.mark.parametrize("outcome", ["suspect", "masked"])
@pytest.mark.parametrize("code", CODES)
def test_where_all_attacks_work_an_alarm_about_gradients_is_a_note(code, outcome):
    found, note = verdicts(evidence(), code=code, outcome=outcome)
    assert set(found.values()) == {"sound"}
    assert note.outcome == "note"
    assert "100.0 % within 20 grey levels" in note.evidence


@pytest.mark.parametrize(("pgd", "verdict"), [(198, "sound"), (197, "masked")])
def test_an_attack_that_leaves_more_than_one_percent_has_not_worked(pgd, verdict):
    found, alarm = verdicts(evidence(pgd=pgd))
    assert found["pgd"] == verdict
    assert {found[name] for name in ("apgd", "apgd-ce", "apgd-t", "worst-case", *LINES)} == {"sound"}
    assert alarm.claims == (("pgd",) if verdict == "masked" else gradient_claims())


@pytest.mark.parametrize(("line", "verdict"), [(180, "sound"), (179, "masked")])
def test_an_attack_along_a_line_must_work_by_itself(line, verdict):
    found, _ = verdicts(evidence(line=line))
    assert {found[name] for name in LINES} == {verdict}
    assert found["pgd"] == "sound"


@pytest.mark.parametrize(
    "code",
    [
        *("one-step-beats-many", "gradient-free-beats-gradient", "transfer-beats-direct", "noise-beats-attack"),
        *("unbounded-attack-fails", "not-converged"),
    ],
)
def test_where_something_else_finds_more_nothing_has_worked(code):
    found, alarm = verdicts(evidence(), check(code, "suspect", ("worst-case",)))
    assert set(found.values()) == {"masked"}
    assert alarm.claims == gradient_claims()
    assert set(verdicts(evidence(), check(code, "note"))[0].values()) == {"sound"}


def test_a_rate_within_a_smaller_budget_only_is_not_asked_for():
    found, _ = verdicts(evidence_of({}, {("pgd", 10): ball(flags(COUNT, range(200)))}, (10, 20)))
    assert set(found.values()) == {"masked"}


def test_other_alarms_stay_as_they_are():
    alarm = check("bad-outputs", "masked", gradient_claims())
    assert settled([alarm], [], evidence()) == [alarm]
    assert settled([check("rough-loss", "passed", ("pgd",))], [], evidence())[0].evidence == "Made up."
