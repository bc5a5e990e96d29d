"""Notifies subscribers of changed clusters, in both protocol versions, twice a second at most."""

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp.types import EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.server.resources import cluster_uris

MIN_INTERVAL_S = 0.5
MAX_SUBSCRIPTIONS = 1000


class ResourceUpdates:
    """Collects changes and publishes them.

    Clients of the 2026 protocol listen on the bus. Clients of the older protocol, which begins with a
    handshake, call `resources/subscribe`, for which the SDK has no handler.

    Args:
        bus: The server's subscription bus.
    """

    def __init__(self, bus: InMemorySubscriptionBus) -> None:
        self._bus = bus
        self._changed_uris: dict[str, None] = {}
        self._news = anyio.Event()
        self._subscribers: dict[tuple[int, str], ServerSession] = {}

    def register(self, server: NeuralServer) -> None:
        """Register handlers for the subscribe methods of the older protocol."""
        server.handle("resources/subscribe", SubscribeRequestParams, self._subscribe)
        server.handle("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    def changed(self, cluster_id: str) -> None:
        """Record that a cluster changed; `run` notifies the subscribers."""
        self._changed_uris.update(dict.fromkeys(cluster_uris(cluster_id)))
        self._news.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            uris, self._changed_uris = list(self._changed_uris), {}
            for uri in uris:
                await self._publish(uri)
            await anyio.sleep(
                MIN_INTERVAL_S
            )  # changes meanwhile are collected and published together

    async def _publish(self, uri: str) -> None:
        await self._bus.publish(ResourceUpdated(uri=uri))
        for (_, subscribed_uri), session in list(self._subscribers.items()):
            if subscribed_uri == uri:
                await session.send_resource_updated(uri)

    async def _subscribe(
        self, context: ServerRequestContext, params: SubscribeRequestParams
    ) -> EmptyResult:
        # Bounded, because a client may disconnect without unsubscribing: the oldest are dropped.
        while len(self._subscribers) >= MAX_SUBSCRIPTIONS:
            del self._subscribers[next(iter(self._subscribers))]
        self._subscribers[_connection(context.session), str(params.uri)] = context.session
        return EmptyResult()

    async def _unsubscribe(
        self, context: ServerRequestContext, params: UnsubscribeRequestParams
    ) -> EmptyResult:
        self._subscribers.pop((_connection(context.session), str(params.uri)), None)
        return EmptyResult()


def _connection(session: ServerSession) -> int:
    """A key of the client's connection.

    The SDK creates a session for each request; all of them share the parameters of one handshake.
    """
    return id(session.client_params)
