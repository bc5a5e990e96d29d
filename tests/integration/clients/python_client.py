"""The Python client, version 1 or 2. Usage: python python_client.py (1|auto|legacy) COMMAND ARGUMENTS...

Runs under an interpreter that has the client installed and nothing else of this project. Prints one line
of JSON; raises at the first surprise. The client validates results against the published output schemas.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

LAYERS = [{"type": "dense", "units": 8, "activation": "tanh"}]


def inline_xor() -> dict[str, Any]:
    corners = [(row % 2, (row >> 1) % 2) for row in range(240)]
    points = [[a + 0.01 * (row % 7), b - 0.01 * (row % 5)] for row, (a, b) in enumerate(corners)]
    return {"X": points, "y": [a ^ b for a, b in corners]}


@asynccontextmanager
async def connected_1(command: str, arguments: list[str]) -> AsyncIterator[Any]:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    server = StdioServerParameters(command=command, args=arguments)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


@asynccontextmanager
async def connected_2(mode: str, command: str, arguments: list[str]) -> AsyncIterator[Any]:
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters

    server = StdioServerParameters(command=command, args=arguments)
    async with Client(server, mode=mode) as client:
        yield client


def field(answer: Any, snake: str, camel: str) -> Any:
    """Version 2 renamed the fields of results."""
    return getattr(answer, snake) if hasattr(answer, snake) else getattr(answer, camel)


async def lifecycle(client: Any) -> dict[str, Any]:
    async def call(tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await client.call_tool(tool, arguments)
        assert not field(answer, "is_error", "isError"), answer.content[0].text
        result = field(answer, "structured_content", "structuredContent")
        assert result == json.loads(answer.content[0].text)
        return result

    assert len((await client.list_tools()).tools) == 11
    cluster_id = (await call("neural_cluster_init", name="python client", seed=3))["id"]
    for _ in range(2):
        node = await call("neural_node_deploy", cluster_id=cluster_id, layers=LAYERS)
        assert node["parameters"] is None
    assert (await call("neural_cluster_connect", cluster_id=cluster_id))["connections"] == 1
    fresh = await call("neural_cluster_status", cluster_id=cluster_id)
    assert fresh["global_loss"] is None
    await call(
        "neural_train_distributed",
        cluster_id=cluster_id,
        dataset=inline_xor(),
        epochs=30,
        learning_rate=0.05,
    )
    status = {"training_status": "running"}
    while status["training_status"] == "running":
        status = await call(
            "neural_cluster_status", cluster_id=cluster_id, wait_seconds=20, until="done"
        )
    assert status["training_status"] == "completed", status["training_error"]
    assert status["global_accuracy"] > status["evaluation"]["baseline_accuracy"] + 0.2
    one = await call(
        "neural_predict_distributed", cluster_id=cluster_id, input_data={"f0": 1, "f1": 0}
    )
    assert one["prediction"] > 0.5
    assert one["probabilities"] is None
    batch = await call(
        "neural_predict_distributed",
        cluster_id=cluster_id,
        input_data=json.dumps([{"f0": 1, "f1": 0}, {"f0": 1, "f1": 1}]),
    )
    assert batch["prediction"] is None
    assert batch["predictions"][0] == one["prediction"]
    assert batch["predictions"][1] < 0.5
    wrong = await client.call_tool("neural_cluster_status", {"cluster_id": "nowhere"})
    assert field(wrong, "is_error", "isError")
    assert wrong.content[0].text.startswith("cluster_not_found: ")
    ended = await call("neural_cluster_terminate", cluster_id=cluster_id, delete_artifacts=True)
    assert ended["nodes_terminated"] == 2
    return {"accuracy": status["global_accuracy"], "prediction": one["prediction"]}


async def main() -> None:
    mode, command, *arguments = sys.argv[1:]
    connection = (
        connected_1(command, arguments) if mode == "1" else connected_2(mode, command, arguments)
    )
    async with connection as client:
        sys.stdout.write(json.dumps(await lifecycle(client)) + "\n")


if __name__ == "__main__":
    anyio.run(main)
