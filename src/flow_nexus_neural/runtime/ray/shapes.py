"""What the runtime's values look like inside a message's header."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flow_nexus_neural import errors
from flow_nexus_neural.errors import NeuralError, NodeStartFailed
from flow_nexus_neural.runtime.base import (
    Isolation,
    MemoryReading,
    NodeExit,
    NodeSpec,
    ProcessorTime,
)


def spec_of(told: Mapping[str, Any]) -> NodeSpec:
    """The parameters of a node."""
    return NodeSpec(**told)


def told_isolation(found: Isolation) -> dict[str, Any]:
    """What was measured of a node's confinement."""
    return {**asdict(found), "layers": dict(found.layers), "probes": dict(found.probes)}


def isolation_of(told: Mapping[str, Any]) -> Isolation:
    """What was measured of a node's confinement."""
    lists = ("not_enforced", "missing", "shared_with")
    return Isolation(**{**told, **{name: tuple(told[name]) for name in lists}})


def exit_of(told: Mapping[str, Any]) -> NodeExit:
    """How a node ended."""
    return NodeExit(**told)


def told_error(failure: NeuralError) -> dict[str, Any]:
    """An error of another process of this package."""
    return {
        "type": type(failure).__name__,
        "message": failure.message,
        "hint": failure.hint,
        "details": failure.details,
    }


def error_of(told: Mapping[str, Any]) -> NeuralError:
    """An error as it was raised there; an unknown class is a failed start."""
    found = getattr(errors, str(told["type"]), NodeStartFailed)
    kind = found if isinstance(found, type) and issubclass(found, NeuralError) else NodeStartFailed
    return kind(str(told["message"]), hint=str(told["hint"]), details=told["details"])


def memory_of(told: Mapping[str, Any] | None) -> MemoryReading | None:
    """Memory of a node's process."""
    return None if told is None else MemoryReading(**told)


def processor_time_of(told: Mapping[str, Any] | None) -> ProcessorTime | None:
    """What a node's process got of the processors."""
    return None if told is None else ProcessorTime(**told)
