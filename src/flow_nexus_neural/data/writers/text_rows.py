"""CSV (RFC 4180, with a header, UTF-8, an empty cell for null) and JSON lines."""

import csv
import io
import json
from collections.abc import Sequence

from flow_nexus_neural.data.writers.row_writer import ByteSink, OutputColumn, Value


class CsvRows:
    """Writes `.csv`; the header comes first, also where no row follows."""

    def __init__(self, sink: ByteSink, columns: tuple[OutputColumn, ...]) -> None:
        self._sink = sink
        self._put([[column.name for column in columns]])

    def write(self, cells: Sequence[Sequence[Value]]) -> None:
        """Append rows, given as one sequence of cells per column."""
        self._put(zip(*cells, strict=True))

    def finish(self) -> None:
        """Nothing ends a CSV file."""

    def _put(self, rows: "zip[tuple[Value, ...]] | list[list[str]]") -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._sink.write(text.getvalue().encode("utf-8", "replace"))


class JsonLinesRows:
    """Writes `.jsonl`: an object a row, with every column, null where there is nothing."""

    def __init__(self, sink: ByteSink, columns: tuple[OutputColumn, ...]) -> None:
        self._sink = sink
        self._names = [column.name for column in columns]

    def write(self, cells: Sequence[Sequence[Value]]) -> None:
        """Append rows, given as one sequence of cells per column."""
        encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
        lines = [
            encode(dict(zip(self._names, row, strict=True))) + "\n"
            for row in zip(*cells, strict=True)
        ]
        self._sink.write("".join(lines).encode("utf-8", "replace"))

    def finish(self) -> None:
        """Nothing ends a file of lines."""
