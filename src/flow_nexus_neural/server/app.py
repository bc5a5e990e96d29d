"""Assembles the MCP server: tools, resources, prompt, completions. Does not load the engine."""

from dataclasses import replace

from mcp.server.subscriptions import InMemorySubscriptionBus

from flow_nexus_neural import __version__
from flow_nexus_neural.server.completions import register_completions
from flow_nexus_neural.server.dashboard.view import VIEW_SPEC, VIEW_URI, ViewTool, view_page
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.server.prompts import register_prompts
from flow_nexus_neural.server.resources import register_resources
from flow_nexus_neural.server.strict_tool import StrictTool
from flow_nexus_neural.server.subscriptions import ResourceUpdates
from flow_nexus_neural.server.texts import INSTRUCTIONS
from flow_nexus_neural.server.tools import (
    NEVER_SUGGESTED,
    READ_ONLY_TOOLS,
    READING,
    TOOL_SPECS,
)
from flow_nexus_neural.settings import Settings


def build_server(host: EngineHost, settings: Settings) -> NeuralServer:
    """Build the server.

    Its tools work while the context `host.running()` is active. Building the server and listing its tools
    loads neither numpy nor the engine.
    """
    specs = list(TOOL_SPECS)
    if settings.read_only:
        reading = (spec for spec in TOOL_SPECS if spec.name in READ_ONLY_TOOLS)
        specs = [replace(spec, annotations=READING) for spec in reading]
    bus = InMemorySubscriptionBus()
    server = NeuralServer(
        name="flow-nexus-neural",
        title="Flow Nexus Neural",
        version=__version__,
        instructions=INSTRUCTIONS,
        tools=[*(StrictTool.build(spec, host) for spec in specs), ViewTool.build(VIEW_SPEC, host)],
        resources=[view_page()],
        subscriptions=bus,
        log_level="WARNING",
    )
    server.never_suggested = NEVER_SUGGESTED
    server.withheld = frozenset(spec.name for spec in TOOL_SPECS) - {spec.name for spec in specs}
    server.only_for_apps = frozenset({VIEW_SPEC.name, VIEW_URI})
    register_resources(server, host)
    register_completions(server, host)
    register_prompts(server)
    server.refuse_cursors()
    updates = ResourceUpdates(bus)
    updates.register(server)
    host.on_change(updates.changed)
    host.beside(updates.run)
    return server
