"""Serves the page to people: on loopback only, to those who have the token, live by server-sent events.

Everything is read, nothing can be changed. The token is part of the address, so that neither another user of
the machine nor a web page finds it; the Host header is checked as well, against DNS rebinding.
"""

import hmac
import json
import logging
import secrets
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flow_nexus_neural.errors import InvalidArguments, NeuralError
from flow_nexus_neural.server.dashboard.page import content_policy, page_html
from flow_nexus_neural.server.dashboard.sources import ClusterSource
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.server.http_limits import limited_connection
from flow_nexus_neural.server.listener import Listener

ADDRESS: Final = "127.0.0.1"
MAX_STREAMS: Final = 16
MAX_CONNECTIONS: Final = 48
REQUEST_LIMIT_S: Final = 20.0
HEARTBEAT_S: Final = 5.0
"""Predictions and memory change without a word of the engine: they are looked at this often."""
LEAST_GAP_S: Final = 0.5
"""Between two looks, however fast a cluster changes."""

log = logging.getLogger(__name__)


def new_token() -> str:
    """What an address of the dashboard needs to have: 192 random bits."""
    return secrets.token_urlsafe(24)


def bound(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one.

    Raises:
        InvalidArguments: If the port is taken.
    """
    try:
        return socket.create_server((ADDRESS, port), reuse_port=False)
    except OSError as failure:
        raise InvalidArguments(
            f"the dashboard cannot listen on port {port} of {ADDRESS}: {failure.strerror}",
            hint="Give another port, or 0 for one that is free",
        ) from failure


def address(listening: socket.socket, token: str) -> str:
    """The URL under which a dashboard is found."""
    return f"http://{ADDRESS}:{listening.getsockname()[1]}/{token}/"


async def serve_dashboard(
    source: ClusterSource, listening: socket.socket, token: str, stop: anyio.Event
) -> None:
    """Serve until the event is set."""
    config = uvicorn.Config(
        dashboard_app(source, token, listening.getsockname()[1]),
        log_config=None,
        access_log=False,  # a log with the token in it would give it away
        http=limited_connection(MAX_CONNECTIONS, REQUEST_LIMIT_S),
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    listener = Listener(config, f"the dashboard is at {address(listening, token)}")
    await listener.serve_until(stop, [listening])


async def serve_beside(source: ClusterSource, port: int) -> None:
    """Serve beside an MCP server for as long as that runs; a port that is taken costs the dashboard only."""
    try:
        listening = bound(port)
    except InvalidArguments as failure:
        log.warning("%s", failure)
        return
    await serve_dashboard(source, listening, new_token(), anyio.Event())


def dashboard_app(source: ClusterSource, token: str, port: int) -> ASGIApp:
    """The ASGI application."""
    streams = anyio.CapacityLimiter(MAX_STREAMS)
    routes = [
        Route(f"/{token}/", _page, methods=["GET"]),
        Route(f"/{token}/events", partial(_events, source, streams), methods=["GET"]),
    ]
    return Guard(Starlette(routes=routes), token, port)


class Guard:
    """ASGI middleware: passes requests for this host with the token, and adds headers that close the page.

    Args:
        app: The application behind it.
        token: First part of every path.
        port: That is listened on.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {f"{name}:{port}".encode() for name in (ADDRESS, "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse another host with 421, and what lacks the token with 404, like what does not exist."""
        host = dict(scope["headers"]).get(b"host", b"")
        given = scope["path"].removeprefix("/").partition("/")[0].encode()
        if host not in self._hosts:
            refusal = PlainTextResponse("this address serves its own host only", 421)
            await refusal(scope, receive, send)
        elif not hmac.compare_digest(given, self._token):
            await PlainTextResponse("there is nothing here", 404)(scope, receive, send)
        else:
            await self._app(scope, receive, partial(_closed, send))


async def _closed(send: Send, message: Message) -> None:
    """Send a message; with the headers that keep the page and its address to itself."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", ()), *_HEADERS]
    await send(message)


_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


async def _page(_: Request) -> Response:
    return HTMLResponse(
        page_html("http"), headers={"Content-Security-Policy": content_policy("http")}
    )


async def _events(
    source: ClusterSource, streams: anyio.CapacityLimiter, request: Request
) -> Response:
    if streams.available_tokens < 1:
        return PlainTextResponse(f"{MAX_STREAMS} pages are open: close one", 503)
    told = _stream(source, streams, request.query_params.get("cluster"))
    return StreamingResponse(told, media_type="text/event-stream")


async def _stream(
    source: ClusterSource, streams: anyio.CapacityLimiter, asked: str | None
) -> AsyncIterator[str]:
    """The events of one page until it goes away: clusters where their list changed, and the chosen one."""
    async with streams:
        listed: object = None
        while True:
            try:
                clusters = await source.clusters()
                chosen = asked or (clusters[-1]["cluster_id"] if clusters else None)
                if listed != (clusters, chosen):
                    listed = (clusters, chosen)
                    yield _event("clusters", {"clusters": clusters, "chosen": chosen})
                if chosen is not None:
                    shown = await source.show(chosen)
                    yield _event(
                        "status",
                        {
                            "status": shown.status,
                            "rounds": shown.rounds,
                            "seen": shown.seen,
                            "recorded_links": shown.recorded_links,
                        },
                    )
            except NeuralError as failure:
                yield _event("trouble", {"message": error_text(failure)})
            except Exception as failure:  # noqa: BLE001 - a page is told, and the stream goes on
                yield _event(
                    "trouble",
                    {"message": error_text(known_error(failure, subject="the dashboard"))},
                )
            await anyio.sleep(LEAST_GAP_S)
            await source.wait(HEARTBEAT_S)


def _event(name: str, data: dict[str, Any]) -> str:
    """One server-sent event (WHATWG HTML, section 9.2); JSON has no line breaks of its own."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n"
