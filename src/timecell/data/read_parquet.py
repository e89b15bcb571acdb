"""Parquet files into a `Table`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from timecell.data.damage import reading, refuse_bomb
from timecell.data.table import Table
from timecell.errors import DataError, MissingExtra

SUFFIXES = (".parquet", ".pq")


def read_parquet(path: Path) -> Table:
    """A Parquet file whose columns hold numbers, truth values, dates or text; nulls are missing values.

    Raises:
        DataError: the file is truncated or no Parquet file, has no rows, the same column name twice, or a column of
            another type.
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("pyarrow", "tables", f"reading {path}") from error
    with reading(path, "Parquet file"), pq.ParquetFile(path) as file:
        refuse_bomb(path, 8 * file.metadata.num_rows * file.metadata.num_columns, path.stat().st_size)
        table = file.read()
    names = table.column_names
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DataError(
            str(path), found=f"the column name {twice!r} twice", expected="a different name for each column",
            remedy="rename one of them",
        )  # fmt: skip
    if not table.num_rows:
        raise DataError(
            str(path), found="columns but no rows", expected="at least one row", remedy="check how it was written"
        )
    columns = {name: _column(path, name, table.column(name)) for name in names}
    return Table(path, columns, np.arange(1, table.num_rows + 1))


def _column(path: Path, name: str, column: Any) -> Shaped[np.ndarray, "R"]:
    """float64, text or datetime64[us]."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind, column = kind.value_type, column.cast(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array([cell or "" for cell in column.to_pylist()])
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(pa.timestamp("us"), safe=False).to_numpy().astype("datetime64[us]")
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise DataError(
            f"{path}, column {name!r}", found=f"the type {kind}", expected="numbers, truth values, dates or text",
            remedy="write sequences with one row a step, or leave the column out of the file",
        )  # fmt: skip
    return column.cast(pa.float64(), safe=False).to_numpy()
