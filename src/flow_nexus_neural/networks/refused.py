"""Well-known layer types that are deliberately not offered, each with the reason that the error gives."""

from typing import Final

from flow_nexus_neural.networks.spelling import fold

_CODE = "code from a caller is never run"
_CHAIN = "a layer list is one chain from input to output"
_ONE_AXIS = "rows have at most one time axis; use conv1d and the 1-D pooling layers"
_SCALED = "the data is scaled and encoded before it reaches the network"
_TASK = "networks are trained on a target; use dense layers for an encoder"

_REFUSED: Final = {
    "lambda": _CODE,
    "custom": _CODE,
    "custom_object": _CODE,
    "embedding": "data is numeric only",
    "conv2d": _ONE_AXIS,
    "conv3d": _ONE_AXIS,
    "separable_conv2d": _ONE_AXIS,
    "depthwise_conv2d": _ONE_AXIS,
    "conv_lstm2d": _ONE_AXIS,
    "max_pooling2d": _ONE_AXIS,
    "maxpool2d": _ONE_AXIS,
    "average_pooling2d": _ONE_AXIS,
    "global_average_pooling2d": _ONE_AXIS,
    "global_max_pooling2d": _ONE_AXIS,
    "spatial_dropout2d": _ONE_AXIS,
    "gan": _TASK,
    "autoencoder": _TASK,
    "vae": _TASK,
    "normalization": _SCALED,
    "rescaling": _SCALED,
    "discretization": _SCALED,
    "category_encoding": _SCALED,
    "hashing": _SCALED,
    "string_lookup": _SCALED,
    "integer_lookup": _SCALED,
    "text_vectorization": _SCALED,
    "add": _CHAIN,
    "concatenate": _CHAIN,
    "multiply": _CHAIN,
    "residual": _CHAIN,
}

_REFUSED_BY_FOLD: Final = {fold(name): reason for name, reason in _REFUSED.items()}


def refusal_of(name: str) -> str | None:
    """The reason why a well-known layer type is not offered; None for any other name."""
    return _REFUSED_BY_FOLD.get(fold(name))
