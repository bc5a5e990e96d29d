"""Registry of layer types, and of every name by which a caller may refer to one.

Classes in `networks.layers` register themselves with `@register`; import `LAYER_TYPES` and `VOCABULARY` from
there, so that all of them are registered. `node.registry` holds the classes that compute the types.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import JsonValue

from flow_nexus_neural.networks.arguments import Argument
from flow_nexus_neural.networks.fixed_arguments import FIXED_COMMON, FixedArgument
from flow_nexus_neural.networks.layer_type import COMMON, LayerType
from flow_nexus_neural.networks.spelling import fold


@dataclass(frozen=True, slots=True)
class VocabularyEntry:
    """One name that errors list: a layer type or a shorthand.

    Attributes:
        aliases: Other accepted names.
        arguments: Accepted arguments, without those common to all layers.
        kind: The layer type.
        fixed: Arguments that a shorthand sets.
        own_fixed: Arguments of the Keras layer that are read at their defaults only.
    """

    name: str
    aliases: tuple[str, ...]
    arguments: tuple[Argument, ...]
    kind: LayerType
    fixed: Mapping[str, JsonValue]
    own_fixed: tuple[FixedArgument, ...] = ()

    @property
    def accepted(self) -> tuple[Argument, ...]:
        """All accepted arguments, those common to all layers included."""
        return (*self.arguments, *COMMON)

    @property
    def fixed_arguments(self) -> tuple[FixedArgument, ...]:
        """All that are read at their defaults only, those of every layer included."""
        return (*FIXED_COMMON, *self.own_fixed)

    @property
    def names(self) -> tuple[str, ...]:
        """Every accepted name, the canonical one first."""
        return (self.name, *self.aliases)


LAYER_TYPES: Final[dict[str, LayerType]] = {}
"""From canonical name to type, in the order of registration, in which errors list them."""

VOCABULARY: Final[dict[str, VocabularyEntry]] = {}
"""From listed name to entry, in the order in which errors list them."""

_BY_FOLD: Final[dict[str, VocabularyEntry]] = {}

_REQUIRED: Final = ("name", "arguments", "sequence_use")

T = TypeVar("T", bound=LayerType)


def register(layer_class: type[T]) -> type[T]:
    """Register a layer type; a decorator for its class.

    Raises:
        TypeError: If the class lacks a required attribute or an abstract method.
        ValueError: If one of its names is taken.
    """
    missing = [name for name in _REQUIRED if not hasattr(layer_class, name)]
    if missing:
        raise TypeError(f"{layer_class.__name__} does not say its {', '.join(missing)}")
    kind = layer_class()
    entries = tuple(_entries_of(kind))
    for spelling in (spelling for entry in entries for spelling in entry.names):
        taken = _BY_FOLD.get(fold(spelling))
        if taken is not None:
            raise ValueError(f"{kind.name}: the name {spelling!r} already means {taken.kind.name}")
    LAYER_TYPES[kind.name] = kind
    for entry in entries:
        VOCABULARY[entry.name] = entry
        _BY_FOLD.update((fold(spelling), entry) for spelling in entry.names)
    return layer_class


def unregister(name: str) -> None:
    """Remove a layer type and all its names; for tests that register a type of their own.

    Raises:
        KeyError: If there is no such type.
    """
    for entry in _entries_of(LAYER_TYPES.pop(name)):
        del VOCABULARY[entry.name]
        for spelling in entry.names:
            del _BY_FOLD[fold(spelling)]


def entry_named(name: str) -> VocabularyEntry | None:
    """The entry of a name, matched without case and separators; None if it is unknown."""
    return _BY_FOLD.get(fold(name))


def known_names() -> tuple[str, ...]:
    """Every accepted name, for suggestions in errors."""
    return tuple(name for entry in VOCABULARY.values() for name in entry.names)


def _entries_of(kind: LayerType) -> Iterator[VocabularyEntry]:
    yield VocabularyEntry(kind.name, kind.aliases, kind.arguments, kind, {}, kind.fixed_arguments)
    for name, fixed in kind.shorthands.items():
        yield VocabularyEntry(name, (), (), kind, fixed, kind.fixed_in_shorthands.get(name, ()))
