"""Registry of the functions that write each layer type, by the type's name."""

from collections.abc import Callable, Mapping
from typing import Final, cast

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.memory import Buffer
from flow_nexus_neural.wasm.compile.writer import Writer

Emitter = Callable[[Writer, PlannedLayer, Buffer], Buffer]
"""Writes a layer: from the buffer of its input, which it releases or returns, to that of its output."""

EMITTERS: Final[dict[str, Emitter]] = {}


def writes(*names: str) -> Callable[[Emitter], Emitter]:
    """Register a function for the layer types that it writes; a decorator."""

    def enter(emitter: Emitter) -> Emitter:
        for name in names:
            if name in EMITTERS:
                raise ValueError(f"{name} is already written by {EMITTERS[name].__name__}")
            EMITTERS[name] = emitter
        return emitter

    return enter


def integer(arguments: Mapping[str, object], name: str) -> int:
    """An integer argument; the planner has checked it."""
    return cast("int", arguments[name])


def text(arguments: Mapping[str, object], name: str) -> str:
    """A text argument."""
    return cast("str", arguments[name])


def number(arguments: Mapping[str, object], name: str) -> float:
    """A number."""
    return float(cast("float", arguments[name]))
