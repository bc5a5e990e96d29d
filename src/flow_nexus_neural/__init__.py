"""Clusters of sandboxed neural nodes on your own machine, behind an MCP server.

The public names are imported on first use: the zygote imports this package too and must not load an event
loop.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flow_nexus_neural.engine.engine import Engine
    from flow_nexus_neural.errors import NeuralError
    from flow_nexus_neural.settings import Settings

__all__ = ["Engine", "NeuralError", "Settings", "__version__"]

_HOMES = {
    "Engine": "flow_nexus_neural.engine.engine",
    "NeuralError": "flow_nexus_neural.errors",
    "Settings": "flow_nexus_neural.settings",
}


def __getattr__(name: str) -> Any:
    """Resolve a public name lazily (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
