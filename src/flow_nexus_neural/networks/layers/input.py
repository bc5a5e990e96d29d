"""The input layer, an optional description of the data at the beginning of a list."""

from collections.abc import Sequence

from typing_extensions import override

from flow_nexus_neural.networks.arguments import Dims, optional
from flow_nexus_neural.networks.fixed_arguments import (
    FixedArgument,
    IgnoredArgument,
)
from flow_nexus_neural.networks.layer_type import (
    SameShape,
    SequenceUse,
    WithoutTensors,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register


@register
class InputType(SameShape, WithoutTensors):
    """The shape that the caller expects of the data. It is compared with the data and is not in the plan."""

    name = "input"
    aliases = ("input_layer",)
    arguments = (optional("shape", Dims(), "input_shape", default=None),)
    fixed_arguments = (
        FixedArgument("sparse", default=False),
        FixedArgument("ragged", default=False),
        FixedArgument("optional", default=False),
        IgnoredArgument("batch_size"),
    )
    sequence_use = SequenceUse.WHOLE
    is_computed = False

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": "input", "shape": [6, 4]},)
