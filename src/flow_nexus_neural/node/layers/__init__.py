"""The classes that compute each layer type, in files named like those of `networks.layers`.

Every module of this package is imported here and registers its classes; there is no list to keep up to date.
"""

import pkgutil
from importlib import import_module

from flow_nexus_neural.node.registry import LAYERS, computes, unregister

__all__ = ["LAYERS", "computes", "unregister"]

for _module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
