"""Two models image by image, in numbers and in words."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from bangbench.core.errors import BenchError
from bangbench.core.statistics import wilson_interval
from bangbench.reporting.collect import collect
from bangbench.reporting.comparison import common_attacks, compare, p_text, paragraph
from bangbench.reporting.groups import group_records
from bangbench.reporting.per_image import AttackRows

IMAGES = 100


def rows_of(attacked, flipped, linf=10.0, score=0.5):
    """Return rows in which the images `attacked` are correct and those of them in `flipped` are flipped."""
    attacked, flipped = np.asarray(attacked, bool), np.asarray(flipped, bool) & np.asarray(attacked, bool)
    count = len(attacked)
    unknown = np.full(count, np.nan)
    linf, score = (np.where(flipped, values, np.nan) for values in (linf, score))
    return AttackRows(
        indices=np.arange(count),
        attacked=attacked,
        flipped=flipped,
        linf=linf,
        pass_definition=score,
        margin=unknown,
        true_logit=unknown,
    )


def first(count, images=IMAGES):
    """Return flags that are set for the first `count` images."""
    return np.arange(images) < count


def pair(records, **attacks):
    """Return R0 and B1; `attacks` maps names (with _ for -) to the rows of both, None for no Parquet file."""
    models = {"table1/R0": {}, "table1/B1": {}}
    for attack, rows in attacks.items():
        for name, part in zip(models, rows, strict=True):
            records.attack(name, attack.replace("_", "-"))
            models[name][attack.replace("_", "-")] = part
    (group,) = group_records(collect(records.root, ())).groups
    return tuple(
        model._replace(
            attacks={
                attack: found._replace(rows=models[model.name].get(attack)) for attack, found in model.attacks.items()
            }
        )
        for model in group.models
    )


ALL = first(IMAGES)


def test_rates_are_of_the_images_that_both_classify_correctly(records):
    odd = np.arange(IMAGES) % 2 == 1
    found = compare(*pair(records, fgs=(rows_of(first(90), first(60)), rows_of(~first(10), odd))))

    (attack,) = found.attacks
    assert found.images == 100
    assert found.accuracy.first[:3] == (90, 100, 90.0)
    assert found.accuracy.second[:3] == (90, 100, 90.0)
    assert attack.images == 80
    assert attack.rates.first == (50, 80, 62.5, wilson_interval(50, 80))
    assert attack.rates.second == (40, 80, 50.0, wilson_interval(40, 80))
    assert attack.rates.difference.value == pytest.approx(12.5)
    assert attack.rates.p_value == pytest.approx(2 * binom.cdf(15, 40, 0.5))
    assert attack.both_flipped == 25


def test_distances_are_averaged_over_the_images_flipped_in_both(records):
    linf = np.arange(IMAGES, dtype=float)
    one = rows_of(ALL, first(40), linf=linf, score=0.7)
    other = rows_of(ALL, ~first(20), linf=2 * linf, score=0.6)

    (attack,) = compare(*pair(records, fgs=(one, other))).attacks

    assert attack.both_flipped == 20
    assert (attack.linf.first, attack.linf.second) == (29.5, 59.0)
    assert attack.linf.difference.value == -29.5
    low, high = attack.linf.difference.interval
    assert -33.0 < low < -29.5 < high < -26.0
    assert attack.pass_definition[:2] == pytest.approx((0.7, 0.6))


def test_quartiles_count_failures_as_infinite(records):
    linf = np.arange(IMAGES, dtype=float)

    (attack,) = compare(*pair(records, fgs=(rows_of(ALL, ALL, linf), rows_of(ALL, first(60), linf)))).attacks

    assert attack.first_quartiles == (24.5, 49.5, 74.5)
    assert attack.second_quartiles == (24.5, 49.5, np.inf)


def test_only_attacks_with_single_images_of_both_are_compared(records):
    rows = rows_of(ALL, first(50))
    models = pair(records, hc1=(rows, rows), fgs=(rows, rows), zoo=(rows, None))

    assert common_attacks(*models) == ["fgs", "hc1"]
    assert [attack.attack for attack in compare(*models).attacks] == ["fgs", "hc1"]
    assert compare(*models).attack("zoo") is None


def test_without_rows_the_error_says_what_is_there_and_what_to_run(records):
    models = pair(records, fgs=(rows_of(ALL, ALL), None))

    with pytest.raises(BenchError) as caught:
        compare(*models)

    assert "table1/R0: fgs; table1/B1: none" in str(caught.value)
    assert "bangbench attack table1/R0 table1/B1" in str(caught.value)


def test_other_images_are_refused(records):
    rows = rows_of(ALL, ALL)
    one, other = pair(records, fgs=(rows, rows._replace(indices=rows.indices[::-1])))

    with pytest.raises(BenchError, match="to be measured on the same images"):
        compare(one, other)


def test_other_data_of_the_same_size_are_refused(records):
    rows = rows_of(ALL, ALL)
    one, other = pair(records, fgs=(rows, rows))
    found = other.attacks["fgs"]
    data = found.record.data.model_copy(update={"fingerprint": "00" * 32, "name": "digits"})
    found = found._replace(record=found.record.model_copy(update={"data": data}))

    with pytest.raises(BenchError, match=r"found 10,000 images of mnist \(.{8}\) and 10,000 images of digits \(0{8}\)"):
        compare(one, other._replace(attacks={"fgs": found}))


def test_a_clear_difference_is_put_into_words_with_its_numbers(records):
    wave = np.arange(IMAGES) % 2 - 0.5
    smaller = rows_of(ALL, first(30), 20.0 + wave, 0.8 + 0.01 * wave)
    text = paragraph(compare(*pair(records, zoo=(rows_of(ALL, first(90), 40.0), smaller))))

    assert "R0 and B1 on the same 100 test images of mnist" in text
    assert (
        "zoo flips 90.00 % of them for R0 and 30.00 % for B1: R0 is flipped more often, by 60.00 [50.20, 69.06]" in text
    )
    assert "points, p < 0.001" in text
    assert "Over the 30 images flipped in both: mean L∞ 40.00 and 20.00 grey levels (R0 takes the larger change" in text
    assert "B1 has the adversarial images closer to the originals, by 0.3000 [0.2980, 0.3020]" in text
    assert "Median L∞ with failures as infinite: 40.00 and ∞." in text
    assert "\n" not in text


def test_the_order_of_the_models_turns_no_words_round(records):
    one, other = pair(records, zoo=(rows_of(ALL, first(90)), rows_of(ALL, first(30))))

    text = paragraph(compare(other, one))

    assert "30.00 % of them for B1 and 90.00 % for R0: R0 is flipped more often, by 60.00 [50.20, 69.06] points" in text


def test_no_model_is_put_above_the_other_where_the_interval_includes_zero(records):
    noise = np.where(np.arange(IMAGES) % 2 == 0, 1.0, -1.0)
    one = rows_of(first(98), first(50), 30.0 + noise, 0.5 + noise / 100)
    other = rows_of(~first(3), first(53), 30.0, 0.5)

    text = paragraph(compare(*pair(records, zoo=(one, other))))

    assert text.count("no difference can be told") == 4
    for word in ("more often", "larger change", "closer", "more of them"):
        assert word not in text


def test_four_images_that_differ_are_no_evidence_though_the_interval_says_so(records):
    found = compare(*pair(records, zoo=(rows_of(ALL, first(54)), rows_of(ALL, first(50)))))

    rates = found.attacks[0].rates
    assert rates.difference.interval[0] > 0.0
    assert rates.p_value == pytest.approx(0.125)
    assert not rates.differ
    assert "4.00 [0.15, 9.84] points, p = 0.125: no difference can be told" in paragraph(found)


def test_a_few_images_flipped_in_both_give_no_interval_of_distances(records):
    text = paragraph(compare(*pair(records, zoo=(rows_of(ALL, first(90), 40.0), rows_of(ALL, first(3), 20.0)))))

    assert "20.00, no interval from so few images" in text
    assert "larger change" not in text


def test_the_unmasked_twin_speaks_first(records):
    masked = rows_of(ALL, first(90)), rows_of(ALL, first(2))
    unmasked = rows_of(ALL, first(93)), rows_of(ALL, ALL)

    text = paragraph(compare(*pair(records, fgs=masked, fgs_unmasked=unmasked)))

    warning = "fgs flips fewer of them than fgs-unmasked, the same attack with a gradient that cannot underflow: "
    spoken = [
        f"{warning}B1 2.00 % against 100.00 %. The gap comes from vanished gradients: a low rate under fgs is no "
        "robustness there.",
        "fgs-unmasked flips 93.00 % of them for R0 and 100.00 % for B1: B1 is flipped more often, by 7.00 [3.04",
        "fgs flips 90.00 % of them for R0 and 2.00 % for B1: R0 is flipped more often, by 88.00 [",
    ]
    places = [text.find(part) for part in spoken]
    assert -1 not in places
    assert all(before < after for before, after in pairwise(places))


def test_a_twin_that_flips_no_more_is_said_to(records):
    same = rows_of(ALL, first(90)), rows_of(ALL, first(60))

    text = paragraph(compare(*pair(records, hc1=same, hc1_unmasked=same)))

    assert "mended, flips at most 5 points more than hc1 on either model." in text
    assert "no robustness" not in text


def test_an_attack_without_a_twin_needs_none(records):
    rows = rows_of(ALL, first(90))

    assert "unmasked" not in paragraph(compare(*pair(records, fgs=(rows, rows))))
    assert "flips at most" not in paragraph(compare(*pair(records, zoo_unmasked=(rows, rows))))


def test_models_that_are_correct_on_no_common_image_cannot_be_compared(records):
    found = compare(*pair(records, fgs=(rows_of(first(50), ALL), rows_of(~first(50), ALL))))

    assert found.attacks[0].rates.difference is None
    assert found.attacks[0].linf is None
    assert paragraph(found).endswith("No image is classified correctly by both, so their attacks cannot be compared.")


def test_images_without_pass_are_compared_by_the_rest(records):
    rows = rows_of(ALL, ALL, score=np.nan)

    found = compare(*pair(records, fgs=(rows, rows)))

    assert found.attacks[0].pass_definition is None
    assert found.attacks[0].linf is not None
    assert "PASS" not in paragraph(found)


def test_a_comparison_can_be_pickled(records):
    found = compare(*pair(records, fgs=(rows_of(ALL, ALL), rows_of(ALL, first(3)))))

    assert pickle.loads(pickle.dumps(found)) == found


def test_the_same_difference_in_every_image_has_no_interval(records):
    found = compare(*pair(records, fgs=(rows_of(ALL, ALL, 30.0), rows_of(ALL, ALL, 10.0))))

    assert found.attacks[0].linf.difference == (20.0, None)
    assert "20.00, no interval from so few images or from the same difference in each" in paragraph(found)


@pytest.mark.parametrize(("p_value", "text"), [(0.0, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (1.0, "1.000")])
def test_a_p_value_is_never_printed_as_zero(p_value, text):
    assert p_text(p_value) == text
