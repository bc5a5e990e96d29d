"""Opens a file as the product does and reads it."""

from pathlib import Path

from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.directory import read_directory
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.opening import DataDirectory, DataRoots
from flow_nexus_neural.data.readers.by_suffix import read_file
from flow_nexus_neural.data.table import Read, Table
from flow_nexus_neural.settings import Settings


def read_path(path: Path, max_rows: int = 1_000_000) -> Read:
    with DataRoots([path.parent]).open(path.resolve()) as file:
        assert isinstance(file, DataFile)
        return read_file(file, max_rows)


def read_folder(path: Path, settings: Settings) -> tuple[Table, str | None, list[tuple[str, str]]]:
    with DataRoots(settings.data_roots).open(path.resolve()) as directory:
        assert isinstance(directory, DataDirectory)
        return read_directory(directory, Limits(settings.max_rows))
