import pytest

from flow_nexus_neural.data.readers.by_suffix import READERS
from flow_nexus_neural.errors import InvalidDataset
from tests.unit.data.reading import read_path

ROWS = 1_000_000


def test_an_unknown_suffix_lists_the_formats(root):
    path = root / "a.xlsx"
    path.write_bytes(b"x")
    with pytest.raises(InvalidDataset, match="no known data format") as caught:
        read_path(path, ROWS)
    assert all(suffix in caught.value.hint for suffix in READERS)
