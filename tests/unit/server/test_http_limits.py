"""What a request over HTTP may hold, without a network."""

import json

import anyio
import pytest
from starlette.requests import ClientDisconnect

from flow_nexus_neural.data.json_text import MAX_INLINE_BYTES
from flow_nexus_neural.server.http_limits import MAX_BODY_BYTES, BodyLimits

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


async def reading(scope, receive, send):
    """An application that reads the whole body, waits, and says how large it was."""
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        size += len(message["body"])
        more = message["more_body"]
    await anyio.lowlevel.checkpoint()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


class Call:
    """A call whose body is given part by part."""

    def __init__(self, app):
        self._app = app
        self._send_part, self._parts = anyio.create_memory_object_stream(10)
        self.answer = []

    def part(self, body, more):
        self._send_part.send_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self):
        self._send_part.send_nowait({"type": "http.disconnect"})

    async def run(self):
        async def send(message):
            self.answer.append(message)

        with self._send_part, self._parts:
            await self._app(SCOPE, self._parts.receive, send)

    @property
    def status(self):
        return self.answer[0]["status"]


def test_what_is_promised_fits_however_a_client_writes_it():
    for char in ('"', "\\", "é", "中", "😀", "a", "\n"):
        text = char * (MAX_INLINE_BYTES // 100 // len(char.encode()))
        written = json.dumps(text)  # ASCII alone, quotes escaped
        assert len(written) <= (MAX_BODY_BYTES - 1_000_000) // 100 + 2


async def test_many_bodies_together_are_bounded_and_make_room_when_they_end():
    app = BodyLimits(reading, max_bodies_bytes=100)
    first, second, third = Call(app), Call(app), Call(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        first.part(b"a" * 60, True)
        await anyio.wait_all_tasks_blocked()
        second.part(b"a" * 41, False)
        await second.run()
        assert second.status == 503
        assert "limit_exceeded" in json.loads(second.answer[1]["body"])["error"]["message"]
        first.part(b"a" * 40, False)
    assert (first.status, first.answer[1]["body"]) == (200, b"100")
    third.part(b"a" * 100, False)
    await third.run()
    assert third.status == 200


async def test_a_client_that_hangs_up_within_its_body_is_answered_nothing_and_holds_nothing():
    app = BodyLimits(reading, max_bodies_bytes=100)
    for _ in range(3):
        call = Call(app)
        call.part(b"a" * 60, True)
        call.hang_up()
        await call.run()
        assert call.answer == []


async def test_a_failure_of_the_application_stays_one():
    async def failing(scope, receive, send):
        raise ClientDisconnect

    with pytest.raises(ClientDisconnect):
        await Call(BodyLimits(failing)).run()
