"""The estimate is an upper bound of what decoding really takes, for documents made to break it."""

import tracemalloc

import pytest

from flow_nexus_neural.data.json_memory import check_decoded_size, decoded_size, text_size
from flow_nexus_neural.data.json_text import decode_in_steps
from flow_nexus_neural.errors import LimitExceeded

N = 16_000


def listed(item: str, count: int = N) -> str:
    return "[" + ",".join([item]) + f",{item}" * (count - 1) + "]"


DOCUMENTS = {
    "empty lists": listed("[]"),
    "lists of one": listed("[1]"),
    "empty objects": listed("{}"),
    "small objects": listed('{"a":0}'),
    "objects of six": listed('{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0}', N // 4),
    "objects of twelve": listed("{" + ",".join(f'"k{i}":0' for i in range(12)) + "}", N // 4),
    "zeros": listed("0"),
    "integers": "[" + ",".join(str(i) for i in range(300, N)) + "]",
    "negative integers": listed("-9"),
    "long integers": "[" + ",".join(str(10**40 + i) for i in range(N // 4)) + "]",
    "floats": listed("0.5"),
    "exponents": listed("1e9"),
    "short texts": "[" + ",".join(f'"{i:x}"' for i in range(N)) + "]",
    "texts with escapes": listed('"\\ud83d\\ude00' + "a" * 500 + '"', N // 100),
    "wide texts": listed('"\U0001f600' + "a" * 500 + '"', N // 100),
    "half wide texts": listed('"\u0141' + "a" * 500 + '"', N // 100),
    "one object": "{" + ",".join(f'"{i}":{i}' for i in range(N)) + "}",
    "objects in objects": listed('{"a":{"b":{"c":{}}}}', N // 4),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_decoding_takes_no_more_than_estimated(name):
    content = DOCUMENTS[name].encode()
    tracemalloc.start()
    try:
        text = content.decode()
        value = decode_in_steps(text)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert value
    assert text_size(content) <= held <= decoded_size(content)


def test_the_estimate_does_not_refuse_what_people_have():
    rows = "[" + ",".join("[0.123456,-1.5,3.25,17,0.75]" for _ in range(1_000)) + "]"
    assert decoded_size(rows.encode()) < 15 * len(rows)


def test_what_would_take_too_much_is_refused_with_both_numbers():
    with pytest.raises(LimitExceeded, match=r"would take about \d+ bytes .* the limit is 1000"):
        check_decoded_size(listed("[]", 100).encode(), "the data", 1_000)
