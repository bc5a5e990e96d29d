"""A layer of someone else's: `scale`, as it would stand in `networks/layers/`."""

from collections.abc import Iterable, Sequence

from pydantic import JsonValue
from typing_extensions import override

from flow_nexus_neural.networks.arguments import Integer, Real, optional
from flow_nexus_neural.networks.layer_type import (
    LayerSpec,
    LayerType,
    Reading,
    SequenceUse,
    Signal,
    WrittenLayer,
)
from flow_nexus_neural.networks.layers import register
from flow_nexus_neural.networks.tensors import LayerTensor


@register
class ScaleType(LayerType):
    """`copies` copies of the input side by side, each value times a trained gain and a fixed factor."""

    name = "scale"
    aliases = ("gain",)
    arguments = (
        optional("copies", Integer(1, 8), "times", default=2),
        optional("factor", Real(0, 10), default=None),
    )
    sequence_use = SequenceUse.POINTWISE

    @override
    def settle(self, values: dict[str, JsonValue], reading: Reading) -> None:
        """The factor follows from the copies."""
        if values["factor"] is None:
            values["factor"] = 1.0
        if values["factor"] == 0:
            reading.warn(f"{reading.where} with factor 0 gives zeros")

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        width = None if signal.width is None else signal.width * layer.integer("copies")
        return signal.with_width(width)

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        yield LayerTensor("gain", (layer.integer("copies") * width,), "ones")

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": "scale"}, {"type": "scale", "copies": 1, "factor": 0.5})
