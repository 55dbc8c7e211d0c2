"""Tables of results: Parquet files whose bytes depend on nothing but their content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bangbench.core.errors import BenchError
from bangbench.core.memory import check_memory
from bangbench.store.files import write_atomically

#: Bytes of a value in memory at most.
_VALUE_BYTES = 16


def write_table(path: Path, columns: Mapping[str, Any], schema: pa.Schema) -> None:
    """Write columns to `path` (zstd, with page checksums), atomically, in the order and the types of `schema`.

    columns: numpy or Arrow arrays of one length, one for every field; masked values of a numpy masked array become
    nulls. Raises `ValueError` where columns and schema disagree or a value does not fit its type.
    """
    if set(columns) != set(schema.names):
        raise ValueError(f"columns {sorted(columns)} do not match the schema's {sorted(schema.names)}")
    arrays = [pa.array(columns[field.name], type=field.type) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    write_atomically(
        path, lambda temporary: pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    )


def read_table(path: Path) -> pa.Table:
    """Return the table in a Parquet file; `BenchError` names a file that is missing or damaged.

    The columns are numbers, flags and names; all values together must fit into half of the memory available, as their
    count in the file's footer says before one is read.
    """
    if not path.is_file():
        raise BenchError(f"{path} does not exist; make the measurement again")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_kinds(path, file.schema_arrow)
            check_memory(_VALUE_BYTES * file.metadata.num_rows * file.metadata.num_columns, str(path))
            return file.read()
    except BenchError:
        raise
    except Exception as error:  # a damaged file makes the reader raise more than its own errors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BenchError(f"{path}: not a whole Parquet file ({reason}); make the measurement again") from error


def _check_kinds(path: Path, schema: pa.Schema) -> None:
    """Raise `BenchError` for columns of a kind of which a few bytes can mean any number of them."""
    for field in schema:
        if not (pa.types.is_primitive(field.type) or pa.types.is_dictionary(field.type)):
            raise BenchError(f"{path}: expected columns of numbers, flags and names, found {field.name}: {field.type}")
