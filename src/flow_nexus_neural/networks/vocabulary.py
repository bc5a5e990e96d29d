"""Read a caller's layer list into canonical layers, or say which layer is wrong and what would be right."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.arguments import Argument, UnusableValueError
from flow_nexus_neural.networks.layer_types import (
    KNOWN_NAMES,
    LAYER_TYPES,
    MAX_LAYERS,
    LayerType,
    layer_type_named,
    refusal_of,
)
from flow_nexus_neural.networks.spelling import did_you_mean, fold, shown

_EXAMPLE = '[{"type": "dense", "units": 64, "activation": "relu"}]'
_FROM_DATA = frozenset({"input_shape", "input_dim", "batch_input_shape", "input_length"})


@dataclass(frozen=True)
class LayerSpec:
    """One canonical layer.

    Attributes:
        index: Its position in the caller's list.
        type: Canonical type name.
        args: Canonical arguments, every default filled in, in the order of the vocabulary. Not to be changed.
        name: The caller's label.
        trainable: Whether the optimiser may move its tensors.
    """

    index: int
    type: str
    args: Mapping[str, JsonValue]
    name: str | None = None
    trainable: bool = True

    @property
    def kind(self) -> LayerType:
        """The entry of the vocabulary."""
        return LAYER_TYPES[self.type]

    @property
    def where(self) -> str:
        """How errors call it: `layers[3] attention`."""
        return f"layers[{self.index}] {self.type}"

    def to_json(self) -> dict[str, JsonValue]:
        """The layer as a caller could have written it; reading it again gives an equal layer."""
        written: dict[str, JsonValue] = {"type": self.type, **self.args}
        if self.name is not None:
            written["name"] = self.name
        if not self.trainable:
            written["trainable"] = False
        return written


@dataclass(frozen=True)
class ParsedLayers:
    """A layer list that uses the vocabulary rightly; whether its sequence works is the planner's matter."""

    layers: tuple[LayerSpec, ...]
    warnings: list[str]


def parse_layers(raw: Sequence[Mapping[str, JsonValue]]) -> ParsedLayers:
    """Read a layer list.

    Names of types and arguments are matched without case and separators; numbers and booleans may be text.

    Args:
        raw: The caller's list, one object per layer, the first one next to the input.

    Raises:
        InvalidArchitecture: If the list is empty or too long, or a layer is unknown, refused, lacks an
            argument or has a wrong one. The message names the layer's index.
    """
    if not raw:
        raise InvalidArchitecture(
            "layers is an empty list",
            hint=f"Give 1-{MAX_LAYERS} layers such as {_EXAMPLE}, or leave layers out for the default",
        )
    if len(raw) > MAX_LAYERS:
        raise InvalidArchitecture(
            f"layers has {len(raw)} entries; the limit is {MAX_LAYERS}",
            hint="Use fewer layers; transformer_encoder has 'depth' for repeated blocks",
        )
    warnings: list[str] = []
    layers = tuple(_read_layer(entry, index, warnings) for index, entry in enumerate(raw))
    _check_names(layers)
    return ParsedLayers(layers, warnings)


def _read_layer(entry: object, index: int, warnings: list[str]) -> LayerSpec:
    place = f"layers[{index}]"
    layer_type, values = _read_object(entry, place)
    label = values.pop("name")
    trainable = values.pop("trainable")
    if layer_type.name == "bidirectional":
        values["layer"] = _read_inner(values["layer"], f"{place} bidirectional layer")
    _fill_dependent_defaults(layer_type, values)
    if layer_type.name in {"dropout", "spatial_dropout1d"} and values["rate"] == 0:
        warnings.append(f"{place} {layer_type.name} with rate 0 does nothing")
    return LayerSpec(
        index=index,
        type=layer_type.name,
        args=values,
        name=label if isinstance(label, str) else None,
        trainable=trainable is True,
    )


def _read_inner(entry: JsonValue, place: str) -> JsonValue:
    """The layer inside a bidirectional one, canonical, with its type among the arguments."""
    layer_type, values = _read_object(entry, place)
    if layer_type.name not in {"lstm", "gru"}:
        raise InvalidArchitecture(
            f"{place} type '{layer_type.name}' cannot run both ways",
            hint="The inner layer is lstm or gru, for example {'type': 'lstm', 'units': 64}",
        )
    if values["go_backwards"]:
        raise InvalidArchitecture(
            f"{place} {layer_type.name} go_backwards=true contradicts bidirectional",
            hint="Leave go_backwards out: bidirectional already reads both ways",
        )
    for common in ("name", "trainable"):
        if values.pop(common) not in (None, True):
            raise InvalidArchitecture(
                f"{place} {layer_type.name}: '{common}' belongs to the outer layer",
                hint=f"Give '{common}' beside 'layer'",
            )
    return {"type": layer_type.name, **values}


def _read_object(entry: object, place: str) -> tuple[LayerType, dict[str, JsonValue]]:
    """Type and canonical arguments of one object, the common ones included."""
    if not isinstance(entry, Mapping):
        raise InvalidArchitecture(
            f"{place} is {shown(entry)}, not an object",
            hint=f"Layers look like {_EXAMPLE}",
        )
    type_keys = [key for key in entry if fold(str(key)) == "type"]
    if len(type_keys) != 1:
        raise InvalidArchitecture(
            f"{place} has {'no' if not type_keys else 'more than one'} 'type'",
            hint=f"Layers look like {_EXAMPLE}. {_all_types()}",
        )
    written = entry[type_keys[0]]
    layer_type = _type_of(written, place)
    rest = {str(key): value for key, value in entry.items() if key != type_keys[0]}
    values = _read_arguments(layer_type, rest, place)
    if layer_type.stands_for is not None:
        name, fixed = layer_type.stands_for
        return LAYER_TYPES[name], {**fixed, **values}
    return layer_type, values


def _type_of(written: object, place: str) -> LayerType:
    if not isinstance(written, str):
        raise InvalidArchitecture(
            f"{place} type={shown(written)} is not a name",
            hint=f"Layers look like {_EXAMPLE}. {_all_types()}",
        )
    found = layer_type_named(written)
    if found is not None:
        return found
    reason = refusal_of(written)
    if reason is not None:
        raise InvalidArchitecture(
            f"{place} type '{written}' is not offered: {reason}", hint=_all_types()
        )
    near = did_you_mean(written, KNOWN_NAMES)
    raise InvalidArchitecture(f"{place} type {shown(written)} is unknown{near}", hint=_all_types())


def _read_arguments(
    layer_type: LayerType, given: Mapping[str, JsonValue], place: str
) -> dict[str, JsonValue]:
    """Every argument of the type with its value or default, in the order of the vocabulary."""
    subject = f"{place} {layer_type.name}"
    by_fold = {fold(name): argument for argument in layer_type.accepted for name in argument.names}
    read: dict[str, JsonValue] = {}
    for spelling, raw_value in given.items():
        argument = by_fold.get(fold(spelling))
        if argument is None:
            raise _unknown_argument(layer_type, spelling, subject)
        value = argument.null_means if raw_value is None else raw_value
        if value is None:
            continue
        try:
            canonical = argument.kind.read(value)
        except UnusableValueError as unusable:
            raise InvalidArchitecture(
                f"{subject} {argument.name}={shown(raw_value)} {unusable}",
                hint=_argument_list(layer_type),
            ) from unusable
        if read.setdefault(argument.name, canonical) != canonical:
            raise InvalidArchitecture(
                f"{subject}: '{argument.name}' is given twice, as {shown(read[argument.name])}"
                f" and {shown(canonical)}",
                hint=f"Give it once. {_argument_list(layer_type)}",
            )
    return {
        argument.name: _value_or_default(argument, read, subject, layer_type)
        for argument in layer_type.accepted
    }


def _value_or_default(
    argument: Argument, read: Mapping[str, JsonValue], subject: str, layer_type: LayerType
) -> JsonValue:
    if argument.name in read:
        return read[argument.name]
    if argument.required:
        raise InvalidArchitecture(
            f"{subject}: '{argument.name}' is missing ({argument.kind.describe()})",
            hint=_argument_list(layer_type),
        )
    return argument.default


def _unknown_argument(layer_type: LayerType, spelling: str, subject: str) -> InvalidArchitecture:
    if fold(spelling) in {fold(name) for name in _FROM_DATA}:
        return InvalidArchitecture(
            f"{subject}: unknown argument {shown(spelling)}",
            hint=f"Leave it out: the input shape comes from the data. {_argument_list(layer_type)}",
        )
    names = [name for argument in layer_type.accepted for name in argument.names]
    return InvalidArchitecture(
        f"{subject}: unknown argument {shown(spelling)}{did_you_mean(spelling, names)}",
        hint=_argument_list(layer_type),
    )


def _fill_dependent_defaults(layer_type: LayerType, values: dict[str, JsonValue]) -> None:
    """Defaults that follow another argument: a pooling window moves by its own size."""
    if layer_type.name in {"max_pooling1d", "average_pooling1d"} and values["strides"] is None:
        values["strides"] = values["pool_size"]


def _check_names(layers: Iterable[LayerSpec]) -> None:
    seen: dict[str, int] = {}
    for layer in layers:
        if layer.name is None:
            continue
        if layer.name in seen:
            raise InvalidArchitecture(
                f"{layer.where} name={shown(layer.name)} is the name of layers[{seen[layer.name]}] too",
                hint="Give every layer its own name, or none",
            )
        seen[layer.name] = layer.index


def _argument_list(layer_type: LayerType) -> str:
    described = ", ".join(argument.describe() for argument in layer_type.accepted)
    return f"Arguments of {layer_type.name}: {described}. Call neural_node_deploy again with a corrected list"


def _all_types() -> str:
    names = ", ".join(LAYER_TYPES)
    return f"Types are {names}. Call neural_node_deploy again with one of them"
