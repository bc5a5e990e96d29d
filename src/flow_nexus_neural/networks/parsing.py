"""Parses a caller's layer list, or raises an error with the wrong layer and the correction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.arguments import Argument, UnusableValueError
from flow_nexus_neural.networks.layer_type import LayerSpec, LayerType, Reading
from flow_nexus_neural.networks.layers import VOCABULARY
from flow_nexus_neural.networks.refused import refusal_of
from flow_nexus_neural.networks.registry import VocabularyEntry, entry_named, known_names
from flow_nexus_neural.networks.spelling import did_you_mean, fold, shown

MAX_LAYERS: Final = 64

_EXAMPLE = '[{"type": "dense", "units": 64, "activation": "relu"}]'
_FROM_DATA = frozenset({"input_shape", "input_dim", "batch_input_shape", "input_length"})


@dataclass(frozen=True)
class ParsedLayers:
    """A layer list with valid types and arguments; the planner checks that the layers fit each other."""

    layers: tuple[LayerSpec, ...]
    warnings: list[str]


def parse_layers(raw: Sequence[Mapping[str, JsonValue]]) -> ParsedLayers:
    """Parse a layer list.

    Names of types and arguments are matched without case and separators; numbers and booleans may be text.

    Args:
        raw: The caller's list, one object per layer, from input to output.

    Raises:
        InvalidArchitecture: If the list is empty or too long, or a layer is unknown, refused, lacks an
            argument or has an invalid one. The message has the layer's index.
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
    kind, values = _read_object(entry, place)
    label = values.pop("name")
    trainable = values.pop("trainable")
    kind.settle(values, Reading(f"{place} {kind.name}", warnings.append, _read_object))
    return LayerSpec(
        index=index,
        kind=kind,
        args=values,
        name=label if isinstance(label, str) else None,
        trainable=trainable is True,
    )


def _read_object(entry: object, place: str) -> tuple[LayerType, dict[str, JsonValue]]:
    """Layer type and canonical arguments of one object, the common ones included."""
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
    named = _entry_of(written, place)
    rest = {str(key): value for key, value in entry.items() if key != type_keys[0]}
    values = _read_arguments(named, rest, place)
    # A shorthand fixes some arguments of its type and cannot be given the others.
    defaults = {argument.name: argument.default for argument in named.kind.arguments}
    return named.kind, {**defaults, **named.fixed, **values}


def _entry_of(written: object, place: str) -> VocabularyEntry:
    if not isinstance(written, str):
        raise InvalidArchitecture(
            f"{place} type={shown(written)} is not a name",
            hint=f"Layers look like {_EXAMPLE}. {_all_types()}",
        )
    found = entry_named(written)
    if found is not None:
        return found
    reason = refusal_of(written)
    if reason is not None:
        raise InvalidArchitecture(
            f"{place} type '{written}' is not offered: {reason}", hint=_all_types()
        )
    near = did_you_mean(written, known_names())
    raise InvalidArchitecture(f"{place} type {shown(written)} is unknown{near}", hint=_all_types())


def _read_arguments(
    named: VocabularyEntry, given: Mapping[str, JsonValue], place: str
) -> dict[str, JsonValue]:
    """Every argument with its value or default, in the order of the layer type."""
    subject = f"{place} {named.name}"
    by_fold = {fold(name): argument for argument in named.accepted for name in argument.names}
    read: dict[str, JsonValue] = {}
    for spelling, raw_value in given.items():
        argument = by_fold.get(fold(spelling))
        if argument is None:
            raise _unknown_argument(named, spelling, subject)
        value = argument.null_means if raw_value is None else raw_value
        if value is None:
            continue
        try:
            canonical = argument.kind.read(value)
        except UnusableValueError as unusable:
            raise InvalidArchitecture(
                f"{subject} {argument.name}={shown(raw_value)} {unusable}",
                hint=_argument_list(named),
            ) from unusable
        if read.setdefault(argument.name, canonical) != canonical:
            raise InvalidArchitecture(
                f"{subject}: '{argument.name}' is given twice, as {shown(read[argument.name])}"
                f" and {shown(canonical)}",
                hint=f"Give it once. {_argument_list(named)}",
            )
    return {
        argument.name: _value_or_default(argument, read, subject, named)
        for argument in named.accepted
    }


def _value_or_default(
    argument: Argument, read: Mapping[str, JsonValue], subject: str, named: VocabularyEntry
) -> JsonValue:
    if argument.name in read:
        return read[argument.name]
    if argument.required:
        raise InvalidArchitecture(
            f"{subject}: '{argument.name}' is missing ({argument.kind.describe()})",
            hint=_argument_list(named),
        )
    return argument.default


def _unknown_argument(named: VocabularyEntry, spelling: str, subject: str) -> InvalidArchitecture:
    if fold(spelling) in {fold(name) for name in _FROM_DATA}:
        return InvalidArchitecture(
            f"{subject}: unknown argument {shown(spelling)}",
            hint=f"Leave it out: the input shape comes from the data. {_argument_list(named)}",
        )
    names = [name for argument in named.accepted for name in argument.names]
    return InvalidArchitecture(
        f"{subject}: unknown argument {shown(spelling)}{did_you_mean(spelling, names)}",
        hint=_argument_list(named),
    )


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


def _argument_list(named: VocabularyEntry) -> str:
    described = ", ".join(argument.describe() for argument in named.accepted)
    return f"Arguments of {named.name}: {described}. Call neural_node_deploy again with a corrected list"


def _all_types() -> str:
    names = ", ".join(VOCABULARY)
    return f"Types are {names}. Call neural_node_deploy again with one of them"
