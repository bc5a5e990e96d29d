"""A server over the engine's double, with a client connected in memory, callable from plain tests."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client
from mcp.types import CallToolResult, Tool

from flow_nexus_neural.server.app import build_server
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.settings import Settings
from tests.doubles.engine_double import CLUSTER, EngineDouble, opened

ERAS = ("auto", "legacy")

GOOD_CALLS: dict[str, dict[str, Any]] = {
    "neural_cluster_init": {"name": "c"},
    "neural_node_deploy": {"cluster_id": CLUSTER},
    "neural_cluster_connect": {"cluster_id": CLUSTER},
    "neural_train_distributed": {"cluster_id": CLUSTER, "dataset": "synthetic:xor"},
    "neural_cluster_status": {"cluster_id": CLUSTER},
    "neural_predict_distributed": {"cluster_id": CLUSTER, "input_data": {"price": 1.0}},
    "neural_model_export": {"cluster_id": CLUSTER, "path": "model"},
    "neural_model_import": {"path": "model"},
    "neural_cluster_terminate": {"cluster_id": CLUSTER},
    "neural_cluster_list": {},
}
SHOWN = {"neural_cluster_plot": {"cluster_id": CLUSTER}}
"""Calls of tools whose replies are looked at: they have no structured content."""


@dataclass
class Served:
    client: Client
    double: EngineDouble
    portal: BlockingPortal

    def call(self, tool: str, arguments: dict[str, Any], **options: Any) -> CallToolResult:
        async def send() -> CallToolResult:
            return await self.client.call_tool(tool, arguments, **options)

        return self.portal.call(send)

    def result(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = self.call(tool, {**GOOD_CALLS[tool], **arguments})
        assert not answer.is_error, text_of(answer)
        assert answer.structured_content is not None
        return answer.structured_content

    def error(self, tool: str, **arguments: Any) -> str:
        answer = self.call(tool, {**GOOD_CALLS[tool], **arguments})
        assert answer.is_error
        return text_of(answer)

    def tools(self) -> list[Tool]:
        return self.portal.call(self.client.list_tools).tools


def text_of(answer: CallToolResult) -> str:
    (block,) = answer.content
    return block.text  # type: ignore[union-attr]


@asynccontextmanager
async def connected(
    mode: str, double: EngineDouble, settings: Settings | None = None, **options: Any
) -> AsyncIterator[Client]:
    host = EngineHost(lambda: opened(double))
    server = build_server(host, settings or Settings())
    async with host.running(), Client(server, mode=mode, **options) as client:
        yield client


@contextmanager
def served(mode: str, settings: Settings | None = None) -> Iterator[Served]:
    with start_blocking_portal() as portal:
        double = portal.call(_double)
        with portal.wrap_async_context_manager(connected(mode, double, settings)) as client:
            yield Served(client, double, portal)


async def _double() -> EngineDouble:
    return EngineDouble()
