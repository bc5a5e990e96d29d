"""The layers of a functional Keras model, if they are one chain from input to output."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.spelling import shown

_CAUSAL: Final = "use_causal_mask"
_MAX_NODES_DEPTH: Final = 12


def chain_of(layers: Sequence[JsonValue], place: str) -> list[JsonValue]:
    """The layers of a model in which each reads what the one before it gives, and nothing else.

    Raises:
        InvalidArchitecture: If the model branches, or a layer is called with arguments of its own.
    """
    found: list[JsonValue] = []
    before: str | None = None
    for position, layer in enumerate(layers):
        where = f"{place} layer {position}"
        if not isinstance(layer, Mapping):
            raise InvalidArchitecture(
                f"{where} is {shown(layer)}, not an object",
                hint="Give model.to_json() as Keras wrote it",
            )
        sources = set(_sources(layer.get("inbound_nodes"), 0))
        if sources != ({before} if position else set()):
            raise InvalidArchitecture(
                f"{where} {shown(layer.get('class_name'))} does not read the layer before it alone",
                hint="A layer list is one chain from input to output; use a Sequential model",
            )
        plain = {key: value for key, value in layer.items() if key != "inbound_nodes"}
        found.append(_with_call(plain, layer.get("inbound_nodes"), where))
        name = layer.get("name")
        before = name if isinstance(name, str) else None
    return found


def _with_call(layer: dict[str, JsonValue], nodes: JsonValue, where: str) -> dict[str, JsonValue]:
    """The layer with what its call says: a causal mask; masks and modes at their defaults say nothing."""
    kwargs = dict(_kwargs(nodes, 0))
    causal = kwargs.pop(_CAUSAL, None)
    kwargs.pop("training", None)
    others = {key: value for key, value in kwargs.items() if value not in (None, False)}
    if others:
        raise InvalidArchitecture(
            f"{where} is called with {', '.join(sorted(others))[:80]}, which has no counterpart here",
            hint="Call layers with their input only",
        )
    config = layer.get("config")
    if causal and isinstance(config, Mapping):
        return {**layer, "config": {**config, "causal": True}}
    return layer


def _kwargs(node: JsonValue, depth: int) -> Iterator[tuple[str, JsonValue]]:
    if depth > _MAX_NODES_DEPTH:
        return
    if isinstance(node, list):
        for item in node:
            yield from _kwargs(item, depth + 1)
    elif isinstance(node, Mapping) and "kwargs" in node:
        kwargs = node["kwargs"]
        for key, value in kwargs.items() if isinstance(kwargs, Mapping) else ():
            if not list(_sources(value, 0)):
                yield key, value
    elif isinstance(node, Mapping) and "class_name" not in node:
        yield from node.items()  # the fourth entry of older versions


def _sources(node: JsonValue, depth: int) -> Iterator[str]:
    """Names of the layers whose outputs occur below a node."""
    if depth > _MAX_NODES_DEPTH:
        return
    if isinstance(node, list):
        older = len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int)
        if older:
            yield str(node[0])  # ["dense", 0, 0, {}]
            node = node[3:]
        for item in node:
            yield from _sources(item, depth + 1)
    elif isinstance(node, Mapping):
        history = node.get("keras_history")
        if isinstance(history, list) and history and isinstance(history[0], str):
            yield history[0]
        for key, value in node.items():
            if key != "keras_history":
                yield from _sources(value, depth + 1)
