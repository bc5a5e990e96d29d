"""An archive of numpy's arrays: `.npz`."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from typing_extensions import override

from flow_nexus_neural.data.data_file import MAX_FILE_BYTES, DataFile
from flow_nexus_neural.data.inline import INPUT_KEYS, columns_of_matrix, label_key
from flow_nexus_neural.data.memory import MemoryBudget
from flow_nexus_neural.data.readers.arrays import (
    ARRAY_DEFECTS,
    no_array,
    one_column,
    read_columns,
    read_header,
    texts_of,
)
from flow_nexus_neural.data.table import Column, Read, TextColumn, check_rows, table_from
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

MAX_DIRECTORY_BYTES = 2 * 1024 * 1024
"""Of an archive's list of members: each entry becomes an object ten times its size."""
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes; others are unpacked without a bound."""


def read_npz(file: DataFile, max_rows: int) -> Read:
    """Read inputs with labels, or one column per array."""
    with _opened(file) as archive:
        members = _Members(archive, file.subject, max_rows)
        return _table(members, file.subject, max_rows)


def _table(members: "_Members", subject: str, max_rows: int) -> Read:
    inputs = next((key for key in INPUT_KEYS if key in members), None)
    if inputs is None:
        return table_from({name: members.column(name) for name in members}, subject), None
    label = label_key(members.names, inputs, subject)
    names = texts_of(members.column("feature_names")) if "feature_names" in members else None
    values = members.column(inputs)
    if isinstance(values, TextColumn):
        raise InvalidDataset(f"{subject}: '{inputs}' holds text", hint="use CSV for text columns")
    check_rows(len(values) if values.ndim else 0, max_rows, subject)
    columns = columns_of_matrix(values, names, subject)
    for extra in ("symbol", "timestamp"):
        if extra in members and extra not in columns:
            columns[extra] = members.column(extra)
    columns[label] = members.column(label)
    return table_from(columns, subject, channels=values.ndim == 3), label


class _Members:
    """The arrays of an archive, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, subject: str, max_rows: int) -> None:
        self._archive = archive
        self._subject = subject
        self._max_rows = max_rows
        self._budget = MemoryBudget(subject)
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

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def column(self, name: str) -> Column:
        """Read one array.

        Raises:
            InvalidDataset: If it is no plain array.
            LimitExceeded: If it is too large.
        """
        entry = self.names[name]
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
