"""Parses a caller's layer list, or raises an error with the wrong layer and the correction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.arguments import Argument, Dims, UnusableValueError
from flow_nexus_neural.networks.fixed_arguments import FixedArgument
from flow_nexus_neural.networks.keras_form import plain_layer, plain_layers
from flow_nexus_neural.networks.layer_type import LayerSpec, LayerType, Reading
from flow_nexus_neural.networks.layers import VOCABULARY
from flow_nexus_neural.networks.refused import refusal_of
from flow_nexus_neural.networks.registry import VocabularyEntry, entry_named, known_names
from flow_nexus_neural.networks.spelling import did_you_mean, fold, shown

MAX_LAYERS: Final = 64

_EXAMPLE = '[{"type": "dense", "units": 64, "activation": "relu"}]'
_FROM_DATA = frozenset({"inputshape", "inputdim", "batchinputshape", "inputlength"})
_MAX_TOLD = 8
"""Arguments that one error names."""


@dataclass(frozen=True)
class ParsedLayers:
    """A layer list with valid types and arguments; the planner checks that the layers fit each other."""

    layers: tuple[LayerSpec, ...]
    warnings: list[str]


def parse_layers(
    raw: Sequence[Mapping[str, JsonValue]] | Mapping[str, JsonValue],
) -> ParsedLayers:
    """Parse a layer list.

    Names of types and arguments are matched without case and separators; numbers and booleans may be text.

    Args:
        raw: The caller's list, one object per layer, from input to output; or a model as Keras writes it.

    Raises:
        InvalidArchitecture: If the list is empty or too long, or a layer is unknown, refused, lacks an
            argument or has an invalid one. The message has the layer's index.
    """
    if not raw:
        raise InvalidArchitecture(
            "layers is an empty list",
            hint=f"Give 1-{MAX_LAYERS} layers such as {_EXAMPLE}, or leave layers out for the default",
        )
    entries = plain_layers(raw)
    if len(entries) > MAX_LAYERS:
        raise InvalidArchitecture(
            f"layers has {len(entries)} entries; the limit is {MAX_LAYERS}",
            hint="Use fewer layers; transformer_encoder has 'depth' for repeated blocks",
        )
    warnings: list[str] = []
    layers = tuple(_read_layer(entry, index, warnings) for index, entry in enumerate(entries))
    _check_names(layers)
    return ParsedLayers(layers, warnings)


def _read_layer(entry: object, index: int, warnings: list[str]) -> LayerSpec:
    place = f"layers[{index}]"

    def read(inner: object, where: str) -> tuple[LayerType, dict[str, JsonValue]]:
        return _read_object(inner, where, warnings)

    kind, values = read(entry, place)
    label = values.pop("name")
    trainable = values.pop("trainable")
    kind.settle(values, Reading(f"{place} {kind.name}", warnings.append, read))
    return LayerSpec(
        index=index,
        kind=kind,
        args=values,
        name=label if isinstance(label, str) else None,
        trainable=trainable is True,
    )


def _read_object(
    entry: object, place: str, warnings: list[str]
) -> tuple[LayerType, dict[str, JsonValue]]:
    """Layer type and canonical arguments of one object, the common ones included."""
    entry = plain_layer(entry, place)
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
    values = _read_arguments(named, rest, place, warnings)
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
    named: VocabularyEntry, given: Mapping[str, JsonValue], place: str, warnings: list[str]
) -> dict[str, JsonValue]:
    """Every argument with its value or default, in the order of the layer type."""
    subject = f"{place} {named.name}"
    by_fold = {fold(name): argument for argument in named.accepted for name in argument.names}
    fixed = {fold(argument.name): argument for argument in named.fixed_arguments}
    others = {name: value for name, value in given.items() if fold(name) not in by_fold}
    unknown = [name for name in others if fold(name) not in fixed]
    if unknown:
        raise _unknown_arguments(named, unknown, subject)
    read: dict[str, JsonValue] = {}
    for spelling, raw_value in given.items():
        if spelling in others:
            continue
        argument = by_fold[fold(spelling)]
        canonical = _canonical(argument, raw_value, subject, named)
        if canonical is None:
            continue
        if read.setdefault(argument.name, canonical) != canonical:
            raise InvalidArchitecture(
                f"{subject}: '{argument.name}' is given twice, as {shown(read[argument.name])}"
                f" and {shown(canonical)}",
                hint=f"Give it once. {_argument_list(named)}",
            )
    values = {
        argument.name: _value_or_default(argument, read, subject, named)
        for argument in named.accepted
    }
    written = [(name, fixed[fold(name)], value) for name, value in others.items()]
    _check_fixed(written, values, subject, named)
    remarks = (argument.remark(value) for _, argument, value in written)
    warnings.extend(f"{subject}: {remark}" for remark in remarks if remark is not None)
    return values


def _canonical(
    argument: Argument, raw_value: JsonValue, subject: str, named: VocabularyEntry
) -> JsonValue:
    """The canonical value; None if it counts as absent."""
    value = argument.null_means if raw_value is None else raw_value
    if isinstance(value, list) and len(value) == 1 and not isinstance(argument.kind, Dims):
        value = value[0]  # Keras writes the sizes of one dimension so
    if value is None:
        return None
    try:
        return argument.kind.read(value)
    except UnusableValueError as unusable:
        raise InvalidArchitecture(
            f"{subject} {argument.name}={shown(raw_value)} {unusable}",
            hint=_argument_list(named),
        ) from unusable


def _check_fixed(
    written: Sequence[tuple[str, FixedArgument, JsonValue]],
    values: Mapping[str, JsonValue],
    subject: str,
    named: VocabularyEntry,
) -> None:
    """Refuse arguments of Keras that would have an effect that no layer has here."""
    odd = [one for one in written if not one[1].allows(one[2], values)]
    if odd:
        told = ", ".join(f"{name}={_shown_briefly(value)}" for name, _, value in odd[:_MAX_TOLD])
        only = ", ".join(argument.only() for _, argument, _ in odd[:_MAX_TOLD])
        raise InvalidArchitecture(
            f"{subject}: {told} {'is' if len(odd) == 1 else 'are'} not offered, only {only}",
            hint=f"Leave {'it' if len(odd) == 1 else 'them'} out. {_argument_list(named)}",
        )


def _shown_briefly(value: JsonValue) -> str:
    """A value; of an object that Keras wrote only its class and arguments."""
    name = value.get("class_name") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(name, str):
        return shown(value)
    config = value.get("config")
    given = (
        [f"{key}={one}" for key, one in config.items() if one is not None]
        if isinstance(config, Mapping)
        else []
    )
    return f"{name[:40]}({', '.join(given)[:80]})"


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


def _unknown_arguments(
    named: VocabularyEntry, spellings: Sequence[str], subject: str
) -> InvalidArchitecture:
    """The error for all of a layer's unknown arguments at once."""
    names = [name for argument in named.accepted for name in argument.names]
    from_data = any(fold(spelling) in _FROM_DATA for spelling in spellings)
    told = [
        f"{shown(spelling)}"
        + ("" if fold(spelling) in _FROM_DATA else did_you_mean(spelling, names))
        for spelling in spellings[:_MAX_TOLD]
    ]
    more = f" and {len(spellings) - len(told)} more" if len(spellings) > len(told) else ""
    advice = "Leave it out: the input shape comes from the data. " if from_data else ""
    return InvalidArchitecture(
        f"{subject}: unknown argument{'s' if len(spellings) > 1 else ''} {', '.join(told)}{more}",
        hint=f"{advice}{_argument_list(named)}",
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
