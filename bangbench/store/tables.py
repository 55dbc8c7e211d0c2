"""Tables of results: Parquet files whose bytes depend on nothing but their content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bangbench.core.errors import BenchError
from bangbench.store.files import write_atomically


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
    """Return the table in a Parquet file; `BenchError` names a file that is missing or damaged."""
    if not path.is_file():
        raise BenchError(f"{path} does not exist; make the measurement again")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BenchError(f"{path}: not a whole Parquet file ({reason}); make the measurement again") from error
