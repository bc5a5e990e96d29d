"""What of a slot survives its processes: what it was declared to be, and which it had."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from flow_nexus_neural.protocol.digest import canonical_json
from flow_nexus_neural.vocabulary import ModelSize, Role, capability_names

LayersSource = str
Layers = tuple[Mapping[str, JsonValue], ...]
SlotKind = tuple[Role, ModelSize, frozenset[str]]


def kind_of(role: Role, model: ModelSize, capabilities: Iterable[str]) -> SlotKind:
    """What makes two slots interchangeable; tags that mean the same count as the same."""
    return (role, model, capability_names(capabilities))


@dataclass(frozen=True)
class SlotSpec:
    """What a slot was declared to be; survives its incarnations.

    Attributes:
        layers: Canonical layer list, its keys in one order whoever wrote them: workers are grouped into
            networks by its text, and what was stored comes back in the order of the store. Empty for a worker
            deployed without layers, whose network follows the data.
        layers_source: given, peer or default; a replacement keeps its slot's spec.
    """

    role: Role
    node_type: str
    model: ModelSize
    capabilities: tuple[str, ...]
    autonomy: float
    template: str
    layers: Layers
    layers_source: LayersSource

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", in_one_order(self.layers))

    @property
    def kind(self) -> SlotKind:
        """What makes two slots interchangeable for a replacement."""
        return kind_of(self.role, self.model, self.capabilities)


def in_one_order(layers: Iterable[Mapping[str, JsonValue]]) -> Layers:
    """A layer list of which every layer has its keys in canonical order."""
    return tuple(json.loads(canonical_json(dict(layer))) for layer in layers)


@dataclass(frozen=True)
class Former:
    """An incarnation that is gone, and why."""

    node_id: str
    incarnation: int
    reason: str | None
