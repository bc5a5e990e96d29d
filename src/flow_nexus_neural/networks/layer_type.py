"""The interface of a layer type, and one parsed layer of a list.

A layer type is one class in `networks.layers`. The planner and the parser refer to no type by name except
`input` (a description of the data) and `dense` (the output layer that is appended if none is given).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import ClassVar, Final, cast

from pydantic import JsonValue
from typing_extensions import override

from flow_nexus_neural.networks.arguments import Argument, Flag, Text, optional
from flow_nexus_neural.networks.fixed_arguments import FixedArgument
from flow_nexus_neural.networks.tensors import LayerTensor
from flow_nexus_neural.protocol.plan import TensorSpec

WrittenLayer = dict[str, JsonValue]
"""A layer as a caller writes it: its type and its arguments."""

COMMON: Final = (
    optional("name", Text(64), default=None),
    optional("trainable", Flag(), default=True),
)
"""Arguments that every layer accepts."""


class SequenceUse(Enum):
    """How a layer type treats the steps of a sequence [steps, features]."""

    POINTWISE = "treats every step alone, and a vector [features] alike"
    WHOLE = "takes a vector or a sequence; the steps of a sequence are not computed one by one"
    REQUIRED = "needs a sequence; a network with such a layer is a sequence network"
    ATTENDS = "needs a sequence; can compute the last step alone when no other step is read"


class LayerType(ABC):
    """One type of layer: its names, arguments, output shape and tensors.

    A class that lacks a required attribute or an abstract method cannot be registered.

    Attributes:
        name: Canonical name, in snake_case.
        arguments: Its own arguments, in the order in which errors list them.
        sequence_use: How it treats the steps of a sequence.
        aliases: Other accepted names.
        fixed_arguments: Arguments of the Keras layer that are read at their defaults only.
        shorthands: Names for this type with fixed arguments; they accept only the common arguments.
        fixed_in_shorthands: As `fixed_arguments`, by the name of a shorthand.
        is_computed: False only for a layer that describes the data and is not part of a plan.
        can_give_logits: Whether it can be the output layer. If so it has an argument `activation`, which the
            plan makes linear if the task's loss contains that activation.
    """

    name: ClassVar[str]
    arguments: ClassVar[tuple[Argument, ...]]
    sequence_use: ClassVar[SequenceUse]
    aliases: ClassVar[tuple[str, ...]] = ()
    shorthands: ClassVar[Mapping[str, Mapping[str, JsonValue]]] = MappingProxyType({})
    fixed_arguments: ClassVar[tuple[FixedArgument, ...]] = ()
    fixed_in_shorthands: ClassVar[Mapping[str, tuple[FixedArgument, ...]]] = MappingProxyType({})
    is_computed: ClassVar[bool] = True
    can_give_logits: ClassVar[bool] = False

    @abstractmethod
    def output(self, layer: "LayerSpec", signal: "Signal") -> "Signal":
        """The shape after the layer. The input is a sequence if `sequence_use` needs one.

        Raises:
            InvalidArchitecture: If the layer's sizes do not fit its input.
        """

    @abstractmethod
    def tensors(self, layer: "LayerSpec", width: int) -> Iterable[LayerTensor]:
        """The tensors of a layer whose input has `width` features, in canonical order."""

    @abstractmethod
    def examples(self) -> Sequence[WrittenLayer]:
        """Layers of this type for an input of 6 steps of 4 features, or of 4 features.

        The warm-up runs each of them before nodes are confined. Together they must reach every branch of the
        layer's computation: a confined node cannot load a module that is imported later.
        """

    def settle(self, values: dict[str, JsonValue], reading: "Reading") -> None:  # noqa: B027 - rarely needed
        """Check arguments against each other and fill in defaults that follow from other arguments.

        Args:
            values: All arguments, parsed; changed in place.
            reading: Gives the layer's name in errors, collects warnings, and parses a nested layer.

        Raises:
            InvalidArchitecture: If the arguments contradict each other.
        """

    def planned_args(self, layer: "LayerSpec", width: int) -> dict[str, JsonValue]:  # noqa: ARG002 - for overrides
        """The arguments in the plan, including those that depend on the width of the input."""
        return dict(layer.args)

    def ended_sequence(self, layer: "LayerSpec") -> tuple[str, str]:
        """Explain to the caller that `layer` ends the sequence which a later layer needs.

        Returns:
            The name of `layer` in the error, and how to correct it.
        """
        return layer.where, f"move it before {self.name} or leave {self.name} out"

    @property
    def needs_sequence(self) -> bool:
        """Whether it accepts only [steps, features], so that its network is a sequence network."""
        return self.sequence_use in (SequenceUse.REQUIRED, SequenceUse.ATTENDS)


class SameShape(LayerType):
    """A layer type whose output has the shape of its input, whatever its arguments."""

    @override
    def output(self, layer: "LayerSpec", signal: "Signal") -> "Signal":
        """See `LayerType.output`."""
        return signal


class WithoutTensors(LayerType):
    """A layer type without weights and running statistics."""

    @override
    def tensors(self, layer: "LayerSpec", width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        return ()


@dataclass(frozen=True, slots=True)
class Reading:
    """Context for `LayerType.settle` while one layer of a list is parsed.

    Attributes:
        where: The layer's name in errors: `layers[3] bidirectional`.
        warn: Adds a warning for the caller.
        inner: Parses a nested layer, given its name in errors; returns its type and all its arguments, the
            common ones included.
    """

    where: str
    warn: Callable[[str], None]
    inner: Callable[[JsonValue, str], tuple[LayerType, dict[str, JsonValue]]]


@dataclass(frozen=True)
class LayerSpec:
    """One parsed layer.

    Attributes:
        index: Its position in the caller's list.
        kind: Its type.
        args: Canonical arguments with every default filled in, in the type's order. Must not be modified.
        name: The caller's label.
        trainable: Whether the optimiser may update its tensors.
    """

    index: int
    kind: LayerType
    args: Mapping[str, JsonValue]
    name: str | None = None
    trainable: bool = True

    @property
    def type(self) -> str:
        """Canonical type name."""
        return self.kind.name

    @property
    def where(self) -> str:
        """Its name in errors: `layers[3] attention`."""
        return f"layers[{self.index}] {self.type}"

    def integer(self, name: str) -> int:
        """An integer argument; the parser has already checked its type."""
        return cast("int", self.args[name])

    def named_tensors(self, width: int, prefix: str) -> tuple[TensorSpec, ...]:
        """Its tensors for an input of `width` features, named `<prefix>.<tensor>`."""
        return tuple(
            TensorSpec(
                name=f"{prefix}.{tensor.name}",
                shape=tensor.shape,
                init=tensor.init,
                trainable=self.trainable and tensor.trainable,
            )
            for tensor in self.kind.tensors(self, width)
        )

    def to_json(self) -> WrittenLayer:
        """The layer as a caller could have written it; parsing it gives an equal layer."""
        written: WrittenLayer = {"type": self.type, **self.args}
        if self.name is not None:
            written["name"] = self.name
        if not self.trainable:
            written["trainable"] = False
        return written


@dataclass(frozen=True, slots=True)
class Signal:
    """The shape of one row between two layers; sizes are None until the data is known.

    Attributes:
        is_sequence: Whether the shape is [steps, width] or [width].
        ended_by: The layer that turned a sequence into a vector; None if there was no sequence.
    """

    is_sequence: bool
    steps: int | None
    width: int | None
    ended_by: LayerSpec | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The known shape.

        Raises:
            ValueError: If a size is unknown.
        """
        sizes = (self.steps, self.width) if self.is_sequence else (self.width,)
        if None in sizes:
            raise ValueError(f"shape is not known: {self}")
        return cast("tuple[int, ...]", sizes)

    def sequence(self, *, steps: int | None, width: int | None) -> "Signal":
        """A sequence of the given sizes."""
        return Signal(is_sequence=True, steps=steps, width=width)

    def flat(self, width: int | None, ended_by: LayerSpec) -> "Signal":
        """A vector; records which layer ended the sequence, for error messages."""
        # A later flat layer must not be named as the one that ended the sequence.
        ended = ended_by if self.is_sequence else self.ended_by
        return Signal(is_sequence=False, steps=None, width=width, ended_by=ended)

    def with_width(self, width: int | None) -> "Signal":
        """The same kind of shape with another number of features."""
        return Signal(self.is_sequence, self.steps, width, self.ended_by)
