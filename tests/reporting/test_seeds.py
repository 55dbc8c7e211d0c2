"""The table over the seeds of one recipe."""

from __future__ import annotations

import math

import pytest

from bangbench.reporting.draw import draw
from bangbench.reporting.seeds import independent, recipes, seed_figures, seed_table
from bangbench.store.records import (
    LinfSummary,
    ModelCard,
    ModelInfo,
    Moments,
    Preprocessing,
    read_record,
    write_record,
)


def table_of(records):
    return records.table(seed_table)


def trained(records, name, number, attack="fgs", spec=None, **changes):
    """Write the card of a model whose seed and weights follow from `number`, and one attack on it.

    spec: settings of its training that are others; `changes` replace fields of the model or of the summary.
    """
    given = {"seed": number, "weights_sha256": f"{number:02x}" * 32, "method": "regular", "method_settings": {}}
    given |= changes
    model = {key: value for key, value in given.items() if key in ModelInfo.model_fields}
    records.card(name, spec={"seed": model["seed"], "stages": None, "threads": 1} | (spec or {}), **model)
    records.attack(name, attack, **{key: value for key, value in given.items() if key != "data"})


def column(table, field):
    """Return the values that go under one CSV header."""
    return table.frame[field].tolist()


def printed(table, header):
    """Return the texts of one printed column."""
    place = [column.header for column in table.columns].index(header)
    return [cells[place] for _, cells in table.printed()]


def test_each_number_has_mean_spread_and_t_interval_over_the_seeds(records):
    for seed, accuracy in enumerate((99.0, 99.1, 99.2)):
        trained(records, f"t/{seed}", seed, accuracy=accuracy, pass_paper=Moments(mean=0.4 + seed / 100, std=0.1))

    table = table_of(records)

    assert table.name == "t-seeds"
    assert column(table, "models") == ["0, 1, 2"]
    assert column(table, "seeds") == [3]
    assert column(table, "accuracy_mean_percent") == pytest.approx([99.1])
    assert column(table, "accuracy_sd_points") == pytest.approx([0.1])
    assert column(table, "accuracy_high_percent") == pytest.approx([99.1 + 4.302653 * 0.1 / math.sqrt(3)])
    assert printed(table, "Accuracy (%)") == ["99.10 ± 0.10 [98.85, 99.35]"]
    assert printed(table, "PASS (paper)") == ["0.4100 ± 0.0100 [0.3852, 0.4348]"]
    assert not any("two seeds" in note for note in table.notes)


def test_the_audited_of_many_seeds_are_named_and_the_others_counted(records):
    for seed in range(3):
        trained(records, f"t/{seed}", seed)
    records.audit("t/0", seed=0, weights_sha256="00" * 32, method="regular", method_settings={})

    assert column(table_of(records), "audit_verdict") == ["0 sound, 2 not audited"]


def test_two_seeds_are_said_to_be_few(records):
    trained(records, "t/R0", 0, rate=90.0)
    trained(records, "t/R1", 1, rate=92.0)

    table = table_of(records)

    assert printed(table, "Rate (%)") == ["91.00 ± 1.41 [78.29, 103.71]"]
    assert any("12.7 standard errors" in note for note in table.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"net": "other"},
        {"method": "bang"},
        {"method_settings": {"beta": 1.0}},
        {"iterations": 5},
        {"data": "digits"},
        {"preprocessing": Preprocessing(input_scale=255.0)},
        {"seed": 0},
        {"weights_sha256": "00" * 32},
        {"spec": {"learning_rate": 0.001}},
        {"spec": {"rate_policy": "constant()"}},
        {"spec": {"batch_size": 32}},
        {"spec": {"momentum": 0.5}},
        {"spec": {"weight_decay": 0.0}},
        {"spec": {"shuffle": True}},
        {"spec": {"train_images": 1000}},
        {"spec": {"a setting of a later version": 1}},
    ],
    ids=str,
)
def test_models_are_one_recipe_only_where_nothing_but_seed_and_weights_differs(records, changes):
    trained(records, "t/R0", 0)
    trained(records, "t/R1", 1, **changes)

    assert table_of(records) is None


def test_snapshots_and_threads_are_no_other_recipe(records):
    trained(records, "t/R0", 0)
    trained(records, "t/R1", 1, spec={"stages": 500, "threads": 2})

    assert column(table_of(records), "models") == ["R0, R1"]


def test_other_training_images_of_the_same_name_are_another_recipe(records):
    trained(records, "t/R0", 0)
    trained(records, "t/R1", 1)
    path = records.card("t/R1", seed=1, weights_sha256="01" * 32, method_settings={})
    card = read_record(path, ModelCard)
    write_record(
        path, card.model_copy(update={"train_data": card.train_data.model_copy(update={"fingerprint": "00" * 32})})
    )

    assert table_of(records) is None


@pytest.mark.parametrize("other", [None, {"weights_sha256": "cc" * 32}])
def test_without_a_card_of_its_weights_a_model_is_of_no_recipe(records, other):
    trained(records, "t/R0", 0)
    trained(records, "t/R1", 1)
    (records.root / "models/t/R1/model.json").unlink()
    if other is not None:
        records.card("t/R1", spec={"stages": None, "threads": 1}, seed=1, method_settings={}, **other)

    assert table_of(records) is None


def test_seeds_that_give_the_same_number_have_no_interval(records):
    trained(records, "t/R0", 0, rate=100.0)
    trained(records, "t/R1", 1, rate=100.0)

    table = table_of(records)

    assert printed(table, "Rate (%)") == ["100.00 ± 0.00"]
    assert "without an interval where all seeds give the same number" in table.notes[0]


def test_copies_are_of_the_recipe_but_not_independent(records):
    trained(records, "t/R0", 0)
    trained(records, "t/copy", 0)
    trained(records, "t/R1", 1)
    records.attack("t/theirs", "fgs", seed=2, weights_sha256="02" * 32)

    (alike,) = recipes(records.experiment().models)

    assert [model.name for model in alike] == ["t/R0", "t/R1", "t/copy"]
    assert [model.name for model in independent(alike)] == ["t/R0", "t/R1"]


def test_the_settings_of_a_method_may_stand_in_any_order(records):
    trained(records, "t/B0", 0, method="bang", method_settings={"beta": 1.0, "epsilon": 0.8})
    trained(records, "t/B1", 1, method="bang", method_settings={"epsilon": 0.8, "beta": 1.0})

    assert column(table_of(records), "models") == ["B0, B1"]


def test_each_attack_counts_the_seeds_that_have_it(records):
    for seed in range(3):
        trained(records, f"t/{seed}", seed, "hc1")
    for seed in range(2):
        trained(records, f"t/{seed}", seed, "fgs")
    trained(records, "t/0", 0, "zoo")

    table = table_of(records)

    assert list(zip(column(table, "attack"), column(table, "seeds"), strict=True)) == [("fgs", 2), ("hc1", 3)]
    assert column(table, "models") == ["0, 1", "0, 1, 2"]


def test_a_number_that_one_seed_lacks_is_left_empty(records):
    trained(records, "t/R0", 0)
    trained(records, "t/R1", 1, linf=LinfSummary(mean=None, std=None, median_censored=None))

    table = table_of(records)

    assert column(table, "linf_mean_grey_levels") == [None]
    assert printed(table, "L∞") == ["–"]  # noqa: RUF001  # an en dash
    assert column(table, "rate_mean_percent") != [None]


@pytest.fixture
def audited(records):
    """Return an experiment with three seeds of one recipe, of 1,000 images 500, 520 and 540 robust within 76."""
    for seed in range(3):
        trained(records, f"t/{seed}", seed)
        model = {"seed": seed, "weights_sha256": f"{seed:02x}" * 32, "method": "regular", "method_settings": {}}
        budgets = (records.held(26, 190), records.held(76, 490 - 20 * seed))
        records.audit(f"t/{seed}", **model, budgets=budgets)
    return records.experiment()


def test_the_worst_case_of_seeds_audited_alike_stands_before_their_attacks(records, audited):
    table = table_of(records)

    assert column(table, "attack") == ["worst case, 26 (0.1)", "worst case, 76 (0.3)", "fgs"]
    assert column(table, "robust_mean_percent") == [80.0, pytest.approx(52.0), None]
    assert column(table, "robust_sd_points") == [0.0, pytest.approx(2.0), None]
    assert printed(table, "Robust (%)")[1] == "52.00 ± 2.00 [47.03, 56.97]"


def test_an_audit_of_fewer_images_does_not_stand_among_the_seeds(records, audited):
    model = {"seed": 2, "weights_sha256": "02" * 32, "method": "regular", "method_settings": {}}
    records.audit("t/2", **model, images=100, correct=99, budgets=(records.held(76, 40, 100, 99),))

    table = table_of(records)

    assert column(table, "models")[:2] == ["0, 1", "0, 1"]
    assert column(table, "robust_mean_percent")[1] == pytest.approx(51.0)


def test_every_seed_s_robust_accuracy_is_a_point(audited):
    (figure,) = seed_figures(audited)
    clean, near, far = figure.content.strips

    assert figure.content.labels == ("0 (n = 3)",)
    assert (clean.title, near.title, far.title) == ("clean", "robust, 26 (0.1)", "robust, 76 (0.3)")
    assert far.values == ((50.0, 52.0, 54.0),)
    assert far.intervals[0] == pytest.approx((47.03, 56.97), abs=0.01)
    assert near.intervals == (None,)  # all seeds alike: nothing is known of their spread
    panel = draw(figure).axes[2]
    assert sorted(panel.lines[0].get_xdata()) == [50.0, 52.0, 54.0]


def test_without_two_audited_seeds_there_is_no_figure(records):
    trained(records, "t/0", 0)
    trained(records, "t/1", 1)

    assert list(seed_figures(records.experiment())) == []
