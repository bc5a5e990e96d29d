"""Serves over HTTP, for tests and for hosts that cannot start a process.

By default only loopback is bound, and requests with a foreign Host or Origin are refused, to keep web pages
out (DNS rebinding). Another address is bound only with a token, which every request must carry. `http_limits`
bounds the connections and memory of clients.
"""

import hmac
import ipaddress

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import SecretStr
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.http_limits import (
    MAX_BODY_BYTES,
    BodyLimits,
    limited_connection,
)
from flow_nexus_neural.server.lifetime import serve_until_stopped
from flow_nexus_neural.server.listener import Listener, in_url
from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.settings import Settings


class TokenRequired:
    """ASGI middleware that passes only requests with the bearer token.

    Args:
        app: The application behind it.
        token: Compared in constant time.
    """

    def __init__(self, app: ASGIApp, token: SecretStr) -> None:
        self._app = app
        self._expected = f"Bearer {token.get_secret_value()}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reply 401 to requests without the token; lifespan events of the server itself pass."""
        if scope["type"] != "lifespan":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                refusal = PlainTextResponse(
                    "a bearer token is required", 401, {"WWW-Authenticate": "Bearer"}
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check_http(settings: Settings) -> None:
    """Refuse an address on which others could call the tools without a token.

    Raises:
        InvalidArguments: If the address is not valid, means all addresses, or needs a token.
    """
    try:
        address = ipaddress.ip_address(settings.http_host)
    except ValueError as failure:
        raise InvalidArguments(
            f"--http-host {settings.http_host!r} is not an address",
            hint="Give one address of this machine, for example 127.0.0.1",
        ) from failure
    if address.is_unspecified:
        raise InvalidArguments(
            f"--http-host {address} stands for every address of this machine",
            hint="Name the one that is meant: requests for other hosts are refused",
        )
    if not address.is_loopback and settings.http_token is None:
        raise InvalidArguments(
            f"--http-host {address} is not loopback: whoever reaches it could call the tools",
            hint="Set FLOW_NEXUS_NEURAL_HTTP_TOKEN to a secret of 16 or more characters, or use 127.0.0.1",
        )


def http_app(server: NeuralServer, settings: Settings, port: int) -> ASGIApp:
    """The ASGI application: limits, checks of Host and Origin, and of the token if there is one."""
    host = in_url(settings.http_host)
    names = [host] if host != "127.0.0.1" else [host, "localhost"]
    app: ASGIApp = server.streamable_http_app(
        host=settings.http_host,
        transport_security=TransportSecuritySettings(
            allowed_hosts=[f"{name}:{port}" for name in names],
            allowed_origins=[f"http://{name}:{port}" for name in names],
        ),
        max_request_body_size=MAX_BODY_BYTES,
        session_idle_timeout=settings.http_session_idle_s,
        max_sessions=settings.http_max_sessions,
    )
    # The token is checked outermost, so that a client without it cannot make the server hold a body.
    app = BodyLimits(app)
    return app if settings.http_token is None else TokenRequired(app, settings.http_token)


async def serve_http(server: NeuralServer, host: EngineHost, settings: Settings, port: int) -> None:
    """Serve on `http://HTTP_HOST:PORT/mcp` until a signal arrives; then end the process."""
    config = uvicorn.Config(
        http_app(server, settings, port),
        host=settings.http_host,
        port=port,
        log_config=None,  # logging is already configured, to standard error
        access_log=False,
        http=limited_connection(settings.http_max_connections, settings.http_request_timeout_s),
        ws="none",  # a connection upgraded to WebSocket would not be subject to the limits
        timeout_graceful_shutdown=1,
    )
    listener = Listener(config, f"serving on http://{in_url(settings.http_host)}:{port}/mcp")
    await serve_until_stopped(host, listener.serve_until)
