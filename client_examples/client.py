"""Start the server over stdio and call its tools: all that the other examples stand on."""

import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters

Reply = dict[str, Any]


class ToolFailed(Exception):
    """A tool refused; the text has a code, what is wrong and what would be right."""


class Neural:
    """The server's tools behind one coroutine."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, /, **arguments: Any) -> Reply:
        """Call a tool and return its structured result, or raise ToolFailed."""
        result = await self._client.call_tool(tool, arguments)
        if result.is_error or result.structured_content is None:
            raise ToolFailed("".join(getattr(block, "text", "") for block in result.content))
        return dict(result.structured_content)

    async def words(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that answers in words, such as neural_cluster_plot, or raise ToolFailed."""
        result = await self._client.call_tool(tool, arguments)
        text = "".join(getattr(block, "text", "") for block in result.content)
        if result.is_error:
            raise ToolFailed(text)
        return text

    async def read(self, uri: str) -> Any:
        """Read a resource and return its JSON."""
        contents = (await self._client.read_resource(uri)).contents
        return json.loads(getattr(contents[0], "text", "null"))


@asynccontextmanager
async def neural_server(*flags: str) -> AsyncIterator[Neural]:
    """Run a server of one's own, on a temporary state directory, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="flow-nexus-neural-") as state_dir:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "flow_nexus_neural", "--state-dir", state_dir, *flags],
        )
        ended_by: ToolFailed | SystemExit | None = None
        async with Client(server) as client:
            try:
                yield Neural(client)
            except (ToolFailed, SystemExit) as failure:  # raised as itself, outside task groups
                ended_by = failure
        if ended_by is not None:
            raise ended_by
