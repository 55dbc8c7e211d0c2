"""The authors' released LeNets on MNIST, beside what the paper and the protocol say of them.

The subset runs with the other tests; the whole test set takes minutes (`pytest -m parity`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bangbench.attacks.run import attack
from bangbench.attacks.spec import STANDARD_ATTACKS, AttackSpec
from bangbench.store.records import AttackSummary

pytestmark = pytest.mark.data

R0, B1 = "lenet", "lenet_bang"

#: (model, attack) -> images, correct, flipped, blank, mean L_inf, mean pass, mean pass_paper on the first images.
SUBSET = {
    (R0, "fgs"): (300, 300, 284, 16, 39.018, 0.3996, 0.3979),
    (R0, "fgs-unmasked"): (300, 300, 300, 0, 40.087, 0.3980, 0.3966),
    (R0, "hc1"): (100, 100, 100, 0, 114.28, 0.7606, 0.7428),
    (B1, "fgs"): (300, 299, 6, 293, 5.5, 0.7250, 0.7237),
    (B1, "fgs-unmasked"): (300, 299, 299, 0, 39.609, 0.3930, 0.3926),
    (B1, "hc1"): (100, 99, 95, 0, 200.26, 0.5697, 0.4561),
    (B1, "hc1-unmasked"): (100, 99, 99, 0, 125.78, 0.7512, 0.7290),
}
#: Those that are quick enough to be measured on every kind of processor.
QUICK = ((R0, "fgs"), (R0, "hc1"), (B1, "fgs"), (B1, "fgs-unmasked"))

#: (model, attack, number) -> the range it must lie in.
FULL = {
    (R0, "fgs", "accuracy"): (99.16, 99.16),
    (R0, "fgs", "rate"): (90.28, 90.38),
    (R0, "fgs", "linf"): (40.3, 40.7),
    (R0, "fgs", "pass_paper"): (0.4072 - 0.005, 0.4072 + 0.005),
    (R0, "fgs", "pass"): (0.4078 - 0.005, 0.4078 + 0.005),
    (R0, "fgs-unmasked", "rate"): (99.88, 99.98),
    (R0, "fgs-unmasked", "linf"): (42.2, 42.6),
    (R0, "fgs-unmasked", "blank"): (0.0, 0.0),
    (R0, "hc1", "rate"): (99.1, 99.9),
    (R0, "hc1", "linf"): (121.1, 124.1),
    (R0, "hc1", "pass_paper"): (0.7535 - 0.005, 0.7535 + 0.005),
    (R0, "hc1", "pass"): (0.7646 - 0.005, 0.7646 + 0.005),
    (B1, "fgs", "accuracy"): (99.22, 99.22),
    (B1, "fgs", "rate"): (1.63, 1.73),
    (B1, "fgs", "linf"): (5.4, 5.6),
    (B1, "fgs", "pass_paper"): (0.7638 - 0.005, 0.7638 + 0.005),
    (B1, "fgs", "pass"): (0.7666 - 0.005, 0.7666 + 0.005),
    (B1, "fgs-unmasked", "rate"): (99.9, 100.0),
    (B1, "fgs-unmasked", "linf"): (40.2, 40.6),
    (B1, "fgs-unmasked", "blank"): (0.0, 0.0),
    (B1, "hc1", "rate"): (91.0, 97.0),
    (B1, "hc1", "linf"): (196.0, 208.0),
    (B1, "hc1", "pass_paper"): (0.488 - 0.015, 0.488 + 0.015),
    (B1, "hc1", "pass"): (0.5882 - 0.005, 0.5882 + 0.005),
    (B1, "hc1-unmasked", "rate"): (99.5, 100.0),
    (B1, "hc1-unmasked", "linf"): (117.0, 125.0),
}

Measure = Callable[..., dict[str, AttackSummary]]


@pytest.fixture(scope="module")
def data_dir() -> Path:
    """The directory of the full data sets; skips where it or the released weights are missing."""
    directory = os.environ.get("BANGBENCH_DATA")
    if not directory:
        pytest.skip("BANGBENCH_DATA is not set")
    for name in ("authors/lenet.caffemodel.h5", "authors/lenet_bang.caffemodel.h5", "mnist"):
        if not (Path(directory) / name).exists():
            pytest.skip(f"no {name} in BANGBENCH_DATA")
    return Path(directory)


@pytest.fixture(scope="module")
def measure(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Run attacks on one of the models, or return what an earlier test measured."""
    root = tmp_path_factory.mktemp("parity")

    def run(stem: str, attacks: tuple[str, ...], limit: int | None) -> dict[str, AttackSummary]:
        model = data_dir / "authors" / f"{stem}.caffemodel.h5"
        given = {"model": str(model), "attack": attacks, "limit": limit, "data_dir": data_dir}
        spec = AttackSpec(**given, root=root / str(limit), workers=1 if limit else None)
        records = attack(spec)
        return {record.attack: record.summary for record in records if record.summary is not None}

    return run


def number_of(summary: AttackSummary, name: str) -> float | None:
    if name in ("accuracy", "rate", "blank"):
        value: float | None = getattr(summary, name)
        return value
    return {"linf": summary.linf, "pass": summary.pass_definition, "pass_paper": summary.pass_paper}[name].mean


@pytest.mark.parametrize(
    ("stem", "name"), [pytest.param(*key, marks=pytest.mark.exact if key in QUICK else ()) for key in SUBSET]
)
def test_the_first_images_give_what_they_always_gave(measure: Measure, stem: str, name: str) -> None:
    images, correct, flipped, blank, linf, definition, paper = SUBSET[stem, name]
    summary = measure(stem, (name,), images)[name]
    assert (summary.images, summary.correct) == (images, correct)
    # whatever the processor: a last bit in a logit moves a step of HC1 or a digit of PASS, and no image across
    assert summary.flipped == flipped
    assert summary.blank == pytest.approx(100 * blank / correct)
    assert summary.linf.mean == pytest.approx(linf, abs=0.05)
    assert summary.pass_definition.mean == pytest.approx(definition, abs=5e-4)
    assert summary.pass_paper.mean == pytest.approx(paper, abs=5e-4)
    assert summary.unverified == 0


@pytest.mark.parity
@pytest.mark.parametrize(("stem", "name", "number"), FULL)
def test_all_images_give_the_published_numbers(measure: Measure, stem: str, name: str, number: str) -> None:
    summary = measure(stem, STANDARD_ATTACKS, None)[name]
    low, high = FULL[stem, name, number]
    value = number_of(summary, number)
    assert value is not None
    assert low <= value <= high


@pytest.mark.parity
@pytest.mark.parametrize("stem", [R0, B1])
def test_all_images_are_attacked_and_every_flip_is_verified(measure: Measure, stem: str) -> None:
    for summary in measure(stem, STANDARD_ATTACKS, None).values():
        assert summary.images == 10_000
        assert summary.correct == {R0: 9916, B1: 9922}[stem]
        assert summary.unverified <= 2
