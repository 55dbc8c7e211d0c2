"""Parquet tables: same content, same bytes; damage is named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bangbench.core.errors import BenchError
from bangbench.store.tables import read_table, write_table

SCHEMA = pa.schema([("model", pa.dictionary(pa.int32(), pa.string())), ("index", pa.int32()), ("scale", pa.float32())])


def columns() -> dict[str, object]:
    return {
        "scale": np.ma.masked_array([0.5, 7.0, 2.0], mask=[False, True, False]),
        "index": np.arange(3),
        "model": pa.DictionaryArray.from_arrays(np.array([0, 1, 0], dtype=np.int32), ["regular", "bang"]),
    }


def test_a_table_comes_back_with_types_and_nulls(tmp_path):
    write_table(tmp_path / "t.parquet", columns(), SCHEMA)
    table = read_table(tmp_path / "t.parquet")
    assert table.schema.equals(SCHEMA)
    assert table.to_pydict() == {
        "model": ["regular", "bang", "regular"],
        "index": [0, 1, 2],
        "scale": [0.5, None, 2.0],
    }


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a=1", "b"):
        write_table(tmp_path / name / "t.parquet", columns(), SCHEMA)
    assert (tmp_path / "a=1/t.parquet").read_bytes() == (tmp_path / "b/t.parquet").read_bytes()
    assert read_table(tmp_path / "a=1/t.parquet").column_names == ["model", "index", "scale"]


def test_columns_that_are_not_the_schema_s_are_refused(tmp_path):
    with pytest.raises(ValueError, match="do not match the schema"):
        write_table(tmp_path / "t.parquet", columns() | {"extra": np.arange(3)}, SCHEMA)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_does_not_fit_its_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not in range"):
        write_table(tmp_path / "t.parquet", columns() | {"index": np.array([0, 1, 2**40])}, SCHEMA)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"t\.parquet does not exist; make the measurement again"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("kept", [0, 3, 200, -1])
def test_a_truncated_table_is_named(tmp_path, kept):
    path = tmp_path / "t.parquet"
    write_table(path, columns(), SCHEMA)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BenchError, match=r"t\.parquet: not a whole Parquet file \(.+\); make the measurement again"):
        read_table(path)


def test_a_changed_byte_in_the_data_is_noticed(tmp_path):
    path = tmp_path / "t.parquet"
    values = np.random.default_rng(0).normal(size=500).astype(np.float32)
    write_table(path, {"x": values}, pa.schema([("x", pa.float32())]))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(BenchError, match="not a whole Parquet file"):
        read_table(path)
