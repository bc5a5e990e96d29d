"""Limits on HTTP clients: number and duration of connections, and memory for request bodies.

uvicorn limits neither the number of connections nor the time in which a request arrives, so that a client
could hold a connection for ever with half a request. The SDK limits the size of a body, but its error does
not tell a caller what to do.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import h11
from mcp.types import INVALID_REQUEST, ErrorData, JSONRPCError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from flow_nexus_neural.data.json_text import MAX_INLINE_BYTES
from flow_nexus_neural.errors import LimitExceeded, NeuralError
from flow_nexus_neural.server.errors import error_text

MAX_BODY_BYTES: Final = 3 * MAX_INLINE_BYTES + 1_000_000
"""Inline data of the documented maximum size fit into a body, however a client encodes them.

JSON inside a JSON text can take two bytes for one (`\\"`), and a client that writes only ASCII takes six
where UTF-8 has two (`\\u00e9`). The rest is for the other arguments and the message around them.
"""
MAX_BODIES_BYTES: Final = 4 * MAX_BODY_BYTES
"""Size of all bodies held at one time, so that many clients together cannot exhaust the memory."""

_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n"
    b"too many connections are open: close one, or call again later"
)

log = logging.getLogger(__name__)


@dataclass
class ConnectionLimits:
    """Limits and state shared by all connections of a server.

    Attributes:
        connections: Largest number of open connections.
        timeout_s: Time for a request to arrive completely, and for a client to continue reading.
        is_refusing: Whether the last connection was refused, so that the warning is logged only once.
    """

    connections: int
    timeout_s: float
    is_refusing: bool = False


class _Timer:
    """Calls a function once after a delay, unless stopped before; starting a running timer has no effect."""

    def __init__(
        self, call_later: Callable[..., Any], after_s: float, call: Callable[[], None]
    ) -> None:
        self._call_later = call_later
        self._after_s = after_s
        self._call = call
        self._running: Any = None

    def start(self) -> None:
        if self._running is None:
            self._running = self._call_later(self._after_s, self._expire)

    def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def _expire(self) -> None:
        self._running = None
        self._call()


class LimitedConnection(H11Protocol):
    """One connection, which is closed if its client is too slow.

    uvicorn's keep-alive timeout closes a connection between requests. This class also limits the time from
    the start of a request (or of the connection) to its last byte, and the time in which a response is read.
    """

    limits: ConnectionLimits

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        after_s = self.limits.timeout_s
        self._until_whole = _Timer(self.loop.call_later, after_s, self._not_whole)
        self._until_read = _Timer(self.loop.call_later, after_s, self._not_read)
        # Closing waits until the client has read all written data, which it may never do.
        self._until_closed = _Timer(self.loop.call_later, after_s, self._abort)

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # Refused before anything is read, since a slow request is what the limit protects against.
        is_too_many = len(self.connections) > self.limits.connections
        if is_too_many:
            if not self.limits.is_refusing:
                log.warning("%d connections are open: refusing more", self.limits.connections)
            transport.write(_TOO_MANY)
            self._close()
        else:
            self._watch()
        self.limits.is_refusing = is_too_many

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._until_whole, self._until_read, self._until_closed):
            timer.stop()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._until_read.start()

    @override
    def resume_writing(self) -> None:
        self._until_read.stop()
        super().resume_writing()

    @override
    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._until_closed.start()

    def _watch(self) -> None:
        """Run the timer while a request is expected or arriving; stop it otherwise."""
        state = self.conn.their_state
        is_idle = state is h11.IDLE and self.timeout_keep_alive_task is not None
        is_awaited = state is h11.SEND_BODY or (state is h11.IDLE and not is_idle)
        if is_awaited and not self.transport.is_closing():
            self._until_whole.start()
        else:
            self._until_whole.stop()

    def _not_whole(self) -> None:
        log.info("a request had not come in whole after %g s", self.limits.timeout_s)
        # Only if no response has begun: a 408 in the middle of one would corrupt it.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            words = f"the request had not come in whole after {self.limits.timeout_s:g} s".encode()
            kind = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
            for event in (
                h11.Response(status_code=408, headers=kind, reason=b"Request Timeout"),
                h11.Data(data=words),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self._close()

    def _not_read(self) -> None:
        log.info("a client had not read its answer after %g s", self.limits.timeout_s)
        self._abort()

    def _abort(self) -> None:
        self.transport.abort()

    def _close(self) -> None:
        self.transport.close()
        self._until_closed.start()


def limited_connection(connections: int, timeout_s: float) -> type[LimitedConnection]:
    """Create the class of a server's connections; uvicorn instantiates it for each connection."""

    class Connection(LimitedConnection):
        limits = ConnectionLimits(connections, timeout_s)

    return Connection


class BodyLimits:
    """ASGI middleware: limits all bodies together, and reports a body that is too large or incomplete.

    The SDK counts a body and replies 413, here with a better text. It treats a client that disconnects within
    a body as a failure of the server; here that is only logged.

    Args:
        app: The application behind it.
        max_bodies_bytes: Limit on all bodies held at one time.
    """

    def __init__(self, app: ASGIApp, max_bodies_bytes: int = MAX_BODIES_BYTES) -> None:
        self._app = app
        self._max_bodies_bytes = max_bodies_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(receive, send, self._has_room)
        try:
            await self._app(scope, request.receive, request.send)
        except ClientDisconnect:
            if not request.is_over:
                raise
        finally:
            self._held_bytes -= request.held_bytes
        if request.refusal is not None:
            await request.refusal(scope, receive, send)

    def _has_room(self, nbytes: int) -> bool:
        self._held_bytes += nbytes
        return self._held_bytes <= self._max_bodies_bytes


class _Request:
    """Intercepts the messages between an application and its server for one request.

    Attributes:
        held_bytes: Received bytes of its body.
        is_over: Whether further messages of the application must not reach the client.
        refusal: The response to send instead.
    """

    def __init__(self, receive: Receive, send: Send, has_room: Callable[[int], bool]) -> None:
        self._receive = receive
        self._send = send
        self._has_room = has_room
        self._is_whole = False
        self.held_bytes = 0
        self.is_over = False
        self.refusal: Response | None = None

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            ClientDisconnect: If the client has disconnected or the body is refused.
        """
        message = await self._receive()
        # After the whole body a disconnect is not an error: it is how a client ends a stream.
        if message["type"] == "http.disconnect" and not self._is_whole:
            log.info("a client hung up before its request was whole")
            self._end()
            raise ClientDisconnect
        nbytes = len(message.get("body", b""))
        self.held_bytes += nbytes
        if not self._has_room(nbytes):
            self._end(_refusal(503, _BUSY))
            raise ClientDisconnect
        self._is_whole = self._is_whole or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message of the application, unless the request is refused here."""
        if message["type"] == "http.response.start" and message["status"] == HTTP_413:
            self._end(_refusal(HTTP_413, _TOO_LARGE))
        if not self.is_over:
            await self._send(message)

    def _end(self, refusal: Response | None = None) -> None:
        self.refusal = refusal
        self.is_over = True


HTTP_413: Final = 413
_TOO_LARGE: Final = LimitExceeded(
    f"the request has more than {MAX_BODY_BYTES} bytes; inline data may have {MAX_INLINE_BYTES} bytes"
    " of JSON",
    hint="put the data into a file in the data directory and pass its path",
)
_BUSY: Final = LimitExceeded(
    "the server is taking in as much from other calls as it may hold",
    hint="Call again later, or put the data into a file in the data directory and pass its path",
)


def _refusal(status: int, error: NeuralError) -> Response:
    """A JSON-RPC error, which clients show to their caller; without id, since the body was not parsed."""
    body = JSONRPCError(
        jsonrpc="2.0", id=None, error=ErrorData(code=INVALID_REQUEST, message=error_text(error))
    )
    text = body.model_dump_json(by_alias=True, exclude_unset=True)
    return Response(text, status, media_type="application/json")
