"""Delimited text: `.csv` and `.tsv`, plain or gzipped."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from flow_nexus_neural.data.column_builder import RawBlock, columns_from_blocks
from flow_nexus_neural.data.column_names import SYMBOL_NAMES
from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.json_text import parse_text
from flow_nexus_neural.data.memory import GrowingArray, Limits, MemoryBudget
from flow_nexus_neural.data.readers.csv_head import (
    BLANKS,
    Head,
    first_lines,
    read_head,
    rows_of_lines,
    twice,
)
from flow_nexus_neural.data.readers.csv_symbols import rows_per_symbol
from flow_nexus_neural.data.readers.text import CHUNK_CHARS, chunks, text_lines
from flow_nexus_neural.data.table import (
    EXACT_BELOW,
    ROLE_COLUMNS,
    Column,
    Numbers,
    Read,
    check_rows,
    check_size,
    is_missing,
    matrix_columns,
    rows_of,
    table_from,
)
from flow_nexus_neural.data.written_numbers import maybe_grouped
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

BLOCK_CELLS = 100_000
MAX_ROW_CHARS = 2_000_000


def read_csv(file: DataFile, max_rows: int) -> Read:
    """Read delimited text; its first lines tell the separator and, usually, the names of the columns."""
    head = _head(file)
    keys = head.names
    if head.symbols is not None:
        keys = [f"{index} {name}" for index, name in enumerate(head.names)]
    columns = _columns(file, head, keys, max_rows)
    if head.symbols is not None:
        columns = rows_per_symbol(columns, keys, head.names, head.symbols)
        check_rows(rows_of(next(iter(columns.values()))), max_rows, file.subject)
    return replace(table_from(columns, file.subject), remarks=head.remarks), None


def _head(file: DataFile) -> Head:
    lines = first_lines(text_lines(file, MAX_ROW_CHARS))
    try:
        head = read_head(lines, "\t" if ".tsv" in file.suffix else None)
    except csv.Error as failure:
        raise InvalidDataset(f"{file.subject}: {failure}", hint="check the quotes") from None
    if head is None:
        raise InvalidDataset(f"{file.subject} is empty", hint="the first line names the columns")
    check_size(1, max(1, len(head.names) - ROLE_COLUMNS), file.subject)
    repeated = list(twice(head.names, head.symbols))[:8]
    if repeated:
        raise InvalidDataset(
            f"{file.subject} names columns twice: {', '.join(repeated)}",
            hint="name every column once",
        )
    return head


def _columns(file: DataFile, head: Head, keys: list[str], max_rows: int) -> dict[str, Column]:
    # Symbols keep every digit of theirs, which numbers do not.
    if not any(name.lower() in SYMBOL_NAMES for name in head.names):
        matrix = _all_numeric(file, head, max_rows)
        if matrix is not None:
            return matrix_columns(matrix, keys)

    def blocks() -> Iterator[RawBlock]:
        return _blocks(file, head, keys)

    columns = columns_from_blocks(blocks, file.subject, Limits(max_rows))
    grouped = maybe_grouped(columns)
    if not grouped:
        return columns
    columns.clear()  # before the next pass fills its own
    return columns_from_blocks(blocks, file.subject, Limits(max_rows), grouped)


def _all_numeric(file: DataFile, head: Head, max_rows: int) -> Numbers | None:
    """Read a file of plain numbers with numpy's fast reader; None if it holds anything else."""
    following = islice(text_lines(file, MAX_ROW_CHARS), head.lines, None)
    lines = (line for line in following if not line.isspace())
    separator = None if head.separator == BLANKS else head.separator
    matrix = GrowingArray(MemoryBudget(file.subject))
    for chunk in chunks(lines, max(1, BLOCK_CELLS // len(head.names))):
        try:
            block = np.loadtxt(chunk, delimiter=separator, comments=None, ndmin=2, quotechar='"')
        except ValueError:
            return None
        if block.shape != (len(chunk), len(head.names)):
            return None
        if bool((np.isfinite(block) & (np.abs(block) >= EXACT_BELOW)).any()):
            return None  # an id of so many digits would lose some
        check_rows(matrix.rows + len(block), max_rows, file.subject)
        matrix.append(block)
    return matrix.finished() if matrix.rows else None


class _Rows:
    """The rows of delimited text, none of which may take more text than one line may."""

    def __init__(self, file: DataFile, head: Head) -> None:
        self._file = file
        self._head = head
        self._size = 0
        self.line = 0

    def __iter__(self) -> Iterator[tuple[list[str], int]]:
        """Rows with the length of their text."""
        reader = rows_of_lines(self._counted(), self._head.separator)
        try:
            for row in reader:
                self.line = self._head.lines + reader.line_num
                size, self._size = self._size, 0
                if row:
                    yield row, size
        except csv.Error as failure:
            raise InvalidDataset(
                f"{self._file.subject}, line {self._head.lines + reader.line_num}: {failure}",
                hint="check the quotes",
            ) from None

    def _counted(self) -> Iterator[str]:
        for line in islice(text_lines(self._file, MAX_ROW_CHARS), self._head.lines, None):
            self._size += len(line)
            if self._size > MAX_ROW_CHARS:
                raise LimitExceeded(
                    f"{self._file.subject} has a row of more than {MAX_ROW_CHARS} characters",
                    hint="check the quotes",
                )
            yield line


def _blocks(file: DataFile, head: Head, keys: list[str]) -> Iterator[RawBlock]:
    rows = _Rows(file, head)
    height = max(1, BLOCK_CELLS // len(keys))
    vectors = _VectorCells(file)
    chunk: list[list[str]] = []
    text = 0
    for row, size in rows:
        if len(row) != len(keys):
            raise InvalidDataset(
                f"{file.subject} near line {rows.line} has {len(row)} fields, the header has"
                f" {len(keys)}",
                hint="give every line one field per column, quoted where it holds the separator"
                f" {head.separator!r}",
            )
        chunk.append(row)
        text += size
        if len(chunk) >= height or text >= CHUNK_CHARS:
            yield _block(keys, chunk, vectors)
            chunk, text = [], 0
    if chunk:
        yield _block(keys, chunk, vectors)


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
