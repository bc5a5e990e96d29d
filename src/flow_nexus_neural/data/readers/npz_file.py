"""An archive of numpy's arrays: `.npz`."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from typing_extensions import override

from flow_nexus_neural.data.data_file import MAX_FILE_BYTES, DataFile
from flow_nexus_neural.data.inline import JoinedLimits, stack_parts
from flow_nexus_neural.data.labelled_arrays import (
    INPUT_KEYS,
    LABEL_KEYS,
    columns_of_matrix,
    flattening_note,
    label_key,
    label_vector,
    own_parts,
)
from flow_nexus_neural.data.memory import Limits, MemoryBudget
from flow_nexus_neural.data.readers.arrays import (
    ARRAY_DEFECTS,
    announced,
    no_array,
    one_column,
    read_columns,
    read_header,
    texts_of,
)
from flow_nexus_neural.data.table import Column, Read, Table, TextColumn, check_rows, table_from
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

MAX_DIRECTORY_BYTES = 2 * 1024 * 1024
"""Of an archive's list of members: each entry becomes an object ten times its size."""
_BESIDE = ("symbol", "timestamp")
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes; others are unpacked without a bound."""


def read_npz(file: DataFile, max_rows: int) -> Read:
    """Read inputs with labels, or one column per array."""
    with _opened(file) as archive:
        members = _Members(archive, file.subject, max_rows)
        return _table(members, file.subject, max_rows, labels_needed=file.labels_needed)


def _table(members: "_Members", subject: str, max_rows: int, *, labels_needed: bool) -> Read:
    named = "feature_names" in members and not members.defect_of("feature_names")
    names = texts_of(members.column("feature_names")) if named else None
    parts = own_parts(members)
    if parts:
        tables: dict[str, Table] = {}
        joined = JoinedLimits(subject, Limits(max_rows))
        for part, keys in parts.items():
            tables[part] = _labelled(members, keys, names, subject, max_rows, label="y")
            joined.add(tables[part])
        return _told(stack_parts(tables, subject), members), "y"
    inputs = next((key for key in INPUT_KEYS if key in members), None)
    if inputs is None:
        columns = {name: _flat(members.column(name)) for name in members.usable()}
        return _told(table_from(columns, subject), members), None
    key = None
    if labels_needed or any(name in members for name in LABEL_KEYS):
        key = label_key(members.names, inputs, subject)
    table = _labelled(members, (inputs, key), names, subject, max_rows, label=key)
    return _told(table, members), key


def _labelled(
    members: "_Members",
    keys: tuple[str, str | None],
    names: list[str] | None,
    subject: str,
    max_rows: int,
    *,
    label: str | None,
) -> Table:
    """The table of an array of inputs, one of labels if any, and the symbol and time beside them."""
    inputs, labels = keys
    values = members.column(inputs)
    if isinstance(values, TextColumn):
        raise InvalidDataset(f"{subject}: '{inputs}' holds text", hint="use CSV for text columns")
    check_rows(len(values) if values.ndim else 0, max_rows, subject)
    columns = columns_of_matrix(values, names, subject)
    for extra in _BESIDE:
        if extra in members and extra not in columns:
            columns[extra] = members.column(extra)
    if label is not None and labels is not None:
        columns[label] = label_vector(members.column(labels), labels, subject)
    own = [column for name, column in columns.items() if name not in (*_BESIDE, label)]
    channels = all(not isinstance(column, TextColumn) and column.ndim == 2 for column in own)
    table = table_from(columns, subject, channels=channels)
    return replace(table, remarks=flattening_note(values.shape))


def _flat(column: Column) -> Column:
    """A column of at most one list per row."""
    if isinstance(column, TextColumn) or column.ndim < 3:
        return column
    return column.reshape(len(column), -1)


def _told(table: Table, members: "_Members") -> Table:
    """The table with a note on arrays that were not read, and why."""
    return replace(table, remarks=(*table.remarks, *members.left_out()))


class _Members:
    """The arrays of an archive, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, subject: str, max_rows: int) -> None:
        self._archive = archive
        self._subject = subject
        self._max_rows = max_rows
        self._budget = MemoryBudget(subject)
        self._read: set[str] = set()
        entries = archive.infolist()
        self.names: Mapping[str, zipfile.ZipInfo] = {
            entry.filename.removesuffix(".npy"): entry for entry in entries
        }
        size = sum(entry.file_size for entry in entries)
        if size > 2 * MAX_FILE_BYTES:
            raise LimitExceeded(
                f"{subject} unpacks to {size} bytes; the limit is {2 * MAX_FILE_BYTES}",
                hint="use fewer rows, or float32",
            )
        if len(self.names) < len(entries):
            raise InvalidDataset(f"{subject} names an array twice", hint="name every array once")
        if any(entry.compress_type not in PACKINGS for entry in entries):
            raise no_array(subject, "it is packed as numpy does not pack")

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def usable(self) -> list[str]:
        """Names of the arrays that can be columns: no objects, and no lone values.

        Raises:
            InvalidDataset: If there are none, but others, or a header is damaged.
        """
        found = [name for name in self.names if not self.defect_of(name)]
        if self.names and not found:
            first = next(iter(self.names))
            raise no_array(f"{self._subject}, array '{first[:40]}'", self.defect_of(first))
        return found

    def left_out(self) -> list[str]:
        """What to say of arrays that were not read."""
        rest = [name for name in self.names if name not in self._read]
        told = [f"'{name[:40]}' ({self.defect_of(name) or 'of no use here'})" for name in rest[:8]]
        more = f" and {len(rest) - 8} more" if len(rest) > 8 else ""
        return [f"arrays that are not read: {', '.join(told)}{more}"] if rest else []

    def defect_of(self, name: str) -> str:
        """Why an array can be no column; empty if it can, as far as its header says."""
        subject = f"{self._subject}, array '{name[:40]}'"
        try:
            with self._archive.open(self.names[name]) as stream:
                header = announced(stream, subject)
        except ARRAY_DEFECTS as failure:
            raise no_array(subject, failure) from None
        if header.dtype.hasobject:
            return "it holds objects, which only running code could read"
        return "" if header.shape else "it is a lone value"

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def column(self, name: str) -> Column:
        """Read one array.

        Raises:
            InvalidDataset: If it is no plain array.
            LimitExceeded: If it is too large.
        """
        entry = self.names[name]
        self._read.add(name)
        subject = f"{self._subject}, array '{name[:40]}'"
        try:
            with self._archive.open(entry) as stream:
                header = read_header(stream, subject, self._max_rows)
                if not header.shape:
                    raise no_array(subject, "it is a lone value")
                if header.nbytes > entry.file_size:
                    raise no_array(
                        subject, f"it announces {header.nbytes} bytes and has {entry.file_size}"
                    )
                return one_column(read_columns(stream, header, subject, self._budget), subject)
        except ARRAY_DEFECTS as failure:
            raise no_array(subject, failure) from None


@contextmanager
def _opened(file: DataFile) -> Iterator[zipfile.ZipFile]:
    stream = _Bounded(file)
    try:
        archive = zipfile.ZipFile(stream)
    except ARRAY_DEFECTS as failure:
        raise InvalidDataset(
            f"{file.subject} is not an archive of plain arrays: {failure}"[:200],
            hint="save it with numpy.savez(X=..., y=...), without objects",
        ) from None
    stream.at_most = MAX_FILE_BYTES
    with archive:
        yield archive


class _Bounded(io.BufferedReader):
    """The bytes of an archive, of which no more are read at one time than its list of members may have."""

    def __init__(self, file: DataFile) -> None:
        super().__init__(file.raw_stream())
        self._subject = file.subject
        self.at_most = MAX_DIRECTORY_BYTES

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.at_most:
            raise LimitExceeded(
                f"{self._subject} lists its members in {size} bytes; the limit is {self.at_most}",
                hint="use fewer arrays",
            )
        return super().read(size)
