"""The SDK's server, extended by own errors for unknown tools and handlers for further methods."""

import difflib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from mcp.server.apps import client_supports_apps
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
    ListResourcesResult,
    ListToolsResult,
    PaginatedRequestParams,
    RequestParams,
)
from typing_extensions import override

from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.server.errors import clip, one_line
from flow_nexus_neural.server.strict_tool import failed

LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
Handler = Callable[[ServerRequestContext[Any, Any], Any], Awaitable[Any]]


class NeuralServer(MCPServer[Any]):
    """An MCP server that reports every failed tool call in the form of `server.errors`."""

    withheld: frozenset[str] = frozenset()
    """Existing tools that are not offered because the server is read-only."""
    never_suggested: frozenset[str] = frozenset()
    """Tools that no unknown name is answered with."""
    only_for_apps: frozenset[str] = frozenset()
    """Names of tools and URIs of resources that are listed only for clients that draw MCP Apps.

    For all others the lists are as if there were neither (specification 2026-01-26, capability negotiation).
    """

    @override
    async def _handle_list_tools(
        self, ctx: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        every = await super()._handle_list_tools(ctx, params)
        hidden = self._hidden(ctx)
        shown = [tool for tool in every.tools if tool.name not in hidden]
        return every.model_copy(update={"tools": shown})

    @override
    async def _handle_list_resources(
        self, ctx: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        every = await super()._handle_list_resources(ctx, params)
        hidden = self._hidden(ctx)
        shown = [page for page in every.resources if str(page.uri) not in hidden]
        return every.model_copy(update={"resources": shown})

    def _hidden(self, ctx: ServerRequestContext[Any, Any]) -> frozenset[str]:
        return frozenset() if client_supports_apps(ctx) else self.only_for_apps

    @override
    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; an unknown name is reported like any other wrong argument."""
        tools = self._tool_manager.list_tools()
        names = [tool.name for tool in tools]
        if name in names:
            return await super().call_tool(name, arguments, context)
        names = [listed for listed in names if listed not in self.only_for_apps]
        nearest = _suggestion(name, names, self.never_suggested)
        question = f"; did you mean '{nearest}'?" if nearest else ""
        if name in self.withheld:
            question = " on this server, which was started with --read-only"
        return failed(
            InvalidArguments(
                f"there is no tool '{clip(name, 80)}'{question}",
                hint=f"Tools: {', '.join(names)}. Call one of them",
            )
        )

    @override
    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[Any, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Render a prompt; an unknown prompt or a missing argument is reported as INVALID_PARAMS."""
        try:
            return await super().get_prompt(name, arguments, context)
        except ValueError as failure:
            raise MCPError(code=INVALID_PARAMS, message=one_line(str(failure))) from failure

    def handle(
        self,
        method: str,
        params: type[RequestParams],
        handler: Handler,
    ) -> None:
        """Register a handler for a method for which the SDK has no decorator."""
        self._lowlevel_server.add_request_handler(method, params, handler)

    def refuse_cursors(self) -> None:
        """Refuse every cursor of a list: all lists are whole, so that none was ever handed out.

        To be called once all lists are offered.
        """
        for method in LISTS:
            entry = self._lowlevel_server.get_request_handler(method)
            if entry is not None:
                handler = _without_cursor(entry.handler)
                self._lowlevel_server.add_request_handler(method, entry.params_type, handler)

    async def serve_streams(
        self,
        incoming: ReadStream[SessionMessage | Exception],
        outgoing: WriteStream[SessionMessage],
    ) -> None:
        """Serve one connection, of either protocol era, until its incoming side ends."""
        options = self._lowlevel_server.create_initialization_options()
        await self._lowlevel_server.run(incoming, outgoing, options)


def _without_cursor(handler: Handler) -> Handler:
    async def handle(context: ServerRequestContext[Any, Any], params: Any) -> Any:
        if getattr(params, "cursor", None):
            raise MCPError(
                code=INVALID_PARAMS,
                message="there is no such cursor: the list is whole without one",
            )
        return await handler(context, params)

    return handle


def _suggestion(name: str, names: Sequence[str], never: Collection[str]) -> str | None:
    """The tool with the name most similar to an unknown one; None if none is similar, or it destroys.

    A model may follow a suggestion without asking its user. Then the second most similar tool is not
    suggested either, since it is not what the caller meant.
    """
    near = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.5)
    return near[0] if near and near[0] not in never else None
