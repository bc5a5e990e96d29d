"""The tensors of a layer as its type declares them, before the plan gives them full names.

Shapes are those of Keras, in Keras' order of creation.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flow_nexus_neural.protocol.plan import Initializer


class LayerTensor(NamedTuple):
    """One tensor of a layer.

    Attributes:
        name: The part of the tensor's full name after `layers.<index>.`.
        trainable: False for statistics, which no optimiser updates.
    """

    name: str
    shape: tuple[int, ...]
    init: Initializer
    trainable: bool = True


def kernel_and_bias(width: int, units: int, *, use_bias: bool = True) -> Iterator[LayerTensor]:
    """Kernel [width, units] and, unless `use_bias` is false, bias [units]."""
    yield LayerTensor("kernel", (width, units), "glorot_uniform")
    if use_bias:
        yield LayerTensor("bias", (units,), "zeros")


def gamma_and_beta(width: int) -> Iterator[LayerTensor]:
    """Scale and shift of a normalisation, [width] each."""
    yield LayerTensor("gamma", (width,), "ones")
    yield LayerTensor("beta", (width,), "zeros")


def under(prefix: str, tensors: Iterable[LayerTensor]) -> Iterator[LayerTensor]:
    """The same tensors with `<prefix>.` prepended to their names."""
    for tensor in tensors:
        yield tensor._replace(name=f"{prefix}.{tensor.name}")
