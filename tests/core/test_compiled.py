"""Functions compiled to machine code: what they compute, and where nothing can be kept on disk."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.core import compiled as module
from bangbench.core.compiled import compiled, compiled_sum, plain

pytestmark = pytest.mark.exact


def total(values):
    result = 0.0
    for value in values:
        result += value
    return result


@pytest.mark.parametrize("compile_it", [compiled, compiled_sum])
def test_a_compiled_function_computes_what_it_says(compile_it):
    values = np.arange(100.0)
    assert compile_it(total)(values) == 4950.0


def test_the_sum_as_it_stands_is_added_in_order():
    values = np.array([1e16, 1.0, -1e16, 1.0] * 50)
    assert compiled(total)(values) == total(values)


@pytest.mark.parametrize("compile_it", [compiled, compiled_sum])
def test_nan_and_infinity_stay_what_they_are(compile_it):
    assert np.isnan(compile_it(total)(np.array([1.0, np.nan])))
    assert compile_it(total)(np.array([1.0, np.inf])) == np.inf


def test_without_a_folder_to_write_to_nothing_is_kept_and_all_works(monkeypatch):
    kept, compile_with = [], module.njit

    def refusing(function, cache=False, **options):
        kept.append(cache)
        if cache:
            raise RuntimeError("cannot cache function 'total': no locator available")
        return compile_with(function, **options)

    monkeypatch.setattr(module, "njit", refusing)
    assert compiled(total)(np.ones(3)) == 3.0
    assert kept == [True, False]


def test_plain_arrays_stay_and_others_are_copied():
    array = np.arange(6).reshape(2, 3)
    assert plain(array) is array
    assert plain(array.T).flags.c_contiguous
    array.flags.writeable = False
    assert plain(array).flags.writeable
