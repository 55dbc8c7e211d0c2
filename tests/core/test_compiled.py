"""Functions compiled to machine code: what they compute, and where nothing can be kept on disk."""

from __future__ import annotations

import errno
import os
from typing import Any

import numba
import numpy as np
import pytest

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


def test_a_function_of_no_file_cannot_be_kept_and_works():
    names: dict[str, Any] = {}
    exec("def three(values):\n    return 3.0 * values[0]", names)
    assert compiled(names["three"])(np.ones(3)) == 3.0


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Return a folder in which compiled code is kept from now on, with that of `total` in it."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled(total)(np.ones(3))
    return tmp_path


def hits(function) -> int:
    """Return how many signatures a function that adds up 1 + 1 + 1 + 1 was found on disk for."""
    assert function(np.ones(4)) == 4.0
    return sum(function.stats.cache_hits.values())


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["empty", "half", "zeros at the end", "one bit"])
def test_damaged_code_on_disk_is_compiled_again_said_once_and_mended(kept, caplog, ending, damage):
    assert hits(compiled(total)) == 1
    [path] = kept.rglob(f"*.{ending}")
    content = bytearray(path.read_bytes())
    content[-200 // 3] ^= 4
    half = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "half": bytes(content[:half]),
            "zeros at the end": bytes(content[:half] + bytes(half)),
            "one bit": bytes(content),
        }[damage]
    )
    assert hits(compiled(total)) == 0
    assert len(caplog.messages) <= 1, "a bit of the index may be one of a name, under which nothing is found"
    hits(compiled(total))
    assert hits(compiled(total)) == 1
    assert all(str(kept) in message for message in caplog.messages)


def test_code_that_cannot_be_kept_is_compiled_all_the_same(kept, caplog, monkeypatch):
    for path in kept.rglob("*.nb?"):
        path.unlink()

    def full(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(os, "replace", full)
    assert hits(compiled(total)) == 0
    assert ["No space left on device" in message for message in caplog.messages] == [True]


def test_plain_arrays_stay_and_others_are_copied():
    array = np.arange(6).reshape(2, 3)
    assert plain(array) is array
    assert plain(array.T).flags.c_contiguous
    array.flags.writeable = False
    assert plain(array).flags.writeable
