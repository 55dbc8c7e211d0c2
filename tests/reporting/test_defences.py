"""One row and one mark per defence, what a step of it costs, and the state of those that learned nothing."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.reporting.audit_tables import standings
from bangbench.reporting.defences import costs_of_a_step, defence_figures, defence_table
from bangbench.store.records import ModelCard


def trained(records, name, seconds, **changes):
    """Write an audited model, and its card with the seconds of its training."""
    changes = {"method": "regular"} | changes
    records.audit(name, budgets=(records.held(8, 500),), **changes)
    path = records.card(name, **changes)
    card = ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    path.write_text(card.model_copy(update={"seconds": seconds}).model_dump_json(by_alias=True), encoding="utf-8")


def test_defences_are_sorted_by_what_holds_within_the_largest_budget(records):
    records.attack("t/R0", "fgs", flipped=9000)
    records.audit("t/B1", budgets=(records.held(8, 900, fgs=10), records.held(16, 990, fgs=20)))
    records.audit("t/good", budgets=(records.held(8, 300, fgs=200), records.held(16, 500, fgs=250)), strength="quick")
    records.noise("t/R0", "t/B1", stages=(500,), sigmas=(10.0, 50.0), flipped_percent=(((1.0, 24.0),), ((0.5, 3.0),)))
    table = records.table(defence_table)
    found = table.frame.set_index("id")

    assert table.frame["id"].tolist() == ["good", "B1", "R0"]
    assert found.loc["good", "robust_at_16_grey_levels_percent"] == pytest.approx(49.0)
    assert found.loc["B1", "fgs_alone_percent"] == pytest.approx(97.0)
    assert np.isnan(found["fgs_alone_percent"].astype(float)["R0"])  # known at any distance only, as of nobody else
    assert found.loc["R0", "noise_flipped_percent"] == 24.0
    assert found.loc["R0", "audit_verdict"] == "not audited"
    verdicts = [cells[[column.header for column in table.columns].index("Verdict")] for _, cells in table.printed()]
    assert verdicts == ["sound (quick)", "masked", "not audited"]


def test_fgs_alone_stands_on_one_scale_for_all_models(records):
    records.images("t/R0", "fgs", [4.0, 12.0, 40.0, np.inf])
    assert standings(records.experiment())[0].fgs == 25.0  # nobody is audited: at any distance
    records.audit("t/B1", budgets=(records.held(8, 900, fgs=10), records.held(16, 990, fgs=20)))
    found = {line.model.id: line.fgs for line in standings(records.experiment())}
    assert found == {"B1": pytest.approx(97.0), "R0": 50.0}  # both within 16 grey levels


def test_a_step_costs_so_many_of_the_regular_model_of_the_same_net(records):
    trained(records, "t/R0", 100.0, iterations=1000)
    trained(records, "t/slow", 150.0, iterations=500, method="pgd-at")
    trained(records, "t/other-net", 70.0, iterations=1000, net="odenet", method="tisode")

    assert costs_of_a_step(records.experiment()) == pytest.approx({"t/R0": 1.0, "t/slow": 3.0})
    found = records.table(defence_table).frame.set_index("id")["step_cost_regular_steps"]
    assert found["slow"] == pytest.approx(3.0)
    assert found["other-net"] is None


@pytest.mark.parametrize(("accuracy", "classes", "state"), [(19.0, 10, "collapsed"), (21.0, 10, "sound"),
                                                            (59.0, 2, "collapsed"), (61.0, 2, "sound")])  # fmt: skip
def test_a_model_that_is_right_hardly_more_often_than_by_guessing_has_collapsed(records, accuracy, classes, state):
    records.audit("t/R0", accuracy=accuracy, classes=classes)

    (line,) = standings(records.experiment())
    assert line.verdict == state
    assert (f"{100 / classes:.1f} %" in line.meaning) == (state == "collapsed")


def test_the_picture_shows_every_audited_model_at_every_common_budget(records):
    for name, worst in (("a", 900), ("b", 300), ("c", 500)):
        records.audit(f"t/{name}", budgets=(records.held(8, worst - 100), records.held(16, worst)))
    assert list(defence_figures(records.experiment())) == []

    records.audit("t/B1", budgets=(records.held(8, 980), records.held(16, 990), records.held(32, 990)))
    (figure,) = defence_figures(records.experiment())
    assert figure.content.budgets == (8, 16)
    assert [(dot.number, dot.name, dot.verdict) for dot in figure.content.dots] == [
        (1, "b", "sound"), (2, "c", "sound"), (3, "a", "sound"), (4, "B1", "masked"),
    ]  # fmt: skip
    assert figure.content.dots[0].robust == pytest.approx((79.0, 69.0))
