"""Registry of the classes that compute each layer type, by the type's name.

Classes in `node.layers` register themselves with `@computes`; import `LAYERS` from there, so that all of
them are registered. The names are those of the types in `networks.layers`; a test compares the two.
"""

import inspect
from collections.abc import Callable
from typing import Final, TypeVar

from flow_nexus_neural.node.layer import Layer

LAYERS: Final[dict[str, type[Layer]]] = {}
"""From a canonical type name to the class that computes it."""

L = TypeVar("L", bound=Layer)


def computes(*names: str) -> Callable[[type[L]], type[L]]:
    """Register a class for the types that it computes; a decorator, placed above `@dataclass`.

    Raises:
        TypeError: If the class does not implement an abstract method.
        ValueError: If a type is already registered.
    """

    def enter(layer_class: type[L]) -> type[L]:
        if inspect.isabstract(layer_class):
            missing = ", ".join(sorted(layer_class.__abstractmethods__))
            raise TypeError(f"{layer_class.__name__} lacks {missing}")
        for name in names:
            if name in LAYERS:
                raise ValueError(f"{name} is already computed by {LAYERS[name].__name__}")
            LAYERS[name] = layer_class
        return layer_class

    return enter


def unregister(name: str) -> None:
    """Remove a type; for tests that register a layer of their own.

    Raises:
        KeyError: If there is no such type.
    """
    del LAYERS[name]
