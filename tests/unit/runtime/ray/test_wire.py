import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.errors import InternalError
from flow_nexus_neural.runtime.ray.wire import (
    DRIVER,
    Splitter,
    host_of,
    pack,
    readdressed,
    unpack,
)

MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 1 << 31),
        st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
        st.binary(max_size=60),
    ),
    min_size=1,
    max_size=3,
)


@given(MESSAGES, st.integers(1, 40))
def test_messages_cut_anywhere_arrive_whole_and_in_order(messages, cut):
    stream = b"".join(b"".join(pack(host, told, body)) for host, told, body in messages)
    splitter, found = Splitter(), []
    for start in range(0, len(stream), cut):
        found += [unpack(raw) for raw in splitter.feed(stream[start : start + cut])]
    assert [(one.host, dict(one.header), bytes(one.body)) for one in found] == messages


def test_bodies_in_parts_are_one_body_and_an_address_can_be_changed():
    raw = b"".join(pack(DRIVER, {"kind": "x"}, b"ab", memoryview(b"cd")))
    moved = readdressed(raw, 7)
    assert (host_of(raw), host_of(moved)) == (DRIVER, 7)
    assert bytes(unpack(moved).body) == b"abcd"
    assert unpack(moved).header == json.loads('{"kind": "x"}')


def test_what_is_no_message_is_refused_before_memory_is_taken_for_it():
    with pytest.raises(InternalError):
        list(Splitter().feed(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"))
