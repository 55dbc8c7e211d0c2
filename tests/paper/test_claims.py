"""Published numbers against measured ones, and the verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.core.statistics import newcombe_interval, prediction_interval, welch_interval
from bangbench.paper.claims import claim_table, claims
from bangbench.reporting.frames import frames_of
from bangbench.reporting.noise import evolutions_to_draw
from bangbench.reporting.render import RENDERERS
from bangbench.store.records import LinfSummary, Moments


def only_group(records):
    return records.experiment()


def claim_of(group, cell, model="R0"):
    (found,) = [claim for claim in claims(group) if (claim.model, claim.cell) == (model, cell)]
    return found


def printed(table, cell):
    """Return what is printed of one published number."""
    (shown,) = [cells for _, cells in table.printed() if cells[1] == cell]
    return shown


def with_noise_rows(group, flipped):
    """Return the group with the same flipped draws of 20 for each image, model, stage and sigma."""
    (found,) = group.noise
    shape = (2, len(found.summary.stages), len(found.summary.sigmas), len(flipped))
    summary = found.summary.model_copy(update={"draws": 20})
    return group._replace(noise=(found._replace(summary=summary, flipped=np.broadcast_to(np.array(flipped), shape)),))


def test_every_published_number_of_a_model_has_a_claim(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/mine", "fgs")

    found = claims(only_group(records))

    assert [claim.cell for claim in found] == [
        "accuracy", "FGS rate", "FGS PASS", "FGS L∞", "HC1 rate", "HC1 PASS", "HC1 L∞",
    ]  # fmt: skip
    assert {claim.model for claim in found} == {"R0"}
    assert [claim.published for claim in found] == [99.16, 90.33, 0.4072, 40.51, 99.53, 0.7535, 122.60]


def test_intervals_are_newcombes_and_welchs_with_the_papers_counts(records):
    records.attack("table1/R0", "fgs", flipped=8957)
    group = only_group(records)
    linf = claim_of(group, "FGS L∞")
    spread = 15.7441 * (8957 / 8956) ** 0.5

    assert claim_of(group, "accuracy").interval == newcombe_interval(9916, 10000, 9916, 10000)
    assert claim_of(group, "FGS rate").interval == newcombe_interval(8957, 9916, 8957, 9916)
    assert linf.interval == pytest.approx(welch_interval(40.5612, spread, 8957, 40.51, 15.72, 8957))
    assert linf.interval[0] < linf.ours - linf.published < linf.interval[1]


def test_the_papers_pass_is_compared_with_pass_paper(records):
    records.attack("table1/R0", "fgs", **{"pass": Moments(mean=0.9, std=0.1)})

    assert claim_of(only_group(records), "FGS PASS").ours == 0.40712
    assert claim_of(only_group(records), "FGS PASS").agreement == "agrees"


@pytest.mark.parametrize(
    ("flipped", "verdict"), [(8957, "agrees"), (8990, "agrees"), (9200, "differs"), (8700, "differs")]
)
def test_a_rate_agrees_where_the_interval_of_the_difference_includes_zero(records, flipped, verdict):
    records.attack("table1/R0", "fgs", flipped=flipped, rate=flipped / 99.16)

    assert claim_of(only_group(records), "FGS rate").agreement == verdict


def test_an_attack_that_was_not_run_is_not_measured(records):
    records.attack("table1/R0", "fgs")
    table = records.table(claim_table)

    assert printed(table, "HC1 rate") == ["R0", "HC1 rate", "99.53", *["–"] * 4, "not measured"]  # noqa: RUF001
    assert table.notes[0].startswith(
        "Of 7 published numbers 4 agree, 0 differ, 3 are not measured. 4 are judged by one training as"
    )


def test_an_attack_that_flipped_nothing_has_a_rate_but_no_means(records):
    nothing = Moments(mean=None, std=None)
    records.attack(
        "table1/B1", "fgs", flipped=0, rate=0.0, pass_paper=nothing,
        linf=LinfSummary(mean=None, std=None, median_censored=None),
    )  # fmt: skip
    group = only_group(records)

    assert claim_of(group, "FGS rate", "B1").agreement == "differs"
    assert claim_of(group, "FGS L∞", "B1")[4:9] == (None, None, "no interval", 0, None)
    assert "2 have no interval" in claim_table(group, frames_of([group])).notes[0]


def test_a_mean_of_equal_numbers_has_no_interval_and_so_no_verdict(records):
    records.attack(
        "table1/B1", "fgs", flipped=5, rate=0.05, linf=LinfSummary(mean=5.48, std=0.0, median_censored=None)
    )  # fmt: skip
    group = only_group(records)
    linf = claim_of(group, "FGS L∞", "B1")

    assert (linf.ours, linf.interval, linf.agreement) == (5.48, None, "no interval")
    assert printed(claim_table(group, frames_of([group])), "FGS L∞")[-2:] == ["–", "no interval"]  # noqa: RUF001


def test_numbers_on_other_data_get_no_verdict(records):
    records.attack("table2/R0", "fgs", data="cifar10-jpeg", flipped=9916, rate=100.0)
    table = records.table(claim_table)

    assert set(table.frame["verdict"]) == {"other data", "not measured"}
    counts = "Of 7 published numbers 0 agree, 0 differ, 3 are not measured, 4 were measured on other data."
    assert table.notes[0].startswith(counts)
    assert any("measured on cifar10-jpeg, not on the images of the published numbers" in note for note in table.notes)


def test_numbers_are_printed_with_the_decimals_of_the_paper_and_filed_by_unit(records):
    records.attack("table1/R0", "fgs")
    table = records.table(claim_table)
    header, _, _, score, linf, *_ = RENDERERS["csv"](table).splitlines()
    score_row = dict(zip(header.split(","), score.split(","), strict=True))
    linf_row = dict(zip(header.split(","), linf.split(","), strict=True))

    assert printed(table, "FGS PASS")[2:6] == ["0.4072", "0.4071", "1", "-0.0001"]
    assert printed(table, "FGS L∞") == ["R0", "FGS L∞", "40.51", "40.56", "1", "0.05", "[-0.41, 0.51]", "agrees"]
    assert (score_row["published_pass"], score_row["published_percent"]) == ("0.4072", "")
    assert (linf_row["ours_grey_levels"], linf_row["ours_pass"]) == ("40.5612", "")
    assert float(linf_row["difference_low_grey_levels"]) == pytest.approx(-0.4096, abs=1e-4)


def test_the_noise_of_the_last_stage_is_compared_with_the_figure(records):
    records.noise("table1/R0", "table1/B1")
    group = with_noise_rows(only_group(records), [3, 4, 5] * 100)

    regular = claim_of(group, "noise σ 100, regular", "R0 vs B1")  # noqa: RUF001  # the Greek letter
    bang = claim_of(group, "noise σ 100, BANG", "R0 vs B1")  # noqa: RUF001

    assert (regular.published, bang.published) == (20.0, 3.0)
    assert regular.interval == pytest.approx((-0.462, 0.462), abs=0.01)
    assert regular.agreement == "agrees"
    assert bang.interval == pytest.approx((16.54, 17.46), abs=0.01)
    assert bang.agreement == "differs"


@pytest.fixture
def pairs(records):
    """Return an experiment with the paper's pair trained with three seeds; the regular ones flip 18, 20 and 22 %."""
    for seed in range(3):
        names = [f"table1/{row}{f'-s{seed}' * bool(seed)}" for row in ("R0", "B1")]
        both = {"seed": seed, "weights_sha256": f"{seed:02x}" * 32, "iterations": 10_000}
        for name in names:
            records.card(name, **both)
        flipped = ((18.0 + 2 * seed,),), ((7.0 + 0.01 * seed,),)
        copies = 1000 * (1 + seed % 2)
        records.noise(*names, both=both, stages=[10_000], sigmas=[100.0], flipped_percent=flipped, forwards=copies)
    return records.experiment()


def test_noise_of_several_seeds_judges_the_figure_by_their_spread(pairs):
    regular = claim_of(pairs, "noise σ 100, regular", "R0 vs B1")  # noqa: RUF001  # the Greek letter
    bang = claim_of(pairs, "noise σ 100, BANG", "R0 vs B1")  # noqa: RUF001
    low, high = prediction_interval(np.array([18.0, 20.0, 22.0]))

    assert (regular.ours, regular.seeds, regular.agreement) == (20.0, 3, "agrees")
    assert regular.interval == pytest.approx((low - 20.0, high - 20.0))
    assert (bang.ours, bang.seeds, bang.agreement) == (pytest.approx(7.01), 3, "differs")
    assert {claim.model for claim in claims(pairs)} == {"R0 vs B1"}


def test_noise_of_several_seeds_is_drawn_once_where_most_was_measured(pairs):
    first, *others = pairs.noise
    longer = first._replace(summary=first.summary.model_copy(update={"stages": (5_000, 10_000)}))

    assert [found.name for found in evolutions_to_draw(pairs)] == ["table1/R0-s1-vs-B1-s1"]
    assert evolutions_to_draw(pairs._replace(noise=(longer, *others))) == [longer]


def test_noise_without_single_images_has_no_interval(records):
    records.noise("table1/R0", "table1/B1")
    table = records.table(claim_table)

    assert table.frame["verdict"].tolist() == ["no interval"] * 2
    assert printed(table, "noise σ 100, regular")[-2:] == ["–", "no interval"]  # noqa: RUF001
    assert any("needs noise.parquet" in note for note in table.notes)


def test_a_sigma_that_was_not_drawn_is_not_measured(records):
    records.noise("table1/R0", "table1/B1", sigmas=(10.0, 20.0))

    assert {claim.agreement for claim in claims(only_group(records))} == {"not measured"}


def test_other_pairs_and_other_models_claim_nothing(records):
    records.attack("mine/R0", "fgs")
    records.noise("mine/R0", "mine/B1")

    assert records.table(claim_table) is None


def test_the_notes_say_what_the_interval_leaves_out(records):
    records.attack("table1/R0", "fgs")

    notes = " ".join(records.table(claim_table).notes)

    assert "With one seed the interval covers the sampling of images, not training with another seed" in notes
    assert "rather too wide, so that of 100 numbers that are equal in truth at most about 5 differ by chance" in notes


def test_the_counts_say_what_agreement_is_worth(records):
    records.attack("table1/R0", "fgs")

    counts = records.table(claim_table).notes[0]

    assert "the sampling of images goes, not training with another seed" in counts
    assert "refutes nothing" in counts
    assert "no difference was found, not that there is none" in counts


def test_numbers_that_agree_on_few_images_are_named(records):
    records.attack("table1/R0", "fgs", images=500, correct=496, flipped=448)
    table = records.table(claim_table)

    assert (
        "Few images agree with nearly every number. Fewer than 1,000 are behind ours where it agrees in: R0 accuracy "
        "(500), R0 FGS rate (496), R0 FGS PASS (448), R0 FGS L∞ (448)." in table.notes
    )


def test_numbers_that_agree_on_many_images_need_no_such_note(records):
    records.attack("table1/R0", "fgs")

    assert "Few images" not in " ".join(records.table(claim_table).notes)


def test_noise_that_never_flips_an_image_does_not_differ_from_the_paper(records):
    records.noise("table1/R0", "table1/B1")
    table = claim_table(with_noise_rows(only_group(records), [0] * 6), frames_of(records.experiments()))

    assert set(table.frame["verdict"]) == {"no interval"}
    assert any("not the same count for all of them" in note for note in table.notes)


@pytest.mark.parametrize(("within", "rates"), [(True, (88.0, 90.0, 93.0)), (False, (94.0, 94.2, 94.1))])
def test_several_seeds_judge_by_whether_the_published_number_could_be_one_more_of_them(records, trained, within, rates):
    for seed, rate in enumerate(rates):
        trained(f"table1/R0{f'-s{seed}' * bool(seed)}", seed, rate=rate, flipped=int(99.16 * rate))
    group = only_group(records)
    low, high = prediction_interval(np.array(rates))

    found = claim_of(group, "FGS rate")

    assert (found.ours, found.seeds) == (pytest.approx(np.mean(rates)), 3)
    assert found.interval == pytest.approx((low - 90.33, high - 90.33))
    assert found.agreement == ("agrees" if within else "differs")
    assert {claim.model for claim in claims(group)} == {"R0"}
    notes = claim_table(group, frames_of([group])).notes
    assert f"1 are judged by 3 seeds, of which {int(within)} agree." in notes[0]
    assert any("it is the prediction interval" in note for note in notes)


def test_rows_that_are_trained_alike_share_their_seeds_and_a_seed_counts_once(records, trained):
    trained("table1/R0", 0, rate=90.0)
    trained("table1/R1", 1, rate=92.0)
    trained("table1/R0-s1", 1, rate=92.0)
    trained("table1/R0-s2", 2, rate=94.0)
    group = only_group(records)

    rates = [claim_of(group, "FGS rate", model) for model in ("R0", "R1")]

    assert [(claim.published, claim.ours, claim.seeds) for claim in rates] == [(90.33, 92.0, 3), (91.41, 92.0, 3)]
    assert len(claims(group)) == 14


def test_a_number_that_only_one_seed_has_is_judged_by_its_images(records, trained):
    trained("table1/R0", 0)
    trained("table1/R0-s1", 1)
    trained("table1/R0-s1", 1, "hc1")
    group = only_group(records)

    assert claim_of(group, "FGS rate").seeds == 2
    assert claim_of(group, "FGS rate").agreement == "no interval"  # both seeds give the same number
    assert claim_of(group, "HC1 rate").seeds == 1
    assert claim_of(group, "HC1 rate").interval == newcombe_interval(9893, 9916, 9869, 9916)
