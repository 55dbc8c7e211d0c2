"""The single images in the Parquet files, and whether they belong to the record beside them."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest

from bangbench.core.errors import BenchError
from bangbench.reporting.per_image import read_attack_rows, read_noise_rows
from bangbench.store.records import AttackRecord
from bangbench.store.tables import write_table

NEEDED = ("index", "attacked", "flipped", "linf", "pass", "margin", "true_logit")


def write(path, **columns):
    arrays = {name: pa.array(values) for name, values in columns.items()}
    write_table(path, arrays, pa.schema([(name, array.type) for name, array in arrays.items()]))
    return path


def noise_of(records, counts, draws=4):
    """Write the counts, (2, stages, sigmas, images), and return their file and a summary that belongs to them."""
    counts = np.array(counts)
    percent = 100.0 * counts.mean(axis=-1) / draws
    found = records.found_noise(
        "R0", "B1", stages=(10, 20), sigmas=(50.0,), draws=draws, images=counts.shape[-1],
        flipped_percent=percent.tolist(),
    )  # fmt: skip
    return write(found.path.with_suffix(".parquet"), flipped=counts.ravel()), found.summary


COUNTS = [[[[4, 1, 0]], [[3, 2, 0]]], [[[0, 1, 0]], [[2, 0, 0]]]]


def test_noise_is_read_in_the_order_of_the_record(records):
    rows = read_noise_rows(*noise_of(records, COUNTS))

    assert rows.draws.tolist() == [[[4], [4]], [[4], [4]]]
    assert rows.flipped.tolist() == COUNTS


@pytest.mark.parametrize("moved", [[3, 1, 1, 0], [0, 1, 0, 1]])
def test_counts_that_do_not_give_the_percentages_of_the_record_are_not_its_own(records, moved):
    path, summary = noise_of(records, COUNTS)
    counts = np.array(COUNTS)
    counts[1, 1, 0] = moved[:3]
    write(path, flipped=counts.ravel())

    said = (
        "does not belong to the record beside it: expected 16.6667 % flipped of model 2 at stage 20 and sigma 50, found"
    )
    with pytest.raises(BenchError, match=f"{re.escape(str(path))}: {said} .*; make the measurement again"):
        read_noise_rows(path, summary)


def test_another_number_of_counts_is_refused(records):
    path, summary = noise_of(records, COUNTS)
    write(path, flipped=[1, 2, 3])

    with pytest.raises(BenchError, match="expected 12 rows for the record beside it, found 3"):
        read_noise_rows(path, summary)


def attack_file(records, leave_out=()):
    path = records.attack("R0", "fgs", images=3, correct=2, flipped=1)
    columns = {
        "index": [0, 1, 2], "attacked": [True, True, False], "flipped": [True, False, False],
        "linf": [7.0, None, None], "pass": [0.5, None, None], "margin": [1.0, 2.0, -1.0], "true_logit": [3.0, 4.0, 5.0],
    }  # fmt: skip
    write(path.with_suffix(".parquet"), **{name: values for name, values in columns.items() if name not in leave_out})
    return path.with_suffix(".parquet"), AttackRecord.model_validate_json(path.read_text(encoding="utf-8")).summary


def test_an_attack_needs_no_other_columns_than_are_shown(records):
    rows = read_attack_rows(*attack_file(records))

    assert rows.indices.tolist() == [0, 1, 2]
    assert (rows.attacked.tolist(), rows.flipped.tolist()) == ([True, True, False], [True, False, False])
    np.testing.assert_array_equal(rows.linf, [7.0, np.nan, np.nan])
    np.testing.assert_array_equal(rows.pass_definition, [0.5, np.nan, np.nan])
    assert (rows.margin.tolist(), rows.true_logit.tolist()) == ([1.0, 2.0, -1.0], [3.0, 4.0, 5.0])


@pytest.mark.parametrize("name", NEEDED)
def test_a_column_that_is_missing_is_named(records, name):
    with pytest.raises(BenchError, match=f"expected a column '{name}', found"):
        read_attack_rows(*attack_file(records, leave_out=(name,)))
