"""Regions are sealed, buffers keep their size, and the engine copies before it believes."""

import errno
import fcntl
import mmap
import os
from contextlib import nullcontext

import numpy as np
import pytest

from flow_nexus_neural.errors import InternalError, InvalidState
from flow_nexus_neural.runtime.connection.memory import (
    CarriedBuffer,
    CarriedRegion,
    MemoryBuffer,
    MemoryRegion,
    view_of,
)
from tests.doubles.runtimes import descriptors

ARRAYS = {
    "x": np.arange(6, dtype="f4").reshape(2, 3),
    "y": np.array([1, 0], "i8"),
    "empty": np.zeros((0, 3), "f4"),
    "scalar": np.array(2.5),
}
LAYOUT = [("params", "f4", (5,)), ("buffers", "f4", (0,)), ("m", "f4", (2, 3))]


def test_a_region_holds_its_arrays_where_its_layout_says():
    with MemoryRegion.of("r", ARRAYS) as region:
        assert [layout.name for layout in region.layout] == list(ARRAYS)
        content = os.pread(region.fd, region.nbytes, 0)
        for layout in region.layout:
            assert layout.offset % 64 == 0
            got = content[layout.offset : layout.offset + layout.nbytes]
            assert got == ARRAYS[layout.name].tobytes()


def refused(action):
    with pytest.raises(OSError, match="not permitted") as caught:
        action()
    return caught.value.errno


def test_nobody_can_change_a_region():
    with MemoryRegion.of("r", ARRAYS) as region:
        fd = region.fd
        assert refused(lambda: os.pwrite(fd, b"x", 0)) == errno.EPERM
        assert refused(lambda: os.ftruncate(fd, 0)) == errno.EPERM
        assert refused(lambda: os.ftruncate(fd, 1 << 20)) == errno.EPERM
        assert refused(lambda: mmap.mmap(fd, 0)) == errno.EPERM
        assert refused(lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0)) == errno.EPERM
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as readable:
            assert readable[:4] == ARRAYS["x"].tobytes()[:4]


def test_a_node_can_write_a_buffer_but_not_change_its_size():
    with MemoryBuffer.of("b", LAYOUT) as buffer:
        assert refused(lambda: os.ftruncate(buffer.fd, 0)) == errno.EPERM
        assert refused(lambda: os.ftruncate(buffer.fd, 1 << 20)) == errno.EPERM
        assert refused(lambda: fcntl.fcntl(buffer.fd, fcntl.F_ADD_SEALS, 0)) == errno.EPERM
        with mmap.mmap(buffer.fd, 0) as theirs:
            theirs[:20] = np.arange(5, dtype="f4").tobytes()
            copied = buffer.copy()
            theirs[:20] = bytes(20)
    assert copied["params"].tolist() == [0, 1, 2, 3, 4]
    assert copied["buffers"].shape == (0,)
    assert copied["m"].shape == (2, 3)
    copied["params"][0] = 9


@pytest.mark.parametrize("make", [MemoryBuffer.of, CarriedBuffer])
def test_a_new_buffer_is_zero(make):
    buffer = make("b", LAYOUT)
    for name, dtype, shape in LAYOUT:
        copied = buffer.copy()[name]
        assert (copied.shape, copied.dtype) == (shape, np.dtype(dtype))
        assert not copied.any()
    buffer.close()


@pytest.mark.parametrize("make", [MemoryBuffer.of, CarriedBuffer])
def test_a_part_of_a_buffer_is_read_by_its_bits_and_nothing_beyond_its_array(make):
    buffer = make("b", LAYOUT)
    words = np.arange(5, dtype=np.uint32) + (1 << 31)
    if isinstance(buffer, MemoryBuffer):
        os.pwrite(buffer.fd, words.tobytes(), 0)
    else:
        buffer.store({"params": words.view("f4")})
    part = np.empty(3, np.uint32)
    buffer.read("params", 2, part)
    assert np.array_equal(part, words[2:])
    with pytest.raises(InternalError, match="ends before"):
        buffer.read("params", 3, part)
    buffer.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: MemoryRegion.of("r", ARRAYS),
        lambda: MemoryRegion.of("r", {}),
        lambda: MemoryBuffer.of("b", LAYOUT),
        lambda: CarriedRegion("r", ARRAYS),
        lambda: CarriedBuffer("b", LAYOUT),
    ],
)
def test_closing_is_idempotent_and_what_is_closed_refuses(make):
    before = descriptors()
    region = make()
    region.close()
    region.close()
    assert sorted(descriptors()) == sorted(before)
    with pytest.raises(InvalidState):
        region.copy() if region.writable else getattr(region, "fd", None) or region.arrays


@pytest.mark.parametrize(
    ("make", "shared", "writable"),
    [
        (lambda: MemoryRegion.of("r", ARRAYS), True, False),
        (lambda: MemoryBuffer.of("r", LAYOUT), True, True),
        (lambda: view_of(MemoryBuffer.of("r", LAYOUT)), True, False),
        (lambda: CarriedRegion("r", ARRAYS), False, False),
        (lambda: CarriedBuffer("r", LAYOUT), False, True),
        (lambda: view_of(CarriedBuffer("r", LAYOUT)), False, False),
    ],
)
def test_a_region_is_granted_by_descriptor_or_in_the_frame_but_never_both(make, shared, writable):
    region = make()
    frame = region.grant_frame()
    assert (frame.grant.key, frame.grant.arrays) == ("r", region.layout)
    assert (frame.grant.nbytes, frame.grant.writable) == (region.nbytes, writable)
    assert frame.descriptor == (region.fd if shared else None)
    assert (frame.arrays is None) == shared
    if not shared:
        assert list(frame.arrays) == [layout.name for layout in region.layout]
        with pytest.raises(InternalError) if not writable else nullcontext():
            region.store(region.arrays)
    region.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: MemoryRegion.of("r", ARRAYS),
        lambda: MemoryBuffer.of("r", LAYOUT),
        lambda: CarriedRegion("r", ARRAYS),
        lambda: CarriedBuffer("r", LAYOUT),
    ],
)
def test_a_region_that_was_given_up_is_not_granted(make):
    region = make()
    region.close()
    with pytest.raises(InvalidState):
        region.grant_frame()


def test_a_region_that_cannot_be_made_leaves_no_descriptor():
    before = descriptors()
    with pytest.raises(ValueError, match="complex"):
        MemoryRegion.of("r", {"x": np.zeros(2, "complex64")})
    assert sorted(descriptors()) == sorted(before)


def test_a_forgotten_region_gives_its_descriptor_back():
    before = descriptors()
    region = MemoryRegion.of("r", ARRAYS)
    assert len(descriptors()) == len(before) + 1
    del region
    assert sorted(descriptors()) == sorted(before)


def test_a_carried_region_is_a_copy_that_nobody_can_write():
    source = np.ones(3, "f4")
    region = CarriedRegion("r", {"x": source})
    source[0] = 9
    assert region.arrays["x"].tolist() == [1, 1, 1]
    assert not region.arrays["x"].flags.writeable


def test_what_a_reply_brings_after_the_end_of_a_buffer_is_dropped():
    buffer = CarriedBuffer("b", [("params", "f4", (2,))])
    buffer.store({"params": np.ones(2, "f4")})
    assert buffer.copy()["params"].tolist() == [1, 1]
    buffer.close()
    buffer.store({"params": np.ones(2, "f4")})
    with pytest.raises(InvalidState):
        buffer.copy()


def test_a_view_shows_what_is_written_later_and_cannot_write():
    with MemoryBuffer.of("b", LAYOUT) as buffer, view_of(buffer) as view:
        assert (view.key, view.layout, view.nbytes, view.writable) == (
            "b",
            buffer.layout,
            buffer.nbytes,
            False,
        )
        os.pwrite(buffer.fd, b"news", 64)
        assert os.pread(view.fd, 4, 64) == b"news"
        for attempt in (
            lambda: os.pwrite(view.fd, b"lies", 64),
            lambda: os.ftruncate(view.fd, 0),
            lambda: mmap.mmap(
                view.fd, view.nbytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
            ),
        ):
            with pytest.raises(OSError, match=r"Bad file|denied|Invalid"):
                attempt()
        assert os.pread(buffer.fd, 4, 64) == b"news"


def test_views_share_no_position_and_outlive_the_buffer():
    with MemoryBuffer.of("b", LAYOUT) as buffer, view_of(buffer) as one, view_of(buffer) as other:
        os.lseek(one.fd, 8, os.SEEK_SET)
        assert os.lseek(other.fd, 0, os.SEEK_CUR) == 0
        buffer.close()
        assert os.pread(other.fd, 4, 0) == bytes(4)
        with pytest.raises(InvalidState):
            view_of(buffer)


def test_a_carried_view_holds_what_was_stored_last():
    buffer = CarriedBuffer("b", LAYOUT)
    view = view_of(buffer)
    buffer.store({name: np.full(shape, 3, dtype) for name, dtype, shape in LAYOUT})
    assert view.arrays["params"].tolist() == [3] * 5
    view.close()
    assert buffer.is_open
    buffer.close()
    with pytest.raises(InvalidState):
        view.arrays  # noqa: B018


def test_only_a_buffer_of_a_runtime_has_views():
    with MemoryRegion.of("r", ARRAYS) as region, pytest.raises(InternalError):
        view_of(region)
