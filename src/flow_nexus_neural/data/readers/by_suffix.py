"""Reads a file into a table with the reader of its suffix."""

import zlib
from collections.abc import Callable

from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.readers.arrow_file import read_arrow
from flow_nexus_neural.data.readers.csv_file import read_csv
from flow_nexus_neural.data.readers.json_any import read_any_json
from flow_nexus_neural.data.readers.npy_file import read_npy
from flow_nexus_neural.data.readers.npz_file import read_npz
from flow_nexus_neural.data.readers.parquet_file import read_parquet
from flow_nexus_neural.data.table import Read
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

READERS: dict[str, Callable[[DataFile, int], Read]] = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".tsv": read_csv,
    ".tsv.gz": read_csv,
    ".json": read_any_json,
    ".json.gz": read_any_json,
    ".jsonl": read_any_json,
    ".jsonl.gz": read_any_json,
    ".ndjson": read_any_json,
    ".ndjson.gz": read_any_json,
    ".npy": read_npy,
    ".npz": read_npz,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}


def read_file(file: DataFile, max_rows: int) -> Read:
    """Read one file by its suffix.

    Args:
        file: An opened file.
        max_rows: Rows beyond which reading stops.

    Returns:
        The table, and the name of its label column when the file's form has one.

    Raises:
        InvalidDataset: If the suffix is unknown, the content does not form a table, or it changes meanwhile.
        LimitExceeded: If the file, or what it unpacks to, is too large.
        NotAvailable: If the format's library is not installed.
    """
    reader = READERS.get(file.suffix)
    if reader is None:
        raise InvalidDataset(
            f"'{file.name}' has no known data format", hint="formats: " + ", ".join(sorted(READERS))
        )
    try:
        return reader(file, max_rows)
    except UnicodeDecodeError as failure:
        raise InvalidDataset(
            f"'{file.name}' is not UTF-8: {failure.reason} at byte {failure.start}",
            hint="save the file as UTF-8",
        ) from None
    except (OSError, EOFError, zlib.error) as failure:
        raise InvalidDataset(
            f"'{file.name}' cannot be read: {type(failure).__name__}",
            hint="check that the file is complete and readable by the server",
        ) from None
    except MemoryError:
        raise LimitExceeded(
            f"'{file.name}' does not fit the memory", hint="use a part of it"
        ) from None
