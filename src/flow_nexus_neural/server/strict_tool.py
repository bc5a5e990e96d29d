"""Tools that refuse unknown arguments.

The SDK's own tool ignores unknown arguments silently, reports bad ones with the validator's raw text and
sends every result twice, once indented. This one reads arguments itself (`argument_reader`), reports every
failure as `code: ...`, and sends compact JSON. Only this module depends on the SDK's tool internals.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, JsonValue, PrivateAttr
from typing_extensions import override

from flow_nexus_neural.engine.requests import EngineRequest
from flow_nexus_neural.engine.surface import EngineSurface, Progress
from flow_nexus_neural.errors import NeuralError, StateDirLocked
from flow_nexus_neural.server.argument_names import PUBLISHED
from flow_nexus_neural.server.argument_reader import ArgumentReader
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.json_schema import (
    Schema,
    allow_null,
    argument_schema,
    describe,
    result_schema,
)
from flow_nexus_neural.server.path_advice import named_path, with_path_advice
from flow_nexus_neural.server.progress import paced_progress
from flow_nexus_neural.server.rounding import OnWire, wire_text
from flow_nexus_neural.server.shown import Shown
from flow_nexus_neural.server.stored_answers import Content, StoredAnswers

RequestT = TypeVar("RequestT", bound=EngineRequest)


@dataclass(frozen=True)
class ToolSpec(Generic[RequestT]):
    """Specification of one tool, independent of the SDK.

    Attributes:
        call: Its implementation; the tool has the name and docstring of this function.
        title: Name shown to people.
        request: Class of its arguments.
        result: Class of its result; None for one that is shown and has no structured content.
        annotations: Hints for hosts.
        arguments: One description per field of `request`.
        outputs: Descriptions of fields of `result`: of every object, and of fields whose name does not tell
            meaning or unit.
        published: Schemas that replace those of arguments, by field.
        meta: What hosts read of the tool and models do not.
        stored: What it answers while another server has the state directory; None for an error.
        nullable: Fields of `result` that are null then and never else.
    """

    call: Callable[[EngineSurface, RequestT, Progress], Awaitable[BaseModel | OnWire[Any] | Shown]]
    title: str
    request: type[RequestT]
    result: type[BaseModel] | None
    annotations: ToolAnnotations
    arguments: dict[str, str]
    outputs: dict[str, str]
    published: dict[str, Schema]
    meta: dict[str, Any] | None = None
    stored: Callable[[StoredAnswers, EngineRequest], Awaitable[Content]] | None = None
    nullable: Collection[str] = ()

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.call.__name__

    @property
    def description(self) -> str:
        """The description for the calling model: the function's docstring, unwrapped."""
        return " ".join((self.call.__doc__ or "").split())

    def input_schema(self) -> Schema:
        """The published schema of the arguments."""
        schema = argument_schema(self.request)
        properties = cast(Schema, schema["properties"])
        for field, replacement in self.published.items():
            properties[field] = dict(replacement)
        describe(schema, self.arguments)
        schema["properties"] = {
            PUBLISHED.get(name, name): body for name, body in properties.items()
        }
        return schema

    def output_schema(self) -> Schema | None:
        """The published schema of the result: its top level; None where it has no structured content."""
        if self.result is None:
            return None
        schema = result_schema(self.result)
        allow_null(schema, self.nullable)
        describe(schema, self.outputs)
        return schema


class StrictTool(Tool):
    """A tool whose calls return either one result or one error text."""

    _spec: ToolSpec[Any] = PrivateAttr()
    _host: EngineHost = PrivateAttr()
    _reader: ArgumentReader[Any] = PrivateAttr()

    @classmethod
    def build(cls, spec: ToolSpec[RequestT], host: EngineHost) -> "StrictTool":
        """Create the SDK's tool from a specification."""
        tool = cls(
            fn=spec.call,
            name=spec.name,
            title=spec.title,
            description=spec.description,
            parameters=spec.input_schema(),
            # An empty model, because `run` below reads the arguments and the SDK must not.
            fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=spec.output_schema()),
            is_async=True,
            context_kwarg=None,
            annotations=spec.annotations,
            meta=spec.meta,
        )
        tool._spec = spec
        tool._host = host
        tool._reader = ArgumentReader(spec.name, spec.request)
        return tool

    @override
    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> CallToolResult:
        """Read the arguments, call the engine, format the outcome. Raises only if cancelled."""
        try:
            read = self._reader.read(arguments)
            try:
                engine = await self._host.engine()
            except StateDirLocked:
                if self._spec.stored is None or self._host.stored is None:
                    raise
                content = await self._spec.stored(self._host.stored, read.request)
                known = cast(list[JsonValue], content["warnings"])
                return self.answer_stored(
                    {**content, "warnings": [*known, *read.warnings]}, context
                )
            result = await self._spec.call(engine, read.request, paced_progress(context))
            if isinstance(result, Shown):
                return result.with_warnings(read.warnings).result
            sent = result if isinstance(result, OnWire) else OnWire(result)
            return self.answer(_with_warnings(sent, read.warnings), context)
        except Exception as failure:  # noqa: BLE001 - the tool boundary: every failure is worded
            told = with_path_advice(failure, named_path(failure, arguments))
            return failed(known_error(told, subject=self.name))

    def answer(self, sent: OnWire[Any], _context: Context[Any, Any]) -> CallToolResult:
        """The reply of a call that succeeded."""
        return succeeded(sent)

    def answer_stored(self, content: Content, _context: Context[Any, Any]) -> CallToolResult:
        """The reply from what is stored while another server has the state directory."""
        text = TextContent(type="text", text=wire_text(content))
        return CallToolResult(content=[text], structured_content=content)


def succeeded(sent: OnWire[Any]) -> CallToolResult:
    """The result as structured content, and the same JSON once as compact text."""
    text = TextContent(type="text", text=sent.text)
    return CallToolResult(content=[text], structured_content=sent.content)


def failed(error: NeuralError) -> CallToolResult:
    """An error as one text, without structured content: clients would validate that as a result."""
    return CallToolResult(content=[TextContent(type="text", text=error_text(error))], is_error=True)


def _with_warnings(sent: OnWire[Any], warnings: list[str]) -> OnWire[Any]:
    if not warnings:
        return sent
    known: list[str] = getattr(sent.result, "warnings", [])
    return OnWire(sent.result.model_copy(update={"warnings": [*known, *warnings]}))
