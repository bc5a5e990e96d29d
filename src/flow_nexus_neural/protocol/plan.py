"""The plan of a network: layers, shapes and tensors, known to engine and node.

`networks.planner` makes a plan from a layer list, `node.network` builds exactly the plan, and the engine
checks against it the length of every vector that a node sends.
"""

from math import prod
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from flow_nexus_neural.vocabulary import PROTOCOL_NAME_LENGTH
from flow_nexus_neural.vocabulary import Task as Task  # noqa: PLC0414 - also read from here

Name = Annotated[
    str, Field(min_length=PROTOCOL_NAME_LENGTH.low, max_length=PROTOCOL_NAME_LENGTH.high)
]
Initializer = Literal["glorot_uniform", "orthogonal", "zeros", "ones", "lstm_bias"]
Dim = Annotated[int, Field(ge=1, le=1 << 24)]
Shape = Annotated[tuple[Dim, ...], Field(max_length=4)]


PAIRWISE = frozenset({"attention", "transformer_encoder"})
"""Layers that compare every step with every other."""


class Frozen(BaseModel):
    """Base of everything on the wire: immutable, strictly typed, finite, no unknown field."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class InputSpec(Frozen):
    """Layout of one row of scaled data.

    A row is stored as [flat_width] float32, the vector column first and the scalars after it, or as
    [window, n_scalars] when `window` is set (then `vector_length` is 0).

    Attributes:
        vector_length: Steps of the one vector column; 0 when there is none.
        n_scalars: Scalar columns, or channels per step when `window` is set.
        window: Steps of a sequence of rows; None for plain rows.
    """

    vector_length: int = Field(ge=0, le=1 << 16)
    n_scalars: int = Field(ge=0, le=1 << 16)
    window: int | None = Field(default=None, ge=1, le=1 << 16)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a stored row."""
        if self.window is not None:
            return (self.window, self.n_scalars)
        return (self.vector_length + self.n_scalars,)

    @property
    def flat_width(self) -> int:
        """Input width of a network without sequence layers."""
        return prod(self.row_shape)

    @property
    def sequence_shape(self) -> tuple[int, int]:
        """[steps, channels] of a sequence network's input.

        The vector is channel 0 and each scalar is repeated as a further channel.
        """
        if self.window is not None:
            return (self.window, self.n_scalars)
        if self.vector_length:
            return (self.vector_length, 1 + self.n_scalars)
        return (1, self.n_scalars)


class TensorSpec(Frozen):
    """One named tensor of a network, in Keras shape order (kernel [in, out]).

    Attributes:
        name: `layers.<index>.<part>`, or `head.<part>` for an implied head; unique in the plan.
        trainable: Whether the optimiser updates it. False for running statistics and frozen layers.
    """

    name: Name
    shape: Shape
    init: Initializer
    trainable: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


class PlannedLayer(Frozen):
    """One layer of a plan.

    Attributes:
        index: Position in the list that the caller gave; None for the implied head.
        type: Canonical type name of the vocabulary.
        args: Canonical arguments with every default filled in.
        in_shape: Shape of its input without the batch axis: [features] or [steps, features].
        out_shape: Shape of its output without the batch axis.
        take_last_step: Its input sequence is first reduced to the last time step.
        last_query_only: Only the last step's output of this attention or encoder layer is used.
        tensors: Its tensors in canonical order.
    """

    index: int | None
    type: str = Field(max_length=48)
    args: dict[str, JsonValue]
    in_shape: Shape
    out_shape: Shape
    take_last_step: bool = False
    last_query_only: bool = False
    tensors: tuple[TensorSpec, ...] = Field(default=(), max_length=256)

    @property
    def products(self) -> int:
        """Multiplications for one row, roughly: each weight at each step, and steps with each other."""
        shapes = (self.in_shape, self.out_shape)
        steps = max(shape[0] if len(shape) > 1 else 1 for shape in shapes)
        weights = sum(tensor.size for tensor in self.tensors)
        pairs = steps * max(map(prod, shapes)) if self.type in PAIRWISE else 0
        return steps * weights + 2 * pairs


class NetworkPlan(Frozen):
    """A network whose shapes were checked for an input and a task.

    Attributes:
        view: `flat` for dense-only networks, `sequence` for all others.
        n_outputs: Logits per row: 1 for binary and regression, the number of classes for multiclass.
        implied_head: Whether the last layer was appended because the list had no output layer for the task.
        layers: In order; the last one outputs logits (its activation is part of the loss).
    """

    input: InputSpec
    view: Literal["flat", "sequence"]
    task: Task
    n_outputs: int = Field(ge=1, le=1 << 16)
    implied_head: bool
    layers: tuple[PlannedLayer, ...] = Field(min_length=1, max_length=80)

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """All tensors in canonical order."""
        return tuple(tensor for layer in self.layers for tensor in layer.tensors)

    @property
    def trainable(self) -> tuple[TensorSpec, ...]:
        """The tensors of the flat vector `params`, in its order."""
        return tuple(tensor for tensor in self.tensors if tensor.trainable)

    @property
    def buffers(self) -> tuple[TensorSpec, ...]:
        """The tensors of the flat vector `buffers`, in its order."""
        return tuple(tensor for tensor in self.tensors if not tensor.trainable)

    @property
    def n_params(self) -> int:
        """Elements of `params`."""
        return sum(tensor.size for tensor in self.trainable)

    @property
    def n_buffers(self) -> int:
        """Elements of `buffers`."""
        return sum(tensor.size for tensor in self.buffers)

    @property
    def products(self) -> int:
        """Multiplications of one row on its way through the network, roughly."""
        return sum(layer.products for layer in self.layers)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [tensor.name for tensor in self.tensors]
        if len(names) != len(set(names)):
            raise ValueError("tensor names repeat")
        return self
