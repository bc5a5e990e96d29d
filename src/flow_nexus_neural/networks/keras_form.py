"""Networks as Keras writes them (`to_json`, `get_config`, `class_name` and `config`), in the plain form.

A model becomes the list of its layers; a layer becomes `{"type": ..., <arguments>}`. Only the form changes
here: types and arguments are checked where plain layers are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.activations import ACTIVATIONS
from flow_nexus_neural.networks.keras_axes import without_last_axes
from flow_nexus_neural.networks.keras_graph import chain_of
from flow_nexus_neural.networks.spelling import fold, shown

Entry = Mapping[str, JsonValue]

_MODELS: Final = frozenset({"sequential", "functional", "model"})
_MAX_DEPTH: Final = 8
_SIX: Final = 6
_INPUTS: Final = ("input", "inputlayer")
_BATCH_INPUT: Final = "batch_input_shape"
_AFTERWARDS: Final = frozenset({"dense", "conv1d", "graphconv", "activation"})
"""Types whose activation is applied to the output, so that it can as well be a layer of its own."""
_ENVELOPE: Final = frozenset(
    {"classname", "config", "module", "registeredname", "buildconfig", "name", "sharedobjectid"}
)
_HINT: Final = (
    "Give what model.to_json() or model.get_config() of a Keras Sequential returns, or a list such as"
    ' [{"type": "dense", "units": 64}]'
)


def plain_layers(raw: Sequence[Entry] | Entry) -> list[Entry]:
    """The layers of a list, a model, or a single layer, in the plain form.

    What is neither a model nor a layer of Keras is handed on as it is.

    Raises:
        InvalidArchitecture: If models are nested too deeply or wrongly, or are no chain of layers.
    """
    entries: Sequence[object] = [raw] if isinstance(raw, Mapping) else raw
    found: list[Entry] = []
    for position, entry in enumerate(entries):
        found.extend(_expanded(entry, position, 0, is_first=not found))
    return without_last_axes(found)


def plain_layer(entry: object, place: str) -> object:
    """One layer in the plain form, for a layer inside another; anything else as it is.

    Raises:
        InvalidArchitecture: If its `config` is no object.
    """
    if not isinstance(entry, Mapping):
        return entry
    written = [key for key in entry if fold(str(key)) == "type"]
    if len(written) == 1 and written[0] != "type":  # from here on it is asked for by its name
        return {"type": entry[written[0]], **{k: v for k, v in entry.items() if k != written[0]}}
    if written or not _has(entry, "class_name"):
        return entry
    name, config = _value(entry, "class_name"), _value(entry, "config")
    if config is not None and not isinstance(config, Mapping):
        raise InvalidArchitecture(f"{place} config={shown(config)} is not an object", hint=_HINT)
    registered = _value(entry, "registered_name")
    if isinstance(registered, str) and ">" in registered:
        raise InvalidArchitecture(
            f"{place} type {shown(registered)} is not offered: code from a caller is never run",
            hint="Use the types of the vocabulary, which an unknown type lists",
        )
    beside = {key: value for key, value in entry.items() if fold(str(key)) not in _ENVELOPE}
    return {"type": name, **(config or {}), **beside}


def _expanded(entry: object, position: int, depth: int, *, is_first: bool) -> Iterator[Entry]:
    """One entry of a list as the plain layers that it stands for."""
    place = f"layers[{position}]"
    inside = _layers_of(entry, place)
    if inside is not None:
        if depth >= _MAX_DEPTH:
            raise InvalidArchitecture(
                f"{place} nests models more than {_MAX_DEPTH} deep", hint="Write one list of layers"
            )
        for inner_position, inner in enumerate(inside):
            first = is_first and not inner_position
            where = inner_position if not depth and not position else position
            yield from _expanded(inner, where, depth + 1, is_first=first)
        return
    is_keras = isinstance(entry, Mapping) and not _has(entry, "type") and _has(entry, "class_name")
    layer = plain_layer(entry, place)
    if not isinstance(layer, Mapping) or not isinstance(layer.get("type"), str):
        yield layer  # type: ignore[misc]  # the parser says what is wrong with it
        return
    layer = _unwrapped(dict(layer), place)
    if depth and not is_first and fold(str(layer["type"])) in _INPUTS:
        return  # a model inside a model says again what it reads
    if is_first and is_keras:
        yield from _input_before(layer)
    _shape_of_one_row(layer)
    yield from _with_named_activations(layer, place)


def _layers_of(entry: object, place: str) -> Sequence[object] | None:
    """The layers of a model; None for anything else."""
    if not isinstance(entry, Mapping) or _has(entry, "type"):
        return None
    name = _value(entry, "class_name")
    config: object = _value(entry, "config")
    if name is None and isinstance(
        entry.get("layers"), list
    ):  # what get_config() of a model returns
        name, config = ("Functional" if "input_layers" in entry else "Sequential"), entry
    if not isinstance(name, str) or fold(name) not in _MODELS:
        return None
    layers = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(layers, list):
        raise InvalidArchitecture(f"{place} {name} has no list of layers", hint=_HINT)
    return layers if fold(name) == "sequential" else chain_of(layers, place)


def _unwrapped(layer: dict[str, JsonValue], place: str) -> dict[str, JsonValue]:
    """What a wrapper does where the layer inside treats every step alone anyway."""
    kind = fold(str(layer["type"]))
    if kind == "bidirectional":
        return _one_way(layer, place)
    if kind == "relu":
        return _kind_of_relu(layer)
    if kind != "timedistributed":
        return layer
    inner = plain_layer(_value(layer, "layer"), f"{place} time_distributed layer")
    name = _value(inner, "type") if isinstance(inner, Mapping) else None
    stepwise = ("dense", "activation", "relu", "leakyrelu", "elu", "softmax", "dropout")
    if not isinstance(inner, Mapping) or not isinstance(name, str) or fold(name) not in stepwise:
        raise InvalidArchitecture(
            f"{place} TimeDistributed around {shown(name)} is not offered",
            hint=f"It may hold {', '.join(stepwise)}, which treat every step alone; leave it out else",
        )
    outer = {key: value for key, value in layer.items() if key not in ("type", "layer", "dtype")}
    return {**inner, **outer}


def _kind_of_relu(layer: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A bounded or leaky ReLU under its own name."""
    rest = {key: value for key, value in layer.items() if key not in _FUNCTIONS["relu"]}
    bound, slope = layer.get("max_value"), layer.get("negative_slope") or 0
    if layer.get("threshold") or not isinstance(slope, int | float):
        return layer
    if bound == _SIX and not slope:
        return {**rest, "type": "activation", "activation": "relu6"}
    return (
        {**rest, "type": "leaky_relu", "negative_slope": slope}
        if slope and bound is None
        else layer
    )


def _one_way(layer: dict[str, JsonValue], place: str) -> dict[str, JsonValue]:
    """A bidirectional layer without `backward_layer`, which Keras writes although it follows from `layer`."""
    inner = plain_layer(layer.get("layer"), f"{place} bidirectional layer")
    if not isinstance(inner, Mapping) or inner is layer.get("layer"):
        return layer
    inner = {key: value for key, value in inner.items() if key != "name"}
    if "merge_mode" in layer and layer["merge_mode"] is None:
        raise InvalidArchitecture(
            f"{place} bidirectional merge_mode=null gives two outputs, and a layer list is one chain",
            hint="Use merge_mode concat, sum, mul or ave",
        )
    backward = plain_layer(layer.get("backward_layer"), f"{place} backward_layer")
    if isinstance(backward, Mapping):
        turned = {key: value for key, value in backward.items() if key != "name"}
        turned["go_backwards"] = not turned.get("go_backwards")
        if turned != {**inner, "go_backwards": inner.get("go_backwards", False)}:
            raise InvalidArchitecture(
                f"{place} bidirectional backward_layer differs from layer",
                hint="Leave backward_layer out: both directions have the same arguments here",
            )
    rest = {key: value for key, value in layer.items() if key != "backward_layer"}
    return {**rest, "layer": inner}


def _input_before(layer: dict[str, JsonValue]) -> Iterator[Entry]:
    """The input layer that older versions write into the first layer; removed from that layer."""
    if fold(str(layer["type"])) not in _INPUTS and isinstance(layer.get(_BATCH_INPUT), list):
        written: dict[str, JsonValue] = {"type": "input", _BATCH_INPUT: layer.pop(_BATCH_INPUT)}
        _shape_of_one_row(written)
        yield written


def _shape_of_one_row(layer: dict[str, JsonValue]) -> None:
    """Replace the shape of a batch, whose first size is the number of rows, in an input layer."""
    if fold(str(layer["type"])) not in _INPUTS:
        return
    for key in (_BATCH_INPUT, "batch_shape"):
        shape = layer.get(key)
        if isinstance(shape, list) and len(shape) > 1:
            del layer[key]
            layer["shape"] = shape[1:]


def _with_named_activations(layer: dict[str, JsonValue], place: str) -> Iterator[Entry]:
    """The layer with names for activations that are objects, and a layer after it for one without a name."""
    after: Entry | None = None
    for key, value in layer.items():
        if fold(str(key)) not in ("activation", "recurrentactivation"):
            continue
        if not isinstance(value, Mapping) or not _has(value, "class_name"):
            continue
        named = _named(value)
        if named is None:
            after = _separate(layer, key, value, place)
        layer[key] = named or "linear"
    yield layer
    if after is not None:
        yield after


def _separate(layer: Entry, key: str, value: Entry, place: str) -> Entry:
    kind, name = fold(str(layer["type"])), _value(value, "class_name")
    written = None if isinstance(value.get("config"), str) else plain_layer(value, place)
    if kind not in _AFTERWARDS or not isinstance(written, Mapping) or fold(str(name)) == "function":
        own = fold(str(name)) == "function"
        reason = "code from a caller is never run" if own else f"{kind} takes functions by name"
        told = shown(_value(value, "config") or name)
        raise InvalidArchitecture(
            f"{place} {layer['type']} {key}={told} is not offered: {reason}",
            hint="Use one of " + ", ".join(ACTIVATIONS),
        )
    return {one: what for one, what in written.items() if one != "name"}


_FUNCTIONS: Final[dict[str, dict[str, JsonValue]]] = {
    "relu": {"max_value": None, "negative_slope": 0, "threshold": 0},
    "elu": {"alpha": 1},
    "softmax": {"axis": -1},
}
"""Layers that are functions at these arguments."""


def _named(value: Entry) -> str | None:
    """The name of the function that an object stands for; None if it has none."""
    name, config = _value(value, "class_name"), _value(value, "config")
    folded = fold(str(name))
    if isinstance(config, str) or folded == "function":
        known = {fold(one): one for one in ACTIVATIONS}
        return known.get(fold(config)) if isinstance(config, str) else None
    given = config if isinstance(config, Mapping) else {}
    if folded == "activation" and isinstance(given.get("activation"), str):
        return str(given["activation"])
    slope = given.get("negative_slope", given.get("alpha", 0.3))
    if folded == "leakyrelu" and isinstance(slope, float) and abs(slope - 0.2) < 1e-6:
        return "leaky_relu"
    own = _FUNCTIONS.get(folded)
    if own is None or any(given.get(key, default) != default for key, default in own.items()):
        return None
    return folded


def _has(entry: Entry, key: str) -> bool:
    return any(fold(str(name)) == fold(key) for name in entry)


def _value(entry: Entry, key: str) -> JsonValue:
    return next((value for name, value in entry.items() if fold(str(name)) == fold(key)), None)
