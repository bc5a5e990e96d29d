"""One array of numpy: `.npy`."""

from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.labelled_arrays import columns_of_matrix
from flow_nexus_neural.data.memory import MemoryBudget
from flow_nexus_neural.data.readers.arrays import (
    ARRAY_DEFECTS,
    no_array,
    one_column,
    read_columns,
    read_header,
)
from flow_nexus_neural.data.table import Read, TextColumn, table_from
from flow_nexus_neural.errors import InvalidDataset


def read_npy(file: DataFile, max_rows: int) -> Read:
    """Read a matrix whose last column is the target if one is needed, or an array with fields."""
    subject = file.subject
    stream = file.stream()
    if stream.peek(4)[:4] == b"PK\x03\x04":
        raise InvalidDataset(f"{subject} is not a .npy file", hint="name archives .npz")
    header = read_header(stream, subject, max_rows)
    if header.nbytes > file.size - stream.tell():
        raise no_array(
            subject, f"it announces {header.nbytes} bytes and has {file.size - stream.tell()}"
        )
    fields = header.dtype.names is not None
    narrowest = 2 if file.labels_needed else 1
    if not fields and (len(header.shape) != 2 or header.shape[1] < narrowest):
        raise InvalidDataset(
            f"{subject} has shape {list(header.shape)}",
            hint="a .npy file is [rows, columns] with the target last; use .npz with X and y else",
        )
    try:
        columns = read_columns(stream, header, subject, MemoryBudget(subject))
    except ARRAY_DEFECTS as failure:
        raise no_array(subject, failure) from None
    if fields:
        return table_from(columns, subject), None
    numbers = one_column(columns, subject)
    if isinstance(numbers, TextColumn):
        raise InvalidDataset(f"{subject} holds text", hint="use CSV for text columns")
    if not file.labels_needed:
        return table_from(columns_of_matrix(numbers, None, subject), subject), None
    inputs = columns_of_matrix(numbers[:, :-1], None, subject)
    return table_from({**inputs, "target": numbers[:, -1]}, subject), "target"
