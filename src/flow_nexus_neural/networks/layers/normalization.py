"""Layers that normalise their input to mean 0 and variance 1, then scale and shift it."""

from collections.abc import Iterable, Sequence

from typing_extensions import override

from flow_nexus_neural.networks.arguments import EPSILON, Real, optional
from flow_nexus_neural.networks.fixed_arguments import (
    GAMMA_AND_BETA,
    LAST_AXIS,
    FixedArgument,
    IgnoredArgument,
    InitializerArgument,
)
from flow_nexus_neural.networks.layer_type import (
    LayerSpec,
    SameShape,
    SequenceUse,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register
from flow_nexus_neural.networks.tensors import LayerTensor, gamma_and_beta


@register
class BatchNormalizationType(SameShape):
    """Tensors: gamma, beta, moving_mean, moving_variance [in]; the last two are statistics."""

    name = "batch_normalization"
    aliases = ("batch_norm", "bn")
    arguments = (
        optional("momentum", Real(0, 1, below=True), default=0.99),
        optional("epsilon", EPSILON, default=1e-3),
    )
    fixed_arguments = (
        LAST_AXIS,
        *GAMMA_AND_BETA,
        InitializerArgument("moving_mean_initializer", "zeros"),
        InitializerArgument("moving_variance_initializer", "ones"),
        FixedArgument("synchronized", default=False),
        FixedArgument("renorm", default=False),
        FixedArgument("renorm_clipping"),
        IgnoredArgument("renorm_momentum"),
        FixedArgument("virtual_batch_size"),
        FixedArgument("fused"),
    )
    sequence_use = SequenceUse.WHOLE

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        yield from gamma_and_beta(width)
        yield LayerTensor("moving_mean", (width,), "zeros", trainable=False)
        yield LayerTensor("moving_variance", (width,), "ones", trainable=False)

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return (
            {"type": "batch_normalization"},
            {"type": "batch_normalization", "trainable": False},
        )


@register
class LayerNormalizationType(SameShape):
    """Tensors: gamma, beta [in]."""

    name = "layer_normalization"
    aliases = ("layer_norm", "ln")
    arguments = (optional("epsilon", EPSILON, default=1e-3),)
    fixed_arguments = (
        LAST_AXIS,
        *GAMMA_AND_BETA,
        FixedArgument("rms_scaling", default=False),
    )
    sequence_use = SequenceUse.POINTWISE

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        return gamma_and_beta(width)

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": "layer_normalization"},)
