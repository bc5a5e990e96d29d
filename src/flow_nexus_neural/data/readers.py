"""Reads files into tables: delimited text, JSON, JSON Lines, NPY, NPZ and Parquet.

Every reader works in blocks and so releases the interpreter lock in between: the server stays responsive
while it reads a long file.
"""

import csv
import gzip
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.inline import (
    columns_of_matrix,
    label_key,
    labels_column,
    table_of,
)
from flow_nexus_neural.data.json_text import parse_text
from flow_nexus_neural.data.table import (
    ROLE_COLUMNS,
    Column,
    RawBlock,
    Table,
    TextColumn,
    blocks_of_records,
    check_rows,
    check_size,
    columns_from_blocks,
    matrix_columns,
    numbers_from,
    table_from,
)
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded, NotAvailable

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_JSON_BYTES = 64 * 1024 * 1024
BLOCK_CELLS = 100_000
ARRAY_DEFECTS = (
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
"""What numpy and zipfile raise on damaged headers and members."""

Read = tuple[Table, str | None]


def read_file(path: Path, max_rows: int) -> Read:
    """Read one file by its suffix.

    Args:
        path: A resolved path that the caller has checked against the data roots.
        max_rows: Rows beyond which reading stops.

    Returns:
        The table, and the name of its label column when the file's form has one.

    Raises:
        InvalidDataset: If the suffix is unknown or the content does not form a table.
        LimitExceeded: If the file, or what it unpacks to, is too large.
        NotAvailable: If the format's library is not installed.
    """
    suffix = data_suffix(path)
    reader = READERS.get(suffix)
    if reader is None:
        raise InvalidDataset(
            f"'{path.name}' has no known data format", hint="formats: " + ", ".join(sorted(READERS))
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise LimitExceeded(
            f"'{path.name}' has {path.stat().st_size} bytes; the limit is {MAX_FILE_BYTES}",
            hint="split the file and pass a glob, or use fewer columns",
        )
    try:
        return reader(path, max_rows)
    except UnicodeDecodeError as failure:
        raise InvalidDataset(
            f"'{path.name}' is not UTF-8: {failure.reason} at byte {failure.start}",
            hint="save the file as UTF-8",
        ) from None
    except (OSError, EOFError, zlib.error) as failure:
        raise InvalidDataset(
            f"'{path.name}' cannot be read: {type(failure).__name__}",
            hint="check that the file is complete and readable by the server",
        ) from None
    except MemoryError:
        raise LimitExceeded(
            f"'{path.name}' does not fit the memory", hint="use a part of it"
        ) from None


def data_suffix(path: Path) -> str:
    """The suffix that decides the format, in lower case; for compressed files both, as in `.csv.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        return "".join(suffixes[-2:])
    return suffixes[-1] if suffixes else ""


def _lines(path: Path) -> Iterator[str]:
    packed = path.suffix.lower() == ".gz"
    size = 0
    with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
        for line in file:
            size += len(line)
            if size > MAX_FILE_BYTES:
                raise LimitExceeded(
                    f"'{path.name}' unpacks to more than {MAX_FILE_BYTES} bytes",
                    hint="split the file and pass a glob",
                )
            yield line


def _read_delimited(path: Path, max_rows: int) -> Read:
    header, delimiter = _header(path)
    fast = _all_numeric(path, header, delimiter, max_rows)
    if fast is not None:
        return fast, None

    def blocks() -> Iterator[RawBlock]:
        return _csv_blocks(path, header, delimiter)

    columns = columns_from_blocks(blocks, f"'{path.name}'", max_rows)
    columns = {name: _vector_cells(column, name, path) for name, column in columns.items()}
    return table_from(columns, f"'{path.name}'"), None


def _header(path: Path) -> tuple[list[str], str]:
    first = next((line for line in _lines(path) if line.strip()), None)
    if first is None:
        raise InvalidDataset(f"'{path.name}' is empty", hint="the first line names the columns")
    delimiter = "\t" if ".tsv" in data_suffix(path) else ","
    if delimiter == "," and first.count(";") > first.count(","):
        delimiter = ";"
    try:
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    except csv.Error as failure:
        raise InvalidDataset(f"'{path.name}': {failure}", hint="check the quotes") from None
    names = [name or f"unnamed_{index}" for index, name in enumerate(names)]
    if numbers_from(names) is not None:
        raise InvalidDataset(
            f"'{path.name}' has no header: its first line holds numbers only",
            hint="add a first line with column names",
        )
    check_size(1, max(1, len(names) - ROLE_COLUMNS), f"'{path.name}'")
    twice = [name[:40] for name, count in Counter(names).items() if count > 1][:8]
    if twice:
        raise InvalidDataset(
            f"'{path.name}' names columns twice: {', '.join(twice)}", hint="name every column once"
        )
    return names, delimiter


def _all_numeric(path: Path, header: list[str], delimiter: str, max_rows: int) -> Table | None:
    """Read a file of plain numbers with numpy's fast reader; None if it holds anything else."""
    lines = (line for line in _lines(path) if not line.isspace())
    next(lines)
    blocks: list[NDArray[np.float64]] = []
    rows = 0
    height = max(1, BLOCK_CELLS // len(header))
    while chunk := list(islice(lines, height)):
        try:
            block = np.loadtxt(chunk, delimiter=delimiter, comments=None, ndmin=2, quotechar='"')
        except ValueError:
            return None
        if block.shape != (len(chunk), len(header)):
            return None
        blocks.append(block)
        rows += len(block)
        check_rows(rows, max_rows, f"'{path.name}'")
    if not blocks:
        return None
    matrix = np.empty((rows, len(header)))
    start = 0
    for block in blocks:
        matrix[start : start + len(block)] = block
        start += len(block)
    return table_from(matrix_columns(matrix, header), f"'{path.name}'")


def _csv_blocks(path: Path, header: list[str], delimiter: str) -> Iterator[RawBlock]:
    reader = csv.reader(_lines(path), delimiter=delimiter)
    rows = (row for row in reader if row)
    height = max(1, BLOCK_CELLS // len(header))
    try:
        next(rows)
        while chunk := list(islice(rows, height)):
            _check_widths(chunk, len(header), reader.line_num, path)
            yield dict(zip(header, zip(*chunk, strict=True), strict=True))
    except csv.Error as failure:
        raise InvalidDataset(
            f"'{path.name}', line {reader.line_num}: {failure}", hint="check the quotes"
        ) from None


def _check_widths(chunk: list[list[str]], width: int, last_line: int, path: Path) -> None:
    odd = next((index for index, row in enumerate(chunk) if len(row) != width), None)
    if odd is not None:
        raise InvalidDataset(
            f"'{path.name}' near line {last_line - len(chunk) + odd + 1} has {len(chunk[odd])} fields,"
            f" the header has {width}",
            hint="give every line one field per column, quoted where it holds the delimiter",
        )


def _vector_cells(column: Column, name: str, path: Path) -> Column:
    """Turn a text column of JSON lists into a vector column."""
    if not isinstance(column, TextColumn) or not column.levels[:1] or column.levels[0][0] != "[":
        return column
    subject = f"'{path.name}'"
    parsed = [parse_text(level, f"{subject}, column '{name}'") for level in column.levels]
    cells = [None if code < 0 else parsed[code] for code in column.codes]
    return columns_from_blocks(lambda: [{name: cells}], subject, len(cells))[name]


def _read_json(path: Path, max_rows: int) -> Read:
    if path.suffix.lower() != ".gz" and path.stat().st_size > MAX_JSON_BYTES:
        raise LimitExceeded(
            f"'{path.name}' has {path.stat().st_size} bytes; the limit for JSON is {MAX_JSON_BYTES}",
            hint="use JSON Lines, CSV or NPZ for more",
        )
    subject = f"'{path.name}'"
    return table_of(parse_text("".join(_lines(path)), subject, MAX_JSON_BYTES), subject, max_rows)


def _read_json_lines(path: Path, max_rows: int) -> Read:
    subject = f"'{path.name}'"

    def blocks() -> Iterator[RawBlock]:
        return blocks_of_records(_json_records(path))

    return table_from(columns_from_blocks(blocks, subject, max_rows), subject), None


def _json_records(path: Path) -> Iterator[dict[str, object]]:
    for number, line in enumerate(_lines(path), start=1):
        if line.isspace():
            continue
        record = parse_text(line, f"'{path.name}', line {number}")
        if not isinstance(record, dict):
            raise InvalidDataset(
                f"'{path.name}', line {number} is not a record", hint="one JSON object per line"
            )
        yield record


def _read_npy(path: Path, max_rows: int) -> Read:
    subject = f"'{path.name}'"
    array = _load_array(path, subject)
    check_rows(len(array) if array.ndim else 0, max_rows, subject)
    if array.dtype.names:
        fields = np.asarray(array)
        columns = {name: _array_column(fields[name], subject) for name in array.dtype.names}
        return table_from(columns, subject), None
    if array.ndim != 2 or array.shape[1] < 2:
        raise InvalidDataset(
            f"{subject} has shape {list(array.shape)}",
            hint="a .npy file is [rows, columns] with the target last; use .npz with X and y else",
        )
    numbers = _array_column(array, subject)
    if isinstance(numbers, TextColumn):
        raise InvalidDataset(f"{subject} holds text", hint="use CSV for text columns")
    columns = columns_of_matrix(numbers[:, :-1], None, subject)
    return table_from({**columns, "target": numbers[:, -1]}, subject), "target"


def _load_array(path: Path, subject: str) -> NDArray[np.generic]:
    try:
        # Mapping first compares the size that the header claims with the file's.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except ARRAY_DEFECTS as failure:
        raise InvalidDataset(
            f"{subject} is not a plain array file: {failure}"[:200],
            hint="save numbers with numpy.save or numpy.savez, without objects",
        ) from None
    if not isinstance(loaded, np.ndarray):
        raise InvalidDataset(f"{subject} is not a .npy file", hint="name archives .npz")
    return np.array(loaded)


def _read_npz(path: Path, max_rows: int) -> Read:
    subject = f"'{path.name}'"
    arrays = _load_archive(path, subject)
    inputs = next((key for key in ("X", "x", "data", "features") if key in arrays), None)
    if inputs is None:
        columns = {name: _array_column(array, subject) for name, array in arrays.items()}
        return table_from(columns, subject), None
    label = label_key(arrays, inputs, subject)
    names = arrays["feature_names"].tolist() if "feature_names" in arrays else None
    values = _array_column(arrays[inputs], subject)
    if isinstance(values, TextColumn):
        raise InvalidDataset(f"{subject}: '{inputs}' holds text", hint="use CSV for text columns")
    check_rows(len(values), max_rows, subject)
    columns = columns_of_matrix(values, names, subject)
    for extra in ("symbol", "timestamp"):
        if extra in arrays and extra not in columns:
            columns[extra] = _array_column(arrays[extra], subject)
    columns[label] = _array_column(arrays[label], subject)
    return table_from(columns, subject, channels=values.ndim == 3), label


def _load_archive(path: Path, subject: str) -> dict[str, NDArray[np.generic]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > 2 * MAX_FILE_BYTES:
            raise LimitExceeded(
                f"{subject} unpacks to {size} bytes; the limit is {2 * MAX_FILE_BYTES}",
                hint="use fewer rows, or float32",
            )
        with np.load(path, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except ARRAY_DEFECTS as failure:
        raise InvalidDataset(
            f"{subject} is not an archive of plain arrays: {failure}"[:200],
            hint="save it with numpy.savez(X=..., y=...), without objects",
        ) from None


def _array_column(array: NDArray[np.generic], subject: str) -> Column:
    if array.dtype.kind in "fiub":
        dtype = np.float32 if array.dtype == np.float32 else np.float64
        return np.asarray(array, dtype=dtype)
    if array.dtype.kind == "M":
        return _milliseconds(array)
    if array.dtype.kind in "US" and array.ndim == 1:
        texts = array.astype(str) if array.dtype.kind == "S" else array
        return labels_column(texts.tolist(), subject)
    raise InvalidDataset(
        f"{subject} holds an array of type {array.dtype}",
        hint="use numbers, booleans, texts or datetime64",
    )


def _milliseconds(array: NDArray[np.generic]) -> NDArray[np.float64]:
    stamps = array.astype("datetime64[ms]")
    return np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64).astype(np.float64))


def _read_parquet(path: Path, max_rows: int) -> Read:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise NotAvailable(
            "reading Parquet needs pyarrow, which is not installed",
            hint="install flow-nexus-neural[parquet], or convert the file to CSV",
        ) from None
    subject = f"'{path.name}'"
    try:
        with pq.ParquetFile(path) as file:
            check_rows(file.metadata.num_rows, max_rows, subject)
            check_size(file.metadata.num_rows, file.metadata.num_columns, subject)

            def blocks() -> Iterator[RawBlock]:
                for batch in file.iter_batches(batch_size=10_000):
                    yield {name: batch.column(name).to_pylist() for name in batch.schema.names}

            return table_from(columns_from_blocks(blocks, subject, max_rows), subject), None
    except pa.ArrowException as failure:
        raise InvalidDataset(
            f"{subject} is not a readable Parquet file: {failure}"[:200],
            hint="write it anew or convert it to CSV",
        ) from None


READERS: dict[str, Callable[[Path, int], Read]] = {
    ".csv": _read_delimited,
    ".csv.gz": _read_delimited,
    ".tsv": _read_delimited,
    ".tsv.gz": _read_delimited,
    ".json": _read_json,
    ".json.gz": _read_json,
    ".jsonl": _read_json_lines,
    ".jsonl.gz": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".ndjson.gz": _read_json_lines,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
