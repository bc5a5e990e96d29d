"""What computes each layer type, by the type's name.

Classes in `node.layers` enter themselves with `@computes`; import `LAYERS` from there, so that all of them
are entered. The names are those of the types in `networks.layers`; a test compares the two.
"""

import inspect
from collections.abc import Callable
from typing import Final, TypeVar

from flow_nexus_neural.node.layer import Layer

LAYERS: Final[dict[str, type[Layer]]] = {}
"""Canonical type name to the class that is built from the plan."""

L = TypeVar("L", bound=Layer)


def computes(*names: str) -> Callable[[type[L]], type[L]]:
    """Enter a class under the types that it computes; a decorator, above that of a dataclass.

    Raises:
        TypeError: If the class leaves out an abstract method.
        ValueError: If a type has its class already.
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
    """Take one type out again; for tests that bring a layer of their own.

    Raises:
        KeyError: If there is no such type.
    """
    del LAYERS[name]
