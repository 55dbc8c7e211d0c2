"""The paper's table: measured rows, what corrects a masked one, and the published row beneath."""

from __future__ import annotations

import pytest

from bangbench.paper.tables import paper_table
from bangbench.store.records import Moments


def rows(table):
    return [(kind, cells[0]) for kind, cells in table.printed()]


def test_a_published_row_stands_under_the_model_that_reproduces_it(records):
    for name in ("table1/R0", "table1/B1", "table1/mine"):
        records.attack(name, "fgs")
    table = records.table(paper_table)

    assert rows(table) == [
        ("measured", "R0"), ("published", "published"), ("measured", "B1"), ("published", "published"),
        ("measured", "mine"),
    ]  # fmt: skip
    assert table.frame["model"].tolist()[1] == "table1/R0"
    assert any("arXiv 1612.00138), Table 1." in note for note in table.notes)


def test_other_images_are_said_to_be_others(records):
    records.attack("table2/R0", "fgs", data="cifar10-jpeg")
    table = records.table(paper_table)

    assert rows(table)[1] == ("published", "published (CIFAR-10)")
    assert any("measured on cifar10-jpeg: other images" in note for note in table.notes)


@pytest.mark.parametrize("run", [True, False])
def test_under_a_masked_rate_stands_what_the_attack_does_where_nothing_holds_it_back(records, run):
    records.attack("mine/B1", "fgs")
    if run:
        records.attack("mine/B1", "fgs-unmasked", rate=77.0, pass_paper=Moments(mean=0.5, std=0.1))
    records.audit("mine/B1")
    table = records.table(paper_table)
    unmasked = table.frame.iloc[1]

    assert rows(table) == [("measured", "B1"), ("unmasked", "unmasked")]
    assert (unmasked["fgs_rate_percent"], unmasked["fgs_pass_paper_mean"]) == ((77.0, 0.5) if run else (100.0, None))
    assert unmasked["accuracy_percent"] is None
    assert table.printed()[0][1][4] == "1.68 [masked]"
    assert any(note.startswith("Masked, with the worst case") for note in table.notes)


def test_a_doubted_accuracy_is_marked_and_a_sound_one_is_not(records):
    records.attack("mine/R0", "fgs")
    path = records.audit("mine/R0")
    assert records.table(paper_table).printed()[0][1][3] == "99.16"

    path.write_text(path.read_text().replace('"claim": "predictions",\n        "verdict": "sound"',
                                             '"claim": "predictions",\n        "verdict": "suspect"'))  # fmt: skip
    assert records.table(paper_table).printed()[0][1][3] == "99.16 [suspect]"


def test_a_model_that_was_renamed_is_named(records):
    records.attack("authors", "fgs", published="table1/B1")

    assert "authors stands for Table 1 B1." in records.table(paper_table).notes


def test_several_seeds_of_a_row_stand_together_with_their_mean_and_the_published_row_under_it(records, trained):
    for seed, rate in enumerate((90.0, 91.0, 95.0)):
        trained(f"table1/R0{f'-s{seed}' * bool(seed)}", seed, rate=rate, accuracy=99.0)
    records.attack("table1/B1", "fgs")
    table = records.table(paper_table)
    mean = table.printed()[3][1]

    assert rows(table) == [
        ("measured", "R0"), ("measured", "R0-s1"), ("measured", "R0-s2"), ("measured", "mean of 3 seeds"),
        ("published", "published"), ("measured", "B1"), ("published", "published"),
    ]  # fmt: skip
    assert mean[3:5] == ["99.00", "92.00 [85.43, 98.57]"]  # 4.303 * 2.646 / sqrt(3) to both sides
    assert table.frame["fgs_rate_low_percent"].tolist()[3] == pytest.approx(85.43, abs=0.01)


def test_one_seed_a_row_has_no_mean(records, trained):
    trained("table1/R0", 0)
    trained("table1/R1", 1)
    table = records.table(paper_table)

    assert [name for _, name in rows(table)] == ["R0", "published", "R1", "published"]
    assert "fgs_rate_low_percent" not in table.frame.columns
