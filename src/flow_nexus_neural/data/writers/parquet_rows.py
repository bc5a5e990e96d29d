"""Parquet, with the extra of that name."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from flow_nexus_neural.data.writers.row_writer import ByteSink, OutputColumn, Value
from flow_nexus_neural.errors import NotAvailable

GROUP_ROWS = 50_000


class ParquetRows:
    """Writes `.parquet` in groups of many rows."""

    def __init__(self, sink: ByteSink, columns: tuple[OutputColumn, ...]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64()}
        self._schema: Any = pa.schema([(column.name, kinds[column.kind]) for column in columns])
        self._writer: Any = pq.ParquetWriter(pa.PythonFile(sink, mode="w"), self._schema)
        self._waiting: list[Any] = []
        self._n_waiting = 0

    @staticmethod
    def require() -> None:
        """Raises `NotAvailable` where the library is not installed."""
        if find_spec("pyarrow") is None:
            raise NotAvailable(
                "Parquet needs pyarrow, which is not installed",
                hint="write .csv or .jsonl, or install flow-nexus-neural[parquet]",
            )

    def write(self, cells: Sequence[Sequence[Value]]) -> None:
        """Append rows, given as one sequence of cells per column."""
        import pyarrow as pa

        arrays = [
            pa.array(column, field.type) for column, field in zip(cells, self._schema, strict=True)
        ]
        self._waiting.append(pa.table(arrays, schema=self._schema))
        self._n_waiting += len(cells[0])
        if self._n_waiting >= GROUP_ROWS:
            self._write_group()

    def finish(self) -> None:
        """Write what waits, and the footer."""
        if self._waiting:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._n_waiting = [], 0
