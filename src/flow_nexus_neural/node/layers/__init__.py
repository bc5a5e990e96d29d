"""What computes each layer type, in files named like those of `networks.layers`.

Every module of this package is imported, so no list of layers is kept anywhere.
"""

import pkgutil
from importlib import import_module

from flow_nexus_neural.node.registry import LAYERS, computes, unregister

__all__ = ["LAYERS", "computes", "unregister"]

for _module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
