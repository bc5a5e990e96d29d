"""Delimited text: `.csv` and `.tsv`, plain or gzipped."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from flow_nexus_neural.data.column_builder import RawBlock, columns_from_blocks
from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.json_text import parse_text
from flow_nexus_neural.data.memory import GrowingArray, Limits, MemoryBudget
from flow_nexus_neural.data.readers.text import CHUNK_CHARS, chunks, text_lines
from flow_nexus_neural.data.table import (
    ROLE_COLUMNS,
    Read,
    Table,
    check_rows,
    check_size,
    is_missing,
    matrix_columns,
    numbers_from,
    table_from,
)
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

BLOCK_CELLS = 100_000
MAX_ROW_CHARS = 2_000_000


def read_csv(file: DataFile, max_rows: int) -> Read:
    """Read delimited text; the first line names the columns."""
    header, delimiter = _header(file)
    fast = _all_numeric(file, header, delimiter, max_rows)
    if fast is not None:
        return fast, None

    def blocks() -> Iterator[RawBlock]:
        return _blocks(file, header, delimiter)

    return table_from(
        columns_from_blocks(blocks, file.subject, Limits(max_rows)), file.subject
    ), None


def _header(file: DataFile) -> tuple[list[str], str]:
    first = next((line for line in text_lines(file, MAX_ROW_CHARS) if line.strip()), None)
    if first is None:
        raise InvalidDataset(f"{file.subject} is empty", hint="the first line names the columns")
    delimiter = "\t" if ".tsv" in file.suffix else ","
    if delimiter == "," and first.count(";") > first.count(","):
        delimiter = ";"
    try:
        names = next(csv.reader([first], delimiter=delimiter))
    except csv.Error as failure:
        raise InvalidDataset(f"{file.subject}: {failure}", hint="check the quotes") from None
    check_size(1, max(1, len(names) - ROLE_COLUMNS), file.subject)
    names = [name.strip() or f"unnamed_{index}" for index, name in enumerate(names)]
    if numbers_from(names) is not None:
        raise InvalidDataset(
            f"{file.subject} has no header: its first line holds numbers only",
            hint="add a first line with column names",
        )
    twice = [name[:40] for name, count in Counter(names).items() if count > 1][:8]
    if twice:
        raise InvalidDataset(
            f"{file.subject} names columns twice: {', '.join(twice)}", hint="name every column once"
        )
    return names, delimiter


def _all_numeric(file: DataFile, header: list[str], delimiter: str, max_rows: int) -> Table | None:
    """Read a file of plain numbers with numpy's fast reader; None if it holds anything else."""
    lines = (line for line in text_lines(file, MAX_ROW_CHARS) if not line.isspace())
    next(lines)
    matrix = GrowingArray(MemoryBudget(file.subject))
    for chunk in chunks(lines, max(1, BLOCK_CELLS // len(header))):
        try:
            block = np.loadtxt(chunk, delimiter=delimiter, comments=None, ndmin=2, quotechar='"')
        except ValueError:
            return None
        if block.shape != (len(chunk), len(header)):
            return None
        check_rows(matrix.rows + len(block), max_rows, file.subject)
        matrix.append(block)
    if not matrix.rows:
        return None
    return table_from(matrix_columns(matrix.finished(), header), file.subject)


class _Rows:
    """The rows of delimited text, none of which may take more text than one line may."""

    def __init__(self, file: DataFile, delimiter: str) -> None:
        self._file = file
        self._delimiter = delimiter
        self._size = 0
        self.line = 0

    def __iter__(self) -> Iterator[tuple[list[str], int]]:
        """Rows with the length of their text."""
        reader = csv.reader(self._counted(), delimiter=self._delimiter)
        try:
            for row in reader:
                self.line = reader.line_num
                size, self._size = self._size, 0
                if row:
                    yield row, size
        except csv.Error as failure:
            raise InvalidDataset(
                f"{self._file.subject}, line {reader.line_num}: {failure}", hint="check the quotes"
            ) from None

    def _counted(self) -> Iterator[str]:
        for line in text_lines(self._file, MAX_ROW_CHARS):
            self._size += len(line)
            if self._size > MAX_ROW_CHARS:
                raise LimitExceeded(
                    f"{self._file.subject} has a row of more than {MAX_ROW_CHARS} characters",
                    hint="check the quotes",
                )
            yield line


def _blocks(file: DataFile, header: list[str], delimiter: str) -> Iterator[RawBlock]:
    rows = _Rows(file, delimiter)
    height = max(1, BLOCK_CELLS // len(header))
    vectors = _VectorCells(file)
    chunk: list[list[str]] = []
    text = 0
    for place, (row, size) in enumerate(rows):
        if place == 0:
            continue
        if len(row) != len(header):
            raise InvalidDataset(
                f"{file.subject} near line {rows.line} has {len(row)} fields, the header has"
                f" {len(header)}",
                hint="give every line one field per column, quoted where it holds the delimiter",
            )
        chunk.append(row)
        text += size
        if len(chunk) >= height or text >= CHUNK_CHARS:
            yield _block(header, chunk, vectors)
            chunk, text = [], 0
    if chunk:
        yield _block(header, chunk, vectors)


def _block(header: list[str], rows: list[list[str]], vectors: "_VectorCells") -> RawBlock:
    columns = zip(*rows, strict=True)
    return {name: vectors.read(name, cells) for name, cells in zip(header, columns, strict=True)}


class _VectorCells:
    """Turns the cells of a column whose first text is a JSON list into lists."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._is_vector: dict[str, bool] = {}

    def read(self, name: str, cells: Sequence[str]) -> Sequence[object]:
        """The cells as they are, or as lists."""
        if name not in self._is_vector:
            first = next((cell for cell in cells if not is_missing(cell.strip())), None)
            if first is None:
                return cells
            self._is_vector[name] = first.lstrip().startswith("[")
        if not self._is_vector[name]:
            return cells
        subject = f"{self._file.subject}, column '{name}'"
        return [None if is_missing(cell.strip()) else parse_text(cell, subject) for cell in cells]
