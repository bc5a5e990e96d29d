"""Lines that are no messages are answered where somebody waits, and always logged."""

import json
import logging

import pytest

from flow_nexus_neural.server.request_lines import messages_in, with_whole_characters

PING = '{"jsonrpc":"2.0","id":1,"method":"ping"}'


async def sent(*lines):
    """What the SDK gets, and what is answered."""
    answers = []

    async def source():
        for line in lines:
            yield line

    async def answer(error):
        answers.append((error.id, error.error.code, error.error.message))

    return [line async for line in messages_in(source(), answer)], answers


@pytest.mark.parametrize(
    ("line", "id_", "code", "says"),
    [
        ('{"jsonrpc":"2.0","id":4,"method":"tools/call","params":[1]}', 4, -32600, "params"),
        ('{"jsonrpc":"1.0","id":5,"method":"ping"}', 5, -32600, "jsonrpc"),
        ('{"id":5,"method":"ping"}', 5, -32600, "jsonrpc"),
        ('{"jsonrpc":"2.0","id":6.0,"method":"ping"}', 6, -32600, "id must be"),
        ('{"jsonrpc":"2.0","id":7}', 7, -32600, "method"),
        ('{"jsonrpc":"2.0","id":"a","method":7}', "a", -32600, "method"),
        ('[{"jsonrpc":"2.0","id":8,"method":"ping"}]', 8, -32600, "batches"),
        ('{"jsonrpc":"2.0","id":9,"method":"ping"', 9, -32700, "no JSON"),
        (
            '{"jsonrpc":"2.0","id":10,"method":"x","params":{"a":' + "9" * 5000 + "}}",
            10,
            -32600,
            "",
        ),
        (
            '{"jsonrpc":"2.0","id":11,"method":"x","params":' + "[" * 210 + "]" * 210 + "}",
            11,
            -32600,
            "",
        ),
        (
            '{"jsonrpc":"2.0","id":12,"method":"x","params":{"a":' + "[" * 99_999,
            12,
            -32700,
            "nests",
        ),
    ],
    ids=range(11),
)
async def test_a_line_with_an_id_is_answered_and_logged(caplog, line, id_, code, says):
    with caplog.at_level(logging.WARNING):
        messages, answers = await sent(line + "\n", PING + "\n")
    assert messages == [PING + "\n"]
    ((answered, found, message),) = answers
    assert (answered, found) == (id_, code)
    assert says in message
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"answered with {code}" in record.getMessage()


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "null",
        "[]",
        '{"jsonrpc":"1.0","method":"notifications/initialized"}',
        '{"jsonrpc":"1.0","id":5,"result":{}}',
        '{"jsonrpc":"2.0","id":5,"error":"broken"}',
        '{"jsonrpc":"2.0","id":[1],"method":"ping"}',
        '{"jsonrpc":"2.0","id":null,"method":"ping"}',
        '{"jsonrpc":"2.0","id":true,"method":"ping"}',
        '{"jsonrpc":"2.0","id":1e400,"method":"ping"}',
        '{"jsonrpc":"2.0","id":' + "9" * 5000 + ',"method":"ping"}',
    ],
    ids=lambda line: line[:40],
)
async def test_a_line_to_which_nobody_waits_is_logged_only(caplog, line):
    with caplog.at_level(logging.WARNING):
        assert await sent(line) == ([], [])
    assert "not answered, as it has no id" in caplog.text


async def test_the_content_of_a_line_is_not_logged(caplog):
    with caplog.at_level(logging.DEBUG):
        await sent('{"jsonrpc":"1.0","id":5,"method":"a secret row"}')
    assert "secret" not in caplog.text


async def test_of_a_batch_every_request_is_answered_up_to_a_limit():
    batch = [{"jsonrpc": "2.0", "id": i, "method": "ping"} for i in range(1000)]
    mixed = [{"jsonrpc": "2.0", "method": "notifications/x"}, 7, *batch]
    _, answers = await sent(json.dumps(mixed))
    assert [id_ for id_, _, _ in answers] == list(range(100))


async def test_good_lines_pass_unchanged_and_blank_ones_are_skipped():
    good = [
        PING,
        '{"jsonrpc":"2.0","method":"notifications/initialized"}',
        '{"jsonrpc":"2.0","method":"notifications/x","params":{"id":[1]}}',
        '{"jsonrpc":"2.0","id":"a","result":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"\u00e4 \\ud83d\\ude00"}}',
    ]
    assert await sent(*good, "\n", "  ") == (good, [])


async def test_a_byte_order_mark_is_skipped_before_the_first_line_only():
    messages, answers = await sent("\ufeff" + PING, "\ufeff" + PING)
    assert (messages, answers) == ([PING], [])


@pytest.mark.parametrize(
    ("sent_text", "meant"),
    [
        (r"caf\ud83d", "caf\ufffd"),
        (r"\uDE00 behind", "\ufffd behind"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"a path C:\\ud83d", "a path C:\\ud83d"),
        (r"\\\ud83d", "\\\ufffd"),
        ("plain", "plain"),
    ],
)
def test_half_a_surrogate_pair_is_replaced_and_nothing_else(sent_text, meant):
    assert json.loads(with_whole_characters(f'"{sent_text}"')) == meant
