"""What every layer type has to say about itself, and one layer of a list, read by its type.

A layer type is one class in `networks.layers`. The planner and the parser know no type by its name except
`input` (a description of the data) and `dense` (the output layer that is appended when none is given).
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
    """What a layer type does with the steps of a sequence [steps, features]."""

    POINTWISE = "treats every step alone, and a vector [features] alike"
    WHOLE = "takes a vector or a sequence; the steps of a sequence are not computed one by one"
    REQUIRED = "needs a sequence; a network with such a layer is a sequence network"
    ATTENDS = "needs a sequence; can compute the last step alone when no other step is read"


class LayerType(ABC):
    """One type of layer: how it is written, what it accepts, and what it makes of its input.

    A class that leaves out a required attribute or an abstract method cannot be registered.

    Attributes:
        name: Canonical name, in snake_case.
        arguments: Its own arguments, in the order in which errors list them.
        sequence_use: What it does with the steps of a sequence.
        aliases: Other names that are accepted.
        shorthands: Names that stand for this type with fixed arguments; they accept no other argument than
            the common ones.
        is_computed: False only for a layer that describes the data and is not part of a plan.
        can_give_logits: As the last layer, with the right width, it gives the logits of the task. It has an
            argument `activation`, which the plan makes linear when the task's loss contains it.
    """

    name: ClassVar[str]
    arguments: ClassVar[tuple[Argument, ...]]
    sequence_use: ClassVar[SequenceUse]
    aliases: ClassVar[tuple[str, ...]] = ()
    shorthands: ClassVar[Mapping[str, Mapping[str, JsonValue]]] = MappingProxyType({})
    is_computed: ClassVar[bool] = True
    can_give_logits: ClassVar[bool] = False

    @abstractmethod
    def output(self, layer: "LayerSpec", signal: "Signal") -> "Signal":
        """The shape after the layer. A sequence is guaranteed where `sequence_use` asks for one.

        Raises:
            InvalidArchitecture: If the layer's sizes do not fit its input.
        """

    @abstractmethod
    def tensors(self, layer: "LayerSpec", width: int) -> Iterable[LayerTensor]:
        """The tensors of a layer whose input has `width` features, in canonical order."""

    @abstractmethod
    def examples(self) -> Sequence[WrittenLayer]:
        """Layers of this type that work on 6 steps of 4 features, or on 4 features.

        A node runs each of them before it is confined, so together they must reach every branch of the
        layer's computation: what is imported or compiled later cannot be loaded any more.
        """

    def settle(self, values: dict[str, JsonValue], reading: "Reading") -> None:  # noqa: B027 - rarely needed
        """Check arguments against each other and fill in defaults that follow from other arguments.

        Args:
            values: All arguments, each one read; changed in place.
            reading: Names the layer, takes warnings, and reads a layer inside this one.

        Raises:
            InvalidArchitecture: If the arguments do not go together.
        """

    def planned_args(self, layer: "LayerSpec", width: int) -> dict[str, JsonValue]:  # noqa: ARG002 - for overrides
        """The arguments in the plan, with those that follow from the width of the input."""
        return dict(layer.args)

    def ended_sequence(self, layer: "LayerSpec") -> tuple[str, str]:
        """For the error of a later layer that needs the sequence which `layer` has ended.

        Returns:
            How to name `layer`, and what to change about it.
        """
        return layer.where, f"move it before {self.name} or leave {self.name} out"

    @property
    def needs_sequence(self) -> bool:
        """Whether it works on [steps, features] only, and so makes a network a sequence network."""
        return self.sequence_use in (SequenceUse.REQUIRED, SequenceUse.ATTENDS)


class SameShape(LayerType):
    """A layer type whose output has the shape of its input, whatever its arguments."""

    @override
    def output(self, layer: "LayerSpec", signal: "Signal") -> "Signal":
        """See `LayerType.output`."""
        return signal


class WithoutTensors(LayerType):
    """A layer type that has nothing to train and no statistics."""

    @override
    def tensors(self, layer: "LayerSpec", width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        return ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a layer type is given while one layer of a list is read.

    Attributes:
        where: How errors name the layer: `layers[3] bidirectional`.
        warn: Takes a sentence for the caller, which does not stop the reading.
        inner: Reads a layer inside this one, given how errors name it; returns its type and all its
            arguments, the common ones included.
    """

    where: str
    warn: Callable[[str], None]
    inner: Callable[[JsonValue, str], tuple[LayerType, dict[str, JsonValue]]]


@dataclass(frozen=True)
class LayerSpec:
    """One canonical layer.

    Attributes:
        index: Its position in the caller's list.
        kind: Its type.
        args: Canonical arguments, every default filled in, in the type's order. Not to be changed.
        name: The caller's label.
        trainable: Whether the optimiser may move its tensors.
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
        """How errors name it: `layers[3] attention`."""
        return f"layers[{self.index}] {self.type}"

    def integer(self, name: str) -> int:
        """An integer argument, which the parser has already read as one."""
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
        """The layer as a caller could have written it; reading it again gives an equal layer."""
        written: WrittenLayer = {"type": self.type, **self.args}
        if self.name is not None:
            written["name"] = self.name
        if not self.trainable:
            written["trainable"] = False
        return written


@dataclass(frozen=True, slots=True)
class Signal:
    """The shape of one row between two layers; None sizes are not known before the data is.

    Attributes:
        is_sequence: [steps, width] rather than [width].
        ended_by: The layer that turned the sequence into a flat vector; None when there was no sequence.
    """

    is_sequence: bool
    steps: int | None
    width: int | None
    ended_by: LayerSpec | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The known shape.

        Raises:
            ValueError: If a size is not known.
        """
        sizes = (self.steps, self.width) if self.is_sequence else (self.width,)
        if None in sizes:
            raise ValueError(f"shape is not known: {self}")
        return cast("tuple[int, ...]", sizes)

    def sequence(self, *, steps: int | None, width: int | None) -> "Signal":
        """The next signal, still a sequence."""
        return Signal(is_sequence=True, steps=steps, width=width)

    def flat(self, width: int | None, ended_by: LayerSpec) -> "Signal":
        """The next signal as a vector; remembers which layer ended a sequence."""
        ended = ended_by if self.is_sequence else self.ended_by
        return Signal(is_sequence=False, steps=None, width=width, ended_by=ended)

    def with_width(self, width: int | None) -> "Signal":
        """The next signal with another number of features."""
        return Signal(self.is_sequence, self.steps, width, self.ended_by)
