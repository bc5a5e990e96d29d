"""What is written is read back as it was, by the standard library and by our own readers."""

import csv
import io
import json

import numpy as np
import pytest

from flow_nexus_neural.data.readers.by_suffix import READERS
from flow_nexus_neural.data.writers import parquet_rows
from flow_nexus_neural.data.writers.by_suffix import WRITERS, check_suffix, row_writer
from flow_nexus_neural.data.writers.parquet_rows import ParquetRows
from flow_nexus_neural.data.writers.row_writer import OutputColumn
from flow_nexus_neural.data.writers.text_rows import CsvRows, JsonLinesRows
from flow_nexus_neural.errors import InvalidArguments, NotAvailable
from tests.unit.data.reading import read_path

COLUMNS = (
    OutputColumn("row", "whole"),
    OutputColumn('na"me, x', "text"),
    OutputColumn("p", "number"),
)
PARTS = [
    [range(2), ["a,b\n", None], [0.1, None]],
    [range(2, 3), ['"é'], [1e-06]],
]
ROWS = [(0, "a,b\n", 0.1), (1, None, None), (2, '"é', 1e-06)]


class Sink(io.BytesIO):
    """Keeps what was written also when a library closes it."""

    def close(self):
        pass


def written(suffix):
    sink = Sink()
    writer = row_writer(suffix, sink, COLUMNS)
    for part in PARTS:
        writer.write(part)
    writer.finish()
    return sink.getvalue()


def test_every_format_that_is_written_can_be_read():
    assert set(WRITERS) <= set(READERS)


def test_csv_is_quoted_where_it_must_be_and_null_is_an_empty_cell():
    assert isinstance(row_writer(".csv", Sink(), COLUMNS), CsvRows)
    found = list(csv.reader(io.StringIO(written(".csv").decode(), newline="")))
    assert found[0] == [column.name for column in COLUMNS]
    assert found[1:] == [["" if cell is None else str(cell) for cell in row] for row in ROWS]


def test_lines_of_json_have_every_column():
    assert isinstance(row_writer(".jsonl", Sink(), COLUMNS), JsonLinesRows)
    found = [json.loads(line) for line in written(".jsonl").decode().splitlines()]
    names = [column.name for column in COLUMNS]
    assert found == [dict(zip(names, row, strict=True)) for row in ROWS]


def test_parquet_has_types_and_is_written_in_groups(monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet_rows, "GROUP_ROWS", 2)
    file = parquet.ParquetFile(io.BytesIO(written(".parquet")))
    assert file.metadata.num_row_groups == 2
    assert [str(field.type) for field in file.schema_arrow] == ["int64", "string", "double"]
    assert [tuple(row.values()) for row in file.read().to_pylist()] == ROWS


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_our_own_readers_find_the_numbers(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    sink = Sink()
    writer = row_writer(suffix, sink, (COLUMNS[0], COLUMNS[2]))
    writer.write([range(40), [i / 7 for i in range(40)]])
    writer.finish()
    path.write_bytes(sink.getvalue())
    table, _ = read_path(path)
    np.testing.assert_array_equal(table.columns["p"], [i / 7 for i in range(40)])


def test_an_unknown_format_and_one_without_its_library_are_refused(monkeypatch):
    with pytest.raises(InvalidArguments, match=r"'a.xlsx'") as refusal:
        check_suffix(".xlsx", "a.xlsx")
    assert ".csv, .jsonl, .parquet" in refusal.value.hint
    check_suffix(".csv", "a.csv")
    monkeypatch.setattr(parquet_rows, "find_spec", lambda _: None)
    with pytest.raises(NotAvailable, match="pyarrow"):
        check_suffix(".parquet", "a.parquet")
    with pytest.raises(NotAvailable):
        ParquetRows.require()
