"""Figure 1 and the galleries: which models and images they show, what stands beneath, and when there is none."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from bangbench.reporting.collect import FoundAttack
from bangbench.reporting.figures import style
from bangbench.reporting.figures.examples import draw_sheet, example_plots, shortened
from bangbench.reporting.groups import Group, ModelResults
from bangbench.reporting.per_image import AttackRows
from bangbench.store.examples import Examples
from bangbench.store.records import AttackRecord

SIDE = 6
GREY = (1, SIDE, SIDE)


def examples_of(linf, labels, *, shape=GREY, first=0):
    """Return images of one grey level each, changed by `linf` in one pixel; None is a failure."""
    count = len(linf)
    flipped = np.array([value is not None for value in linf], dtype=bool)
    original = np.zeros((count, *shape), dtype=np.uint8) + np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    adversarial = original.copy()
    adversarial[:, 0, 0, 0] += np.array([value or 0 for value in linf], dtype=np.uint8)
    adversarial[~flipped] = 0
    order = np.argsort([np.inf if value is None else value for value in linf], kind="stable")[: flipped.sum()]
    ranks = np.full(count, -1)
    ranks[order] = np.arange(len(order))
    predictions = np.where(flipped, (np.array(labels) + 1) % 10, -1)
    indices, labels = np.arange(first, first + count), np.array(labels)
    return Examples(indices, original, adversarial, flipped, labels, predictions, ranks)


def rows_of(examples, wrong=()):
    """Return the rows of these images, and of those in `wrong`, which were not attacked; PASS is 0.5."""
    indices = np.concatenate([examples.indices, np.array(wrong, dtype=np.int64)])
    attacked = np.concatenate([np.ones(len(examples.indices), bool), np.zeros(len(wrong), bool)])
    numbers = np.full(len(indices), np.nan)
    flipped = np.concatenate([examples.flipped, np.zeros(len(wrong), bool)])
    passes = np.where(flipped, 0.5, np.nan)
    return AttackRows(indices, attacked, flipped, numbers, pass_definition=passes, margin=numbers, true_logit=numbers)


@pytest.fixture
def group_of(records):
    """Return a function that builds a group from {model: {attack: examples, or (examples, rows), or None}}."""

    def build(models, methods=None, class_names=None):
        results, data = [], None
        for name, attacks in models.items():
            found = {}
            for attack, kept in attacks.items():
                examples, rows = kept if type(kept) is tuple else (kept, None)
                count = 0 if examples is None else int(examples.flipped.sum())
                correct = 0 if examples is None else len(examples.indices)
                changes = {} if methods is None else {"method": methods[name]}
                path = records.attack(f"table1/{name}", attack, flipped=count, correct=correct, **changes)
                record = AttackRecord.model_validate_json(path.read_text(encoding="utf-8"))
                found[attack] = FoundAttack(f"table1/{name}", path, record, record.summary, rows, examples)
            record = next(iter(found.values())).record
            data = record.data if class_names is None else record.data.model_copy(update={"class_names": class_names})
            results.append(ModelResults(f"table1/{name}", record.model, found))
        return Group("table1", data, tuple(results), (), ())

    return build


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def pictures(figure):
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


@pytest.fixture
def pair(group_of):
    """Two classes: of class 0 both models flip image 1, of class 1 only the regular one flips image 2."""
    regular = examples_of([None, 40, 60], [0, 0, 1])
    bang = examples_of([200, 90, None], [0, 0, 1])
    return group_of({"R0": {"hc1": (regular, rows_of(regular))}, "B1": {"hc1": (bang, rows_of(bang))}})


def test_two_models_give_a_comparison_and_two_galleries(pair):
    plots = example_plots(pair)

    assert [plot.name for plot in plots] == [
        "table1-examples-hc1",
        "table1-gallery-R0-hc1",
        "table1-gallery-B1-hc1",
    ]
    assert {plot.section for plot in plots} == {"examples"}


def test_the_image_of_a_class_is_the_first_that_both_models_were_flipped_on(pair):
    figure = style.draw(example_plots(pair)[0])

    original = pictures(figure)[:2]
    assert [int(picture[1, 1]) for picture in original] == [1, 2]
    assert texts(figure) == [
        *("0", "1"),
        "original",
        *("R0\nHC1", "PASS 0.500\nL∞ 40", "PASS 0.500\nL∞ 60"),
        "R0\nperturbation",
        *("B1\nHC1", "PASS 0.500\nL∞ 90", "never\nflipped"),
        "B1\nperturbation",
    ]
    # two originals, R0's two images and two perturbations, B1's one of each
    assert len(pictures(figure)) == 8


def test_perturbations_are_signed_and_on_one_scale_around_zero(pair):
    figure = style.draw(example_plots(pair)[0])

    changes = [image for image in figure.axes[0].images if np.asarray(image.get_array()).dtype == np.int16]
    assert [int(np.asarray(image.get_array()).max()) for image in changes] == [40, 60, 90]
    assert {image.get_clim() for image in changes} == {(-90, 90)}
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["−90", "0", "90"]  # noqa: RUF001
    assert figure.axes[1].get_ylabel() == "grey levels"


def test_caption_and_alternative_state_counts_and_units(pair):
    comparison, gallery, _ = example_plots(pair)

    assert "R0 (regular) and B1 (BANG)" in comparison.caption
    assert "R0 2 of 3; B1 2 of 3." in comparison.caption
    assert "from -90 to 90 grey levels" in comparison.caption
    assert "PASS to the original (the written definition) and L∞ in grey levels" in comparison.caption
    assert "Classes without an example: 8." in comparison.caption
    assert comparison.alternative.endswith(
        "R0: 2 flipped, L∞ 40 to 60 grey levels, PASS 0.500 to 0.500. "
        "B1: 1 flipped, L∞ 90 to 90 grey levels, PASS 0.500 to 0.500."
    )
    assert "HC1 against R0 (regular) on mnist: 2 of 3 attacked images were flipped." in gallery.caption
    assert "easiest 40 to 60" in gallery.alternative


def test_distances_and_scores_in_words_are_those_of_the_same_pictures(group_of):
    regular, bang = examples_of([5, 7], [0, 1]), examples_of([9], [0])
    rows = rows_of(examples_of([9, 7], [0, 1]))
    scored = rows._replace(pass_definition=np.array([0.25, 0.75]))
    group = group_of({"R0": {"hc1": regular}, "B1": {"hc1": (bang, scored)}})

    assert example_plots(group)[0].alternative.endswith("B1: 1 flipped, L∞ 9 to 9 grey levels, PASS 0.250 to 0.250.")


def test_another_package_s_attack_keeps_its_name(group_of):
    (gallery,) = example_plots(group_of({"R0": {"rfgsm": examples_of([9], [0])}}))

    assert gallery.title == "rfgsm against R0: the easiest and the hardest images"


def test_one_class_is_one_class(group_of):
    (comparison, _) = example_plots(group_of({"R0": {"hc1": examples_of([9], [0])}}))

    assert "one column per class (1 class):" in comparison.alternative


def test_without_rows_the_distance_comes_from_the_pixels_alone(group_of):
    (comparison, *_) = example_plots(group_of({"R0": {"hc1": examples_of([12], [3])}}))

    figure = style.draw(comparison)
    assert "L∞ 12" in texts(figure)
    assert "PASS" not in "".join(texts(figure)) + comparison.caption


def test_an_image_that_one_model_lacks_is_said_to_be_misclassified_where_that_is_known(group_of):
    regular, bang = examples_of([5], [0]), examples_of([8], [1], first=7)
    known = {"R0": {"hc1": (regular, rows_of(regular))}, "B1": {"hc1": (bang, rows_of(bang, wrong=[0]))}}
    assert "mis-\nclassified" in texts(style.draw(example_plots(group_of(known))[0]))

    unknown = {"R0": {"hc1": regular}, "B1": {"hc1": bang}}
    assert texts(style.draw(example_plots(group_of(unknown))[0])).count("not\nkept") == 2


def test_the_models_are_the_first_regular_one_and_b1(group_of):
    kept = examples_of([9], [0])
    names = {name: {"hc1": kept} for name in ("R1", "R0", "B0", "B1", "B2")}
    assert [plot.name for plot in example_plots(group_of(names))][1:] == [
        "table1-gallery-R1-hc1",
        "table1-gallery-B1-hc1",
    ]
    others = {name: {"hc1": kept} for name in ("own", "other")}
    plots = example_plots(group_of(others, methods={"own": None, "other": "bang"}))
    assert [plot.name for plot in plots] == ["table1-examples-hc1", "table1-gallery-own-hc1"]
    assert plots[0].title == "HC1 against own: an image of each class"


def test_a_model_without_examples_is_passed_over(group_of):
    kept, none = examples_of([9], [0]), examples_of([], [])
    group = group_of({"R0": {"hc1": None}, "R1": {"hc1": kept}, "B1": {"hc1": none}, "B2": {"hc1": kept}})
    assert [plot.name for plot in example_plots(group)][1:] == ["table1-gallery-R1-hc1", "table1-gallery-B2-hc1"]


def test_without_examples_there_is_nothing_to_draw(group_of):
    assert example_plots(group_of({"R0": {"hc1": None, "fgs": None}})) == []


def test_only_fgs_and_hc1_are_compared_and_another_attack_has_a_gallery(group_of):
    kept = examples_of([9], [0])
    plots = example_plots(group_of({"R0": {"fgs": kept, "own-attack": kept}, "B1": {"own-attack": kept}}))
    assert [plot.name for plot in plots] == [
        "table1-examples-fgs",
        "table1-gallery-R0-fgs",
        "table1-gallery-B1-own-attack",
    ]


def test_nothing_flipped_leaves_no_comparison_and_a_gallery_of_failures(group_of):
    (gallery,) = example_plots(group_of({"R0": {"fgs": examples_of([None, None], [4, 5])}}))

    assert texts(style.draw(gallery)) == ["failures", "4\nnot flipped", "5\nnot flipped"]
    assert "0 of 2 attacked images were flipped" in gallery.caption
    assert "Too few were flipped for these lines: easiest, median, hardest." in gallery.caption


def test_a_model_that_was_never_flipped_has_no_line_of_perturbations(group_of):
    group = group_of({"R0": {"fgs": examples_of([9], [0])}, "B1": {"fgs": examples_of([None], [0])}})
    comparison = example_plots(group)[0]
    assert texts(style.draw(comparison))[-2:] == ["B1\nFGS", "never\nflipped"]
    assert comparison.alternative.endswith("B1: none of these images was flipped.")


def gallery_lines(figure):
    """Return the L_inf beneath the pictures of each line, by the line's name."""
    lines = {}
    for text in texts(figure):
        if "\n" not in text:
            values = lines[text] = []
        else:
            values.append(text.splitlines()[0].removeprefix("L∞ "))
    return lines


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (3, {"easiest": range(1, 4)}),
        (11, {"easiest": range(1, 9), "hardest": range(9, 12)}),
        (20, {"easiest": range(1, 9), "median": range(9, 13), "hardest": range(13, 21)}),
        (60, {"easiest": range(1, 9), "median": range(27, 35), "hardest": range(53, 61)}),
    ],
)
def test_a_gallery_shows_each_image_once_in_the_order_of_its_distance(group_of, count, expected):
    linf = (np.random.default_rng(count).permutation(count) + 1).tolist()
    (_, gallery) = example_plots(group_of({"R0": {"hc1": examples_of(linf, [0] * count)}}))

    found = gallery_lines(style.draw(gallery))

    assert found == {name: [str(value) for value in values] for name, values in expected.items()}
    assert gallery.caption.count("there are no failures") == 1
    assert ("Too few were flipped" in gallery.caption) == (len(expected) < 3)


def test_true_and_seen_class_stand_beneath_and_long_names_take_two_lines(group_of):
    names = ("automobile", "airplane", *map(str, range(2, 10)))
    group = group_of({"R0": {"hc1": examples_of([7, 9], [0, 2])}}, class_names=names)

    figure = style.draw(example_plots(group)[1])

    assert texts(figure) == ["easiest", "L∞ 7\nautomobile →\nairplane", "L∞ 9\n2 → 3"]


def test_colour_images_keep_their_colours_and_their_changes_are_centred_on_grey(group_of):
    kept = examples_of([51], [0], shape=(3, SIDE, SIDE + 2))
    comparison = example_plots(group_of({"R0": {"hc1": kept}}))[0]

    original, adversarial, change = pictures(style.draw(comparison))

    assert original.shape == (SIDE, SIDE + 2, 3)
    assert adversarial[0, 0].tolist() == [51, 0, 0]
    assert change[0, 0].tolist() == [255, 128, 128]
    assert "127.5 + 127.5 change / 51 in each channel" in comparison.caption


def test_more_than_ten_classes_are_cut_and_counted(group_of):
    kept = examples_of([5] * 12, list(range(12)))
    group = group_of({"R0": {"hc1": kept}}, class_names=tuple(f"class {number}" for number in range(12)))
    comparison = example_plots(group)[0]

    titles = [text for text in texts(style.draw(comparison)) if text.startswith("class")]
    assert titles == [f"class {number}" for number in range(10)]
    assert "The first 10 of 12 classes with examples." in comparison.caption


def overlaps(figure):
    """Return the pairs of texts that touch, and texts that leave the figure."""
    renderer = figure.canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.axes[0].texts if text.get_text()]
    pairs = [(a, b) for number, (a, box) in enumerate(boxes) for b, other in boxes[:number] if box.overlaps(other)]
    inside = figure.bbox
    return pairs + [a for a, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > inside.x1 or box.y1 > inside.y1]


def test_no_text_touches_another_or_the_edge_even_with_long_names(group_of):
    names = tuple(f"wwwwwwwwwwwwww mmmmmmmm {number}" for number in range(10))
    kept = examples_of([200] * 10, list(range(10)))
    kept = kept, rows_of(kept)
    group = group_of(
        {"an_own_network_of_a_very_long_name": {"hc1": kept}, "B1": {"hc1": kept}},
        methods={"an_own_network_of_a_very_long_name": "regular", "B1": "bang"},
        class_names=names,
    )
    for plot in example_plots(group):
        assert overlaps(style.draw(plot)) == [], plot.name


def test_a_dollar_in_a_class_name_is_no_formula(group_of):
    group = group_of({"R0": {"hc1": examples_of([7], [0])}}, class_names=("$5_{$", *map(str, range(1, 10))))
    assert "$5_{$" in texts(style.draw(example_plots(group)[0]))


def test_a_plot_can_be_sent_to_another_process(pair):
    plot = example_plots(pair)[0]
    again = pickle.loads(pickle.dumps(plot))
    assert again.draw.func is draw_sheet
    assert texts(style.draw(again)) == texts(style.draw(plot))


def test_text_is_broken_into_lines_and_cut_with_an_ellipsis():
    assert shortened("R0\nHC1", 13, 4) == "R0\nHC1"
    assert shortened("red fox squirrel", 10, 2) == "red fox\nsquirrel"
    assert shortened("abcdefghijkl", 10, 1) == "abcdefghi…"
