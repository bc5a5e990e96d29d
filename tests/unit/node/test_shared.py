"""Granted memory appears in the node, read-only unless it is its own, for as long as anybody looks."""

import gc
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flow_nexus_neural.node.shared import map_region
from flow_nexus_neural.protocol.arrays import ArrayLayout
from flow_nexus_neural.protocol.codec import arrange
from flow_nexus_neural.protocol.messages import Grant
from flow_nexus_neural.runtime.connection.memory import MemoryBuffer, MemoryRegion

ARRAYS = {
    "x": np.arange(6, dtype="f4").reshape(2, 3),
    "y": np.array([1, 0], "i8"),
    "empty": np.zeros((0, 3), "f4"),
}


def grant_of(region):
    return Grant(
        key=region.key, writable=region.writable, nbytes=region.nbytes, arrays=region.layout
    )


def mappings():
    return Path("/proc/self/maps").read_text().count("memfd:flow-nexus-neural")


def test_a_region_is_seen_as_it_was_written_and_cannot_be_written():
    with MemoryRegion.of("r", ARRAYS) as region:
        arrays = map_region(region.fd, grant_of(region))
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
        assert not arrays[name].flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            arrays[name].flags.writeable = True


WRITER = """
import ctypes, sys
from flow_nexus_neural.node.shared import map_region
from flow_nexus_neural.protocol.messages import Grant

arrays = map_region(int(sys.argv[1]), Grant.model_validate_json(sys.argv[2]))
print(arrays["x"].tolist(), flush=True)
ctypes.memset(arrays["x"].ctypes.data, 1, 4)
"""


def test_writing_read_only_memory_ends_the_process_that_does_it_and_changes_nothing():
    with MemoryRegion.of("r", ARRAYS) as region:
        arrays = map_region(region.fd, grant_of(region))
        grant = grant_of(region).model_dump_json()
        writer = subprocess.run(
            [sys.executable, "-c", WRITER, str(region.fd), grant],
            pass_fds=(region.fd,),
            capture_output=True,
            text=True,
            check=False,
        )
    assert writer.stdout.strip() == str(ARRAYS["x"].tolist())
    assert writer.returncode == -signal.SIGSEGV
    np.testing.assert_array_equal(arrays["x"], ARRAYS["x"])


def test_what_a_node_writes_into_its_buffer_reaches_the_engine():
    with MemoryBuffer.of("b", [("params", "f4", (3,)), ("m", "f4", (2,))]) as buffer:
        arrays = map_region(buffer.fd, grant_of(buffer))
        arrays["params"][:] = [1, 2, 3]
        assert buffer.copy()["params"].tolist() == [1, 2, 3]
        assert buffer.copy()["m"].tolist() == [0, 0]


def test_a_mapping_lives_until_the_last_view_of_it_is_gone():
    before = mappings()
    with MemoryRegion.of("r", ARRAYS) as region:
        arrays = map_region(region.fd, grant_of(region))
    assert mappings() == before + 1
    view = arrays["x"][1:].reshape(-1)[::2]
    del arrays
    gc.collect()
    assert mappings() == before + 1
    assert view.tolist() == [3, 5]
    del view
    assert mappings() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 64},
        {"nbytes": 128, "shape": (32,)},
        {"shape": (3,)},
        {"offset": 2},
    ],
)
def test_a_layout_outside_of_its_region_is_refused(changes):
    layout = {"name": "x", "dtype": "f4", "shape": (4,), "offset": 0, "nbytes": 16} | changes
    grant = Grant(key="r", writable=False, nbytes=64, arrays=(ArrayLayout.model_validate(layout),))
    before = mappings()
    with (
        MemoryRegion.of("r", {"x": np.zeros(16, "f4")}) as region,
        pytest.raises(ValueError, match="fit"),
    ):
        map_region(region.fd, grant)
    assert mappings() == before


def test_a_sealed_region_cannot_be_mapped_for_writing():
    layout, nbytes = arrange([("x", "f4", (16,))])
    grant = Grant(key="r", writable=True, nbytes=nbytes, arrays=layout)
    with (
        MemoryRegion.of("r", {"x": np.zeros(16, "f4")}) as region,
        pytest.raises(OSError, match="not permitted"),
    ):
        map_region(region.fd, grant)
