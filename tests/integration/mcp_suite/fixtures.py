"""Serve what the official conformance suite asks every server for, beside our own tools.

The suite calls tools, resources and prompts of fixed names. They are mounted on the product's server
here, and only here, so that the whole suite runs against our transport, argument layer and session
handling:

    python -m tests.integration.mcp_suite.fixtures PORT
"""

import base64
import sys
from typing import Annotated, Any, Literal

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    AudioContent,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    SamplingMessage,
    SetLevelRequestParams,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from flow_nexus_neural.server.app import build_server
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.http import serve_http
from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.settings import Settings
from tests.doubles.engine_double import EngineDouble, opened

PNG = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
).decode()
WAV = base64.b64encode(
    b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0@\x1f\0\0\x80>\0\0\x02\0\x10\0data\0\0\0\0"
).decode()
Ctx = Context[Any, Any]


class Answer(BaseModel):
    response: str = Field(description="User's response")


class Defaults(BaseModel):
    name: str = Field(default="John Doe")
    age: int = Field(default=30)
    score: float = Field(default=95.5)
    status: Literal["active", "inactive", "pending"] = Field(default="active")
    verified: bool = Field(default=True)


def _titled(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in pairs]


VALUES = [(f"value{i}", f"{word} Option") for i, word in enumerate(("First", "Second", "Third"), 1)]
PLAIN = ["option1", "option2", "option3"]
LEGACY = ["opt1", "opt2", "opt3"]


def _replaced(schema: dict[str, Any]) -> Any:
    def replace(current: dict[str, Any]) -> None:
        current.clear()
        current.update(schema)

    return replace


def _enum_field(kind: Any, schema: dict[str, Any]) -> Any:
    return Annotated[kind, Field(json_schema_extra=_replaced(schema))]


class Enums(BaseModel):
    untitledSingle: _enum_field(str, {"type": "string", "enum": PLAIN})  # noqa: N815
    titledSingle: _enum_field(str, {"type": "string", "oneOf": _titled(*VALUES)})  # noqa: N815
    legacyEnum: _enum_field(  # noqa: N815
        str,
        {
            "type": "string",
            "enum": LEGACY,
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
    )
    untitledMulti: _enum_field(  # noqa: N815
        list[str], {"type": "array", "items": {"type": "string", "enum": PLAIN}}
    )
    titledMulti: _enum_field(  # noqa: N815
        list[str], {"type": "array", "items": {"anyOf": _titled(*VALUES)}}
    )


def mount_tools(server: NeuralServer) -> None:
    @server.tool()
    def test_simple_text() -> str:
        """Text."""
        return "This is a simple text response for testing."

    @server.tool()
    def test_image_content() -> list[ImageContent]:
        """An image."""
        return [ImageContent(type="image", data=PNG, mime_type="image/png")]

    @server.tool()
    def test_audio_content() -> list[AudioContent]:
        """Sound."""
        return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]

    @server.tool()
    def test_embedded_resource() -> list[EmbeddedResource]:
        """A resource inside a result."""
        return [_embedded("test://embedded-resource", "This is an embedded resource content.")]

    @server.tool()
    def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        """Text, image and resource."""
        return [
            TextContent(type="text", text="Multiple content types test:"),
            ImageContent(type="image", data=PNG, mime_type="image/png"),
            _embedded("test://mixed-content-resource", '{"test":"data","value":123}'),
        ]

    @server.tool()
    def test_error_handling() -> str:
        """An error on purpose."""
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool()
    async def test_tool_with_progress(ctx: Ctx) -> str:
        """Progress."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        return "done"


def mount_back_channel_tools(server: NeuralServer) -> None:
    @server.tool()
    async def test_tool_with_logging(ctx: Ctx) -> str:
        """Log messages to the client, which our own tools never send."""
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(text)
        return "done"

    @server.tool()
    async def test_sampling(prompt: str, ctx: Ctx) -> str:
        """Ask the client's model."""
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        answer = await ctx.session.create_message([message], max_tokens=100)
        return f"LLM response: {getattr(answer.content, 'text', '')}"

    @server.tool()
    async def test_elicitation(message: str, ctx: Ctx) -> str:
        """Ask the user."""
        answer = await ctx.elicit(message, Answer)
        return f"User response: action={answer.action}"

    @server.tool()
    async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
        """Ask the user, with defaults."""
        answer = await ctx.elicit("Please review", Defaults)
        return f"Elicitation completed: action={answer.action}"

    @server.tool()
    async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
        """Ask the user, with enumerations."""
        schema = Enums.model_json_schema()
        schema["required"] = []
        answer = await ctx.session.elicit_form(
            "Please choose", schema, related_request_id=ctx.request_id
        )
        return f"Elicitation completed: action={answer.action}"


def mount_resources_and_prompts(server: NeuralServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """Text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """Bytes."""
        return base64.b64decode(PNG)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 - the suite's name
        """A template."""
        return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """A resource to subscribe to."""
        return "Watched resource content"

    @server.prompt()
    def test_simple_prompt() -> str:
        """A prompt."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(
        resourceUri: str,  # noqa: N803 - the suite's name
    ) -> list[UserMessage]:
        """A prompt with a resource."""
        return [
            UserMessage(_embedded(resourceUri, "Embedded resource content for testing.")),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A prompt with an image."""
        return [
            UserMessage(ImageContent(type="image", data=PNG, mime_type="image/png")),
            UserMessage("Please analyze the image above."),
        ]


def _embedded(uri: str, text: str) -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    return EmbeddedResource(type="resource", resource=contents)


async def _accept_level(_: Any, params: SetLevelRequestParams) -> EmptyResult:
    return EmptyResult()


async def main(port: int) -> None:
    double = EngineDouble()
    host = EngineHost(lambda: opened(double))
    settings = Settings()
    server = build_server(host, settings)
    mount_tools(server)
    mount_back_channel_tools(server)
    mount_resources_and_prompts(server)
    server.handle("logging/setLevel", SetLevelRequestParams, _accept_level)
    await serve_http(server, host, settings, port)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
