import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flow_nexus_neural.data.readers.parquet_pages import read_page
from flow_nexus_neural.errors import InvalidDataset


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_pages_that_a_library_wrote_add_up(version):
    buffer = io.BytesIO()
    table = pa.table({"s": [f"text {index % 50}" for index in range(5_000)]})
    pq.write_table(table, buffer, data_page_size=500, data_page_version=version)
    chunk = pq.read_metadata(buffer).row_group(0).column(0)
    stream = io.BytesIO(buffer.getvalue())
    stream.seek(chunk.dictionary_page_offset)
    dictionary = read_page(stream, "the file")
    assert (dictionary.values, dictionary.holds_data) == (50, False)
    values = unpacked = headers = 0
    stream.seek(chunk.data_page_offset)
    while values < chunk.num_values:
        place = stream.tell()
        page = read_page(stream, "the file")
        headers += stream.tell() - place
        stream.seek(page.packed_bytes, 1)
        values, unpacked = values + page.values, unpacked + page.unpacked_bytes
        assert page.holds_data
    assert values == 5_000
    assert 0 < unpacked < chunk.total_uncompressed_size


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\x15",
        b"\x15\x00\x15\x02",  # ends before it is complete
        b"\x15\x00\x15\x02\x00",  # without a packed size
        b"\x15\x00\x15" + b"\xff" * 11,  # an endless number
        b"\x15\x00\x15\x01\x15\x02\x00",  # a negative size
        b"\x1c" * 20,  # nested too deeply
        b"\x19\x00",  # a list
    ],
)
def test_a_damaged_header_is_refused(header):
    with pytest.raises(InvalidDataset):
        read_page(io.BytesIO(header), "the file")
