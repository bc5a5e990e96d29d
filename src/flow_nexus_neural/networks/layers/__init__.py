"""Every layer type that a caller may write, one class each; related types share a file.

Names and defaults are those of Keras 3 (https://keras.io/api/layers). `transformer_encoder`,
`positional_encoding` and `graph_conv` have no Keras counterpart.

To add a layer, register a class here, and in `node.layers` the class that computes it. Every module of this
package is imported here, so there is no list of layers to keep up to date.
"""

import pkgutil
from importlib import import_module
from typing import Final

from flow_nexus_neural.networks.registry import LAYER_TYPES, VOCABULARY, register, unregister

__all__ = ["LAYER_TYPES", "VOCABULARY", "register", "unregister"]

_READING_ORDER: Final = (
    "input",
    "dense",
    "regularization",
    "recurrent",
    "attention",
    "convolution",
    "pooling",
    "reshaping",
    "normalization",
    "activation",
)
"""Order of the modules, and so of layer types in errors. Other modules follow these."""


def _position(module: str) -> tuple[int, str]:
    known = module in _READING_ORDER
    return (_READING_ORDER.index(module) if known else len(_READING_ORDER), module)


for _module in sorted((found.name for found in pkgutil.iter_modules(__path__)), key=_position):
    import_module(f"{__name__}.{_module}")
