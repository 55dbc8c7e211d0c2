"""Which images are kept as examples, and that they are the images of the run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bangbench.attacks import run
from bangbench.attacks.examples import FAILURES, PER_CLASS, PER_PART, choose_examples
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.nets.models import open_model
from bangbench.nets.predict import predict
from bangbench.store.examples import read_examples
from bangbench.store.tables import read_table


def planted(labels, linf, first=0):
    """Return columns, images and adversarial images of one pixel: linf None is a failure, "wrong" not attacked."""
    count = len(linf)
    attacked = np.array([value != "wrong" for value in linf])
    flipped = np.array([value not in (None, "wrong") for value in linf], dtype=bool)
    change = np.array([value if flip else np.nan for value, flip in zip(linf, flipped, strict=True)], dtype=np.float32)
    columns = {
        "index": np.arange(first, first + count, dtype=np.int32),
        "label": np.array(labels, dtype=np.int16),
        "attacked": attacked,
        "flipped": flipped,
        "linf": change,
        "adversarial_prediction": np.where(flipped, np.array(labels) + 1, -1).astype(np.int16),
    }
    images = (np.arange(count) % 50).astype(np.uint8).reshape(-1, 1, 1, 1)
    adversarial = images[flipped] + change[flipped].astype(np.uint8).reshape(-1, 1, 1, 1)
    return columns, images, adversarial


def test_the_easiest_the_typical_and_the_hardest_are_kept():
    linf = np.random.default_rng(0).permutation(101) + 1
    examples = choose_examples(*planted([0] * 101, linf.tolist()))

    kept = set(linf[examples.indices].tolist())

    first = set(linf[:PER_CLASS].tolist())
    assert PER_PART == 10
    assert kept == first | set(range(1, 11)) | set(range(46, 56)) | set(range(92, 102))
    assert examples.ranks.tolist() == (linf[examples.indices] - 1).tolist()
    assert examples.linf().tolist() == linf[examples.indices].tolist()


def test_of_images_with_the_same_linf_the_order_is_that_of_the_indices():
    examples = choose_examples(*planted([0] * 60, [7] * 60))

    assert examples.indices.tolist() == [*range(10), *range(25, 35), *range(50, 60)]
    assert examples.ranks.tolist() == examples.indices.tolist()


def test_the_first_attacked_images_of_each_class_are_kept():
    labels = [2, 2, 2, 2, 0, 0, 5] + [2] * 40 + [0] * 3
    linf = ["wrong", 50, 50, 50, 50, "wrong", 50, *[1] * 20, *[99] * 20, 50, 50, 50]
    examples = choose_examples(*planted(labels, linf))

    # 4 and the two after the misclassified 5 are class 0, 6 is alone in class 5
    assert {1, 2, 3, 4, 6, 47, 48} <= set(examples.indices.tolist())
    assert 0 not in examples.indices
    assert 5 not in examples.indices
    assert PER_CLASS == 3


def test_the_first_failures_are_kept_without_an_adversarial_image():
    examples = choose_examples(*planted([0] * 40, [9] * 5 + [None] * 35))

    failed = examples.indices[~examples.flipped].tolist()
    assert failed == list(range(5, 5 + FAILURES))
    assert not examples.adversarial[~examples.flipped].any()
    assert set(examples.predictions[~examples.flipped]) == {-1}
    assert set(examples.ranks[~examples.flipped]) == {-1}
    assert examples.labels[~examples.flipped].tolist() == [0] * FAILURES


def test_each_example_has_its_own_pixels_label_and_prediction():
    labels = [number % 4 for number in range(90)]
    linf = [None if number % 7 == 0 else "wrong" if number % 11 == 0 else 5 + number for number in range(90)]
    columns, images, adversarial = planted(labels, linf, first=500)
    examples = choose_examples(columns, images, adversarial)

    places = examples.indices - 500
    assert (np.diff(examples.indices) > 0).all()
    assert examples.original.tolist() == images[places].tolist()
    assert examples.flipped.tolist() == columns["flipped"][places].tolist()
    assert examples.labels.tolist() == [labels[place] for place in places]
    flipped = examples.flipped
    assert examples.linf()[flipped].tolist() == [linf[place] for place in places[flipped]]
    assert examples.predictions[flipped].tolist() == [labels[place] + 1 for place in places[flipped]]


@pytest.mark.parametrize("linf", [[3, 1, 2], [4, None, 2], [None, None, None]])
def test_all_are_kept_where_there_are_fewer_than_asked_for(linf):
    examples = choose_examples(*planted([0, 0, 1], linf))

    assert examples.indices.tolist() == [0, 1, 2]
    assert examples.flipped.tolist() == [value is not None for value in linf]
    order = sorted(value for value in linf if value is not None)
    assert examples.ranks.tolist() == [-1 if value is None else order.index(value) for value in linf]


def test_a_model_that_is_always_wrong_has_no_examples():
    examples = choose_examples(*planted([0, 1], ["wrong", "wrong"]))

    assert examples.original.shape == examples.adversarial.shape == (0, 1, 1, 1)
    assert examples.linf().tolist() == []


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    """Run FGS on a few digits in chunks of 8 without keeping all images; return the folder of the results."""
    root = tmp_path_factory.mktemp("examples")
    spec = AttackSpec(
        model=str(trained.root / "models/tiny"), root=root, attack=("fgs",), limit=24, device="cpu", workers=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CHUNK", 8)
        attack(spec)
    return root / "results/tiny"


def test_examples_differ_from_the_test_images_by_exactly_what_the_rows_say(measured, digits):
    examples = read_examples(measured / "fgs-examples.npz")
    rows = read_table(measured / "fgs.parquet").to_pydict()

    flipped = examples.flipped
    assert flipped.any()
    assert examples.original.tolist() == digits.images[examples.indices].tolist()
    change = np.abs(examples.adversarial.astype(int) - examples.original).max(axis=(1, 2, 3))
    assert change[flipped].tolist() == [rows["linf"][index] for index in examples.indices[flipped]]
    assert flipped.tolist() == [rows["flipped"][index] for index in examples.indices]
    assert all(rows["attacked"][index] for index in examples.indices)
    assert not (measured / "fgs.npz").exists()


def test_every_flipped_example_is_given_the_stored_class_when_it_is_predicted_again(measured, trained, digits):
    examples = read_examples(measured / "fgs-examples.npz")
    classifier = open_model("tiny", trained.root, torch.device("cpu")).classifier

    again = predict(classifier, torch.from_numpy(examples.adversarial[examples.flipped])).numpy()

    assert again.tolist() == examples.predictions[examples.flipped].tolist()
    assert (again != digits.labels[examples.indices[examples.flipped]]).all()
    assert examples.labels.tolist() == digits.labels[examples.indices].tolist()
