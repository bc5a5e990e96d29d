"""How each layer type is written, in files named like those of `networks.layers` and `node.layers`."""

import pkgutil
from importlib import import_module

from flow_nexus_neural.wasm.compile.registry import EMITTERS

__all__ = ["EMITTERS"]

for _module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
