"""The product without processes: the real MCP server and the real engine, over nodes inside this process."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.types import CallToolResult

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.ports import REAL_PORTS, Ports
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.server.app import build_server
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S, PREDICT_MS
from tests.integration.served import text_of

LAYERS = [{"type": "dense", "units": 6, "activation": "tanh"}]


def honest(spec: NodeSpec) -> NodeService:
    return NodeService(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)


class Product:
    """Short words for what tests do through the tools."""

    def __init__(self, client: Client, runtime: InprocRuntime) -> None:
        self.client, self.runtime = client, runtime

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        return await self.client.call_tool(f"neural_{tool}", arguments)

    async def result(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await self.call(tool, **arguments)
        assert not answer.is_error, text_of(answer)
        assert answer.structured_content is not None
        return answer.structured_content

    async def error(self, tool: str, **arguments: Any) -> str:
        answer = await self.call(tool, **arguments)
        assert answer.is_error, str(answer.structured_content)[:500]
        assert answer.structured_content is None
        return text_of(answer)

    async def cluster(self, workers: int = 1, **more: Any) -> str:
        cluster_id = (
            await self.result(
                "cluster_init", **{"name": "c", "seed": 1, "daaEnabled": False, **more}
            )
        )["id"]
        for _ in range(workers):
            await self.result("node_deploy", cluster_id=cluster_id, layers=LAYERS)
        return cluster_id

    async def trained(self, workers: int = 1, **more: Any) -> str:
        cluster_id = await self.cluster(workers)
        await self.result(
            "train_distributed",
            **{"cluster_id": cluster_id, "dataset": "synthetic:xor", "epochs": 1, **more},
        )
        await self.done(cluster_id)
        return cluster_id

    async def done(self, cluster_id: str) -> dict[str, Any]:
        with anyio.fail_after(HANG_S):
            while True:
                status = await self.result(
                    "cluster_status", cluster_id=cluster_id, wait_seconds=20, until="done"
                )
                if status["training_status"] != "running":
                    return status

    def kill(self, slot: str) -> None:
        for node in self.runtime.nodes:
            if node.spec.slot == slot and not node.gone:
                node.kill()


@asynccontextmanager
async def product(
    state_dir: Path,
    runtime: InprocRuntime | None = None,
    *,
    mode: str = "auto",
    ports: Ports = REAL_PORTS,
    **settings: Any,
) -> AsyncIterator[Product]:
    made = Settings(state_dir=state_dir, **{"predict_deadline_ms": PREDICT_MS} | settings)
    async with runtime or InprocRuntime(honest) as nodes:

        def open_engine() -> AbstractAsyncContextManager[Engine]:
            return Engine.open(made, runtime=nodes, ports=ports)

        host = EngineHost(open_engine)
        async with host.running(), Client(build_server(host, made), mode=mode) as client:
            yield Product(client, nodes)
