"""The settings of a noise evolution."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bangbench.noise.spec import NoiseSpec


def test_default_sigmas_depend_on_the_channels():
    spec = NoiseSpec(models=("R0", "B1"))
    assert spec.sigmas(1) == (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert spec.sigmas(3) == (4, 8, 12, 16, 20, 24, 28, 32, 36, 40)


def test_given_sigmas_are_sorted_and_taken_once():
    assert NoiseSpec(models=("R0", "B1"), sigma=(30, 10, 30)).sigmas(3) == (10, 30)


@pytest.mark.parametrize("sigma", [0.0, -5.0, float("nan"), float("inf")])
def test_a_sigma_that_is_no_amount_of_noise_is_refused(sigma):
    with pytest.raises(ValidationError, match="expected grey levels above 0, found"):
        NoiseSpec(models=("R0", "B1"), sigma=(10.0, sigma))


@pytest.mark.parametrize("models", [(), ("R0",)])
def test_less_than_two_models_are_refused(models):
    with pytest.raises(ValidationError, match=f"two models or more, the first the reference, found {len(models)}"):
        NoiseSpec(models=models)


def test_no_sigma_at_all_is_refused():
    with pytest.raises(ValidationError, match="at least 1 item"):
        NoiseSpec(models=("R0", "B1"), sigma=())


def test_the_batch_size_is_a_circumstance_and_the_seed_a_setting():
    spec = NoiseSpec(models=("R0", "B1"))
    assert spec.key() == NoiseSpec(models=("R0", "B1"), batch_size=7, device="cpu").key()
    assert spec.key() != NoiseSpec(models=("R0", "B1"), seed=1).key()


def test_settings_that_came_later_leave_the_keys_of_older_records_as_they_were():
    spec = NoiseSpec(models=("table1/R0", "table1/B1"), data="mnist", draws=50)
    assert spec.settings() == {
        "models": ["table1/R0", "table1/B1"],
        "data": "mnist",
        "sigma": None,
        "draws": 50,
        "per_class": 100,
        "seed": 0,
        "clip": True,
    }
    assert spec.key() == "2001f15df9608391ff7dfbf77296c5da9a4aca33009769a1e7844d45b58fdf30"
    assert spec == NoiseSpec(**spec.settings())


def test_a_precision_and_a_reduced_arithmetic_are_settings():
    spec = NoiseSpec(models=("R0", "B1"), precision=0.5, arithmetic="bfloat16")
    assert (spec.settings()["precision"], spec.settings()["arithmetic"]) == (0.5, "bfloat16")
    keys = {spec.key(), *(NoiseSpec(models=("R0", "B1"), **one).key()
                          for one in ({"precision": 0.5}, {"arithmetic": "bfloat16"}, {}))}  # fmt: skip
    assert len(keys) == 4


@pytest.mark.parametrize("precision", [0.0, -1.0, float("nan"), float("inf")])
def test_a_precision_that_is_no_width_is_refused(precision):
    with pytest.raises(ValidationError, match=r"greater than 0|finite number"):
        NoiseSpec(models=("R0", "B1"), precision=precision)
