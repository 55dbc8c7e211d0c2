"""The examples in the docstrings run as printed."""

from __future__ import annotations

import doctest

import pytest

from bangbench.metrics import distances, pass_score, reference


@pytest.mark.parametrize("module", [distances, pass_score, reference])
def test_docstring_examples_run_as_printed(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
