"""Frames survive any split; anything else than a frame is refused, and nothing worse happens."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flow_nexus_neural.errors import LimitExceeded, ProtocolViolation
from flow_nexus_neural.protocol.codec import (
    MAGIC,
    PREFIX,
    REPLY_HEADERS,
    REQUEST_HEADERS,
    Decoder,
    Frame,
    FrameLimits,
    Unreadable,
    arrange,
    encode,
    pack,
)
from flow_nexus_neural.protocol.messages import (
    Announce,
    Build,
    Cancel,
    Done,
    Failed,
    GetWeights,
    Grant,
    Infer,
    Load,
    Observe,
    Outputs,
    Pass,
    Ping,
    Pong,
    Predict,
    Revoke,
    Shutdown,
    Train,
    Trained,
    Weights,
)
from tests.doubles.linear_service import linear_plan

PROFILE = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
DIGEST = "ab" * 32

names = st.text("abcdefgh.:0123", min_size=1, max_size=20)
requests = st.one_of(
    st.sampled_from([Ping(), Cancel(), Shutdown(), Build(network="n", plan=linear_plan(), seed=1)]),
    st.builds(GetWeights, network=names),
    st.builds(Load, network=names, region=names),
    st.builds(Infer, network=names, weights=names, data=names),
    st.builds(Predict, network=names),
    st.builds(Announce, key=names, token=st.integers(0, (1 << 63) - 1)),
    st.builds(Observe, keys=st.lists(names, max_size=5).map(tuple), reads=st.integers(1, 64)),
    st.builds(Revoke, keys=st.lists(names, max_size=5).map(tuple)),
    st.builds(
        Train,
        network=names,
        base=names,
        opt_step=st.integers(0, 1 << 40),
        shard=names,
        publish=names,
        optimizer=st.sampled_from(["adam", "sgd", "rmsprop", "adagrad"]),
        learning_rate=st.floats(1e-7, 10),
        batch_size=st.integers(1, 4096),
        passes=st.lists(
            st.builds(Pass, order_seed=st.integers(0, (1 << 63) - 1)), min_size=1, max_size=3
        ).map(tuple),
        dropout_seed=st.integers(0, (1 << 63) - 1),
    ),
    st.builds(
        lambda key, specs: Grant(key=key, writable=True, nbytes=1 << 20, arrays=arrange(specs)[0]),
        names,
        st.lists(
            st.tuples(names, st.sampled_from(["f4", "i8"]), st.tuples(st.integers(0, 9))),
            max_size=3,
            unique_by=lambda spec: spec[0],
        ),
    ),
)
dtypes = st.sampled_from(["<f4", "<f8", "<i8", "<i4", "u1"])
arrays = st.dictionaries(
    names,
    dtypes.flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
    ),
    max_size=4,
)


def same(got, sent):
    assert list(got) == list(sent)
    for name, array in sent.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        assert got[name].tobytes() == array.tobytes()
        assert got[name].flags.aligned


@PROFILE
@given(st.lists(st.tuples(requests, arrays), min_size=1, max_size=3), st.data())
def test_frames_survive_any_split(sent, data):
    stream = b"".join(
        b"".join(encode(number, 3, message, brought))
        for number, (message, brought) in enumerate(sent)
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder(REQUEST_HEADERS, FrameLimits())
    frames = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames += decoder.feed(stream[start:stop])
    assert len(frames) == len(sent)
    for number, (frame, (message, brought)) in enumerate(zip(frames, sent, strict=True)):
        assert (frame.call_id, frame.incarnation, frame.message) == (number, 3, message)
        same(frame.arrays, brought)
    (following,) = decoder.feed(b"".join(encode(9, 3, Ping())))  # nothing is left over
    assert following.message == Ping()


def test_a_frame_may_come_byte_by_byte():
    stream = b"".join(encode(1, 1, Predict(network="n"), {"x": np.arange(5.0)}))
    decoder = Decoder(REQUEST_HEADERS, FrameLimits())
    frames = [frame for byte in stream for frame in decoder.feed(bytes([byte]))]
    assert len(frames) == 1
    assert frames[0].arrays["x"].tolist() == [0, 1, 2, 3, 4]


def test_received_arrays_are_private_and_writable():
    stream = bytearray(b"".join(encode(1, 1, Predict(network="n"), {"x": np.ones(2)})))
    (frame,) = Decoder(REQUEST_HEADERS, FrameLimits()).feed(stream)
    stream[:] = b"\0" * len(stream)
    frame.arrays["x"][0] = 7
    assert frame.arrays["x"].tolist() == [7, 1]


def test_sent_arrays_are_not_copied():
    x = np.ones(1000, "f4")
    _, body = encode(1, 1, Predict(network="n"), {"x": x})
    x[0] = 2
    assert np.frombuffer(body, "f4")[0] == 2


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(12, dtype="f4").reshape(3, 4).T,
        np.arange(12, dtype="f4")[::2],
    ],
)
def test_foreign_byte_orders_and_strides_become_little_endian_c_order(array):
    (frame,) = Decoder(REQUEST_HEADERS, FrameLimits()).feed(
        b"".join(encode(1, 1, Predict(network="n"), {"x": array}))
    )
    assert frame.arrays["x"].dtype == np.dtype("<f4")
    np.testing.assert_array_equal(frame.arrays["x"], array)


MUTATED = [
    b"".join(encode(4, 2, message, brought))
    for message, brought in [
        (Pong(busy=None, steps_done=3, longest_step_ms=0.5), {}),
        (
            Weights(digest=DIGEST),
            {"params": np.arange(9, dtype="f4"), "buffers": np.zeros(0, "f4")},
        ),
        (Outputs(digest=DIGEST), {"y": np.ones((2, 2), "f4")}),
        (Trained(digest=DIGEST, loss=None, steps=1, opt_step=1, cpu_s=0.1), {}),
        (Failed(type="busy", message="train runs"), {}),
        (Done(), {}),
    ]
]


def feed_mutant(mutant):
    """Feed bytes; whether they were refused. Anything but a violation escapes and fails the test."""
    decoder = Decoder(REPLY_HEADERS, FrameLimits(header_bytes=4096, body_bytes=4096))
    try:
        for frame in decoder.feed(mutant):
            assert isinstance(frame, Frame)
    except ProtocolViolation:
        with pytest.raises(ProtocolViolation):
            decoder.feed(b"")
        return True
    return False


FUZZED_FRAMES = int(os.environ.get("FUZZED_FRAMES", "20000"))


@pytest.mark.timeout(600 + FUZZED_FRAMES // 100)
def test_twenty_thousand_mutated_frames_are_refused_or_still_frames():
    """Set FUZZED_FRAMES=1000000 for the long form."""
    draw = np.random.Generator(np.random.PCG64(2))
    refused = 0
    for round_ in range(FUZZED_FRAMES):
        mutant = bytearray(MUTATED[round_ % len(MUTATED)])
        kind = draw.integers(4)
        place = int(draw.integers(len(mutant)))
        if kind == 0:
            mutant[place] ^= int(draw.integers(1, 256))
        elif kind == 1:
            del mutant[place : place + int(draw.integers(1, 9))]
            mutant += bytes(16)
        elif kind == 2:
            mutant[place:place] = draw.bytes(int(draw.integers(1, 9)))
        else:
            mutant[place : place + 4] = draw.bytes(4)
        refused += feed_mutant(bytes(mutant))
    assert refused > FUZZED_FRAMES // 2


@PROFILE
@given(st.binary(max_size=200))
def test_noise_is_refused_or_awaited(noise):
    feed_mutant(noise)
    feed_mutant(PREFIX.pack(MAGIC, min(len(noise), 4096), 0) + noise)


def raw(header, body=b"", magic=MAGIC, lengths=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return PREFIX.pack(magic, *(lengths or (len(text), len(body)))) + text + body


def layout(**changes):
    return {"name": "y", "dtype": "f4", "shape": [2], "offset": 0, "nbytes": 8} | changes


def header(*arrays, **changes):
    message = {"kind": "outputs", "digest": None}
    return {"id": 1, "inc": 1, "msg": message, "arrays": list(arrays)} | changes


EIGHT = bytes(8)
ATTACKS = {
    "a length of 2^63": raw(b"", lengths=(10, 1 << 63)),
    "a header of 2^31": raw(b"", lengths=(1 << 31, 0)),
    "another magic": raw(header(), magic=b"FNN2"),
    "an empty header": raw(b""),
    "no JSON": raw(b"{"),
    "not UTF-8": raw(b'"\xff\xfe"'),
    "nested too deep": raw(b"[" * 3000),
    "JSON of another schema": raw([1, 2]),
    "an unknown message": raw(header(msg={"kind": "teleport"})),
    "an unknown field": raw(header(extra=1)),
    "an unknown field in the message": raw(header(msg={"kind": "done", "extra": 1})),
    "a number as text": raw(header(id="1")),
    "a negative id": raw(header(id=-1)),
    "NaN": raw(
        b'{"id":1,"inc":1,"arrays":[],"msg":{"kind":"pong","busy":null,"steps_done":1,'
        b'"longest_step_ms":NaN}}'
    ),
    "infinity": raw(
        b'{"id":1,"inc":1,"arrays":[],"msg":{"kind":"pong","busy":null,"steps_done":1,'
        b'"longest_step_ms":1e999}}'
    ),
    "an unknown dtype": raw(header(layout(dtype="O8")), EIGHT),
    "a wrong product": raw(header(layout(shape=[3])), EIGHT),
    "a product beyond 64 bits": raw(header(layout(shape=[1 << 61, 1 << 61])), EIGHT),
    "an impossible empty shape": raw(header(layout(shape=[0, 1 << 61], nbytes=0))),
    "a negative side": raw(header(layout(shape=[-2])), EIGHT),
    "overlapping arrays": raw(header(layout(), layout(name="z")), EIGHT),
    "a gap": raw(header(layout(offset=4, nbytes=4, shape=[1])), EIGHT),
    "a repeated name": raw(header(layout(), layout(offset=8)), bytes(16)),
    "trailing bytes": raw(header(layout()), bytes(9)),
    "missing bytes": raw(header(layout()), bytes(7)),
    "five dimensions": raw(header(layout(shape=[1, 1, 1, 1, 2])), EIGHT),
    "too many arrays": raw(header(*(layout(name=str(i), shape=[0], nbytes=0) for i in range(513)))),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(attack):
    decoder = Decoder(REPLY_HEADERS, FrameLimits())
    with pytest.raises(ProtocolViolation):
        decoder.feed(ATTACKS[attack])


def test_the_frame_that_the_attacks_vary_is_right():
    (frame,) = Decoder(REPLY_HEADERS, FrameLimits()).feed(raw(header(layout()), EIGHT))
    assert frame.arrays["y"].tolist() == [0, 0]


def test_lengths_are_refused_before_the_header_is_there():
    decoder = Decoder(REPLY_HEADERS, FrameLimits(body_bytes=1000))
    with pytest.raises(ProtocolViolation, match="1001"):
        decoder.feed(PREFIX.pack(MAGIC, 10, 1001))


def test_a_tolerant_decoder_names_the_call_that_it_does_not_understand():
    decoder = Decoder(REQUEST_HEADERS, FrameLimits(), tolerant=True)
    stream = raw(header(msg={"kind": "teleport"}, id=9)) + b"".join(encode(10, 1, Ping()))
    unknown, ping = decoder.feed(stream)
    assert isinstance(unknown, Unreadable)
    assert (unknown.call_id, unknown.incarnation) == (9, 1)
    assert ping.message == Ping()


def test_a_frame_beyond_the_receivers_limits_is_not_sent():
    with pytest.raises(LimitExceeded):
        encode(1, 1, Predict(network="n"), {"x": np.zeros(100)}, limits=FrameLimits(body_bytes=799))
    with pytest.raises(LimitExceeded):
        encode(1, 1, Failed(type="t", message="m" * 2000), limits=FrameLimits(header_bytes=1000))


def test_a_dtype_that_is_not_on_the_wire_is_not_sent():
    with pytest.raises(ValueError, match="complex"):
        encode(1, 1, Predict(network="n"), {"x": np.zeros(2, "complex64")})


@PROFILE
@given(arrays, st.sampled_from([1, 64]))
def test_packed_arrays_are_aligned_and_never_overlap(brought, align):
    layouts, end = pack(brought, align)
    free = 0
    for item in layouts:
        assert item.offset % align == 0
        assert item.offset >= free
        assert item.offset - free < align
        free = item.offset + item.nbytes
    assert end == free
