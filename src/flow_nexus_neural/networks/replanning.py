"""Checks a plan from elsewhere by planning its layers anew; one that the planner does not make is refused."""

from typing import Any, cast

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.networks.registry import entry_named
from flow_nexus_neural.protocol.plan import NetworkPlan, PlannedLayer

WrittenLayers = tuple[dict[str, JsonValue], ...]


def layers_of(plan: NetworkPlan) -> WrittenLayers:
    """The layer list of a plan as a caller would write it, without what the planner derives or appends."""
    written = tuple(_written(layer) for layer in plan.layers if layer.index is not None)
    first = plan.layers[0]
    if first.index == 1:  # an input layer, which only describes the data, stood in front
        shape: list[Any] = list(first.in_shape)
        return ({"type": "input", "shape": shape}, *written)
    return written


def require_sound(plan: NetworkPlan, max_parameters: int) -> None:
    """Raises `InvalidArchitecture` or `LimitExceeded` unless the planner makes exactly this plan.

    Args:
        plan: From an untrusted source; a model of the plan's shape, whose values nobody has checked.
        max_parameters: Limit on the number of its elements.
    """
    made = plan_network(
        parse_layers(layers_of(plan)).layers,
        input=plan.input,
        task=plan.task,
        n_outputs=plan.n_outputs,
        max_parameters=max_parameters,
    ).plan
    if made != plan:
        raise InvalidArchitecture(
            "a network of the export is not what its layers give",
            hint="export the model again with this version of the program",
        )


def _written(layer: PlannedLayer) -> dict[str, JsonValue]:
    entry = entry_named(layer.type)
    if entry is None:
        raise InvalidArchitecture(
            f"layer type {layer.type!r} of the export is unknown",
            hint="use the version of this program that wrote it",
        )
    known = {argument.name for argument in entry.accepted}
    args = {name: value for name, value in layer.args.items() if name in known}
    if layer.tensors and not any(tensor.trainable for tensor in layer.tensors):
        args["trainable"] = False
    return cast("dict[str, JsonValue]", {"type": layer.type, **args})
