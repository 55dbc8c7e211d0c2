"""The settings of a noise evolution."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bangbench.noise.spec import NoiseSpec


def test_default_sigmas_depend_on_the_channels():
    spec = NoiseSpec(regular="R0", bang="B1")
    assert spec.sigmas(1) == (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert spec.sigmas(3) == (4, 8, 12, 16, 20, 24, 28, 32, 36, 40)


def test_given_sigmas_are_sorted_and_taken_once():
    assert NoiseSpec(regular="R0", bang="B1", sigma=(30, 10, 30)).sigmas(3) == (10, 30)


@pytest.mark.parametrize("sigma", [0.0, -5.0, float("nan"), float("inf")])
def test_a_sigma_that_is_no_amount_of_noise_is_refused(sigma):
    with pytest.raises(ValidationError, match="expected grey levels above 0, found"):
        NoiseSpec(regular="R0", bang="B1", sigma=(10.0, sigma))


def test_no_sigma_at_all_is_refused():
    with pytest.raises(ValidationError, match="at least 1 item"):
        NoiseSpec(regular="R0", bang="B1", sigma=())


def test_the_batch_size_is_a_circumstance_and_the_seed_a_setting():
    spec = NoiseSpec(regular="R0", bang="B1")
    assert spec.key() == NoiseSpec(regular="R0", bang="B1", batch_size=7, device="cpu").key()
    assert spec.key() != NoiseSpec(regular="R0", bang="B1", seed=1).key()
