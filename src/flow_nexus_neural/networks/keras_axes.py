"""Axes that older versions of Keras write as numbers: the last one is left out, as no other exists here."""

from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.networks.spelling import fold

Entry = Mapping[str, JsonValue]

_NORMS: Final = frozenset({"batchnormalization", "layernormalization"})
_CELLS: Final = frozenset({"lstm", "gru", "simplernn"})
_TO_VECTOR: Final = frozenset({"flatten", "globalaveragepooling1d", "globalmaxpooling1d"})


def without_last_axes(layers: Iterable[Entry]) -> list[Entry]:
    """Plain layers without an `axis` that is the last one of the signal, where the input's shape is given."""
    found: list[Entry] = []
    rank: int | None = None
    for layer in layers:
        kind = fold(str(layer.get("type"))) if isinstance(layer, Mapping) else ""
        if kind in ("input", "inputlayer"):
            shape = layer.get("shape")
            rank = 1 + len(shape) if isinstance(shape, list) else None
        elif kind in _TO_VECTOR or _gives_last_step(layer, kind):
            rank = 2
        if kind in _NORMS and rank is not None and layer.get("axis") in (rank - 1, [rank - 1]):
            found.append({key: value for key, value in layer.items() if key != "axis"})
        else:
            found.append(layer)
    return found


def _gives_last_step(layer: Entry, kind: str) -> bool:
    inner = layer.get("layer") if kind == "bidirectional" else layer
    if kind not in _CELLS and kind != "bidirectional":
        return False
    return isinstance(inner, Mapping) and inner.get("return_sequences") is not True
