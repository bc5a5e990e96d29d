"""Layers over a stack of clients, with their derivatives written out: no graph is recorded.

Each product is that of one client, over views that are made once; what is done element by element is done
for all clients in one call. So a client's numbers come from the very calls that it would make alone.

Shapes: C clients, n rows; a layer maps [C, n, in] to [C, n, out] with tensors [C, *shape] of each client.
Of client c only the first `counts[c]` rows mean anything.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import torch
from torch import Tensor
from typing_extensions import override

from flow_nexus_neural.node.activations import Activation, activation_of
from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.node.layer import drop
from flow_nexus_neural.node.layers.activation import LeakyRelu
from flow_nexus_neural.protocol.plan import NetworkPlan, PlannedLayer

ALIGNED_FLOATS: Final = 16
"""64 bytes, to which torch aligns every tensor."""
_aten: Final[Any] = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Tables:
    """Tensors by the plan's names, [C, *shape] each, and their gradients."""

    params: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Flow:
    """Values [C, n, width] at one place of the network, and the loss's derivative by them.

    `slope` is None where nobody asks for it: before the first layer with tensors.
    """

    values: Tensor
    slope: Tensor | None


def padded(size: int) -> int:
    """The next multiple of `ALIGNED_FLOATS`."""
    return -(-size // ALIGNED_FLOATS) * ALIGNED_FLOATS


def aligned(clients: int, *shape: int) -> Tensor:
    """Zeros [C, *shape] in which each client's part begins as a tensor of its own would.

    The kernels of a product, and with them its rounding, depend on where its operands begin.
    """
    size = prod(shape)
    return torch.zeros(clients, padded(size))[:, :size].view(clients, *shape)


class Bound(ABC):
    """One layer with the memory it reads and writes.

    Attributes:
        out: What follows it.
        records: Whether it records a graph for its derivative.
    """

    out: Flow
    records: bool = False

    @abstractmethod
    def forward(self, noises: Sequence[torch.Generator]) -> None:
        """Compute `out.values`; each client draws from its generator."""

    @abstractmethod
    def backward(self) -> None:
        """Of `out.slope`, set the gradients and the slope before this layer."""


Binder = Callable[[Flow, Tables, Sequence[int]], Bound]
"""Gives a layer its input, its tensors and the number of rows of each client."""


class _Dense(Bound):
    def __init__(
        self, before: Flow, tables: Tables, counts: Sequence[int], prefix: str, units: int
    ) -> None:
        x = before.values
        shape = (*x.shape[:2], units)
        out, slope = aligned(*shape), aligned(*shape)
        self.out = Flow(out, slope)
        kernel, grad = tables.params[f"{prefix}kernel"], tables.grads[f"{prefix}kernel"]
        bias, bias_grad = tables.params.get(f"{prefix}bias"), tables.grads.get(f"{prefix}bias")
        self._products, self._gradients, self._slopes = [], [], []
        self._sums: list[tuple[Tensor, Tensor]] = []
        for c, n in enumerate(counts):
            mine = slope[c, :n]
            base = None if bias is None else bias[c]
            self._products.append((base, x[c, :n], kernel[c], out[c, :n]))
            self._gradients.append((x[c, :n].t(), mine, grad[c]))
            if bias_grad is not None:
                self._sums.append((mine, bias_grad[c]))
            if before.slope is not None:
                self._slopes.append((mine, kernel[c].t(), before.slope[c, :n]))

    @override
    def forward(self, noises: Sequence[torch.Generator]) -> None:
        for bias, x, kernel, out in self._products:
            if bias is None:
                torch.mm(x, kernel, out=out)
            else:
                torch.addmm(bias, x, kernel, out=out)

    @override
    def backward(self) -> None:
        for x, slope, grad in self._gradients:
            torch.mm(x, slope, out=grad)
        for slope, grad in self._sums:
            torch.sum(slope, 0, out=grad)
        for slope, kernel, before in self._slopes:
            torch.mm(slope, kernel, out=before)


class _InPlace(Bound):
    """An activation that replaces its input, and whose derivative follows from its output."""

    def __init__(
        self,
        before: Flow,
        function: Callable[[Tensor], Tensor],
        derivative: Callable[[Tensor, Tensor], object],
    ) -> None:
        self.out = before
        self._function, self._derivative = function, derivative

    @override
    def forward(self, noises: Sequence[torch.Generator]) -> None:
        self._function(self.out.values)

    @override
    def backward(self) -> None:
        if self.out.slope is not None:
            self._derivative(self.out.slope, self.out.values)


class _Recorded(Bound):
    """Any other activation: one call under autograd."""

    records = True

    def __init__(self, before: Flow, function: Activation) -> None:
        self._before, self._function = before.values, function
        self.out = Flow(aligned(*before.values.shape), before.slope)
        self._x = self._y = before.values

    @override
    def forward(self, noises: Sequence[torch.Generator]) -> None:
        with torch.enable_grad():
            self._x = self._before.clone().requires_grad_()
            self._y = self._function(self._x)
        self.out.values.copy_(self._y.detach())

    @override
    def backward(self) -> None:
        if self.out.slope is not None:
            self.out.slope.copy_(torch.autograd.grad(self._y, self._x, self.out.slope)[0])


class _Dropout(Bound):
    """Dropout with the very masks that each client draws by itself."""

    def __init__(self, before: Flow, counts: Sequence[int], rate: float) -> None:
        self._before, self._rate, self._counts = before.values, rate, counts
        self.out = Flow(aligned(*before.values.shape), before.slope)
        self._mask = aligned(*before.values.shape)

    @override
    def forward(self, noises: Sequence[torch.Generator]) -> None:
        self._mask.fill_(1.0)
        for c, (noise, n) in enumerate(zip(noises, self._counts, strict=True)):
            self._mask[c, :n] = drop(self._mask[c, :n], self._rate, noise)
        torch.mul(self._before, self._mask, out=self.out.values)

    @override
    def backward(self) -> None:
        if self.out.slope is not None:
            self.out.slope.mul_(self._mask)


InPlace = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], object]]
"""What replaces values by the activation's, and a slope behind it by the one before it."""

_IN_PLACE: Final[dict[str, InPlace]] = {
    "relu": (
        torch.relu_,
        lambda s, y: _aten.threshold_backward.grad_input(s, y, 0, grad_input=s),
    ),
    "tanh": (torch.tanh_, lambda s, y: _aten.tanh_backward.grad_input(s, y, grad_input=s)),
    "sigmoid": (torch.sigmoid_, lambda s, y: _aten.sigmoid_backward.grad_input(s, y, grad_input=s)),
}


def draws(plan: NetworkPlan) -> bool:
    """Whether a layer of a plan that can be stacked draws numbers."""
    return any(planned.type == "dropout" for planned in plan.layers)


def binders_of(plan: NetworkPlan) -> list[Binder] | None:
    """The plan's layers for a stack; None if one of them has no such form."""
    binders: list[Binder] = []
    for planned in plan.layers:
        made = _made(planned)
        if made is None:
            return None
        binders += made
    return binders


def _made(planned: PlannedLayer) -> list[Binder] | None:
    arguments = Arguments.of(planned)
    if any(not tensor.trainable for tensor in planned.tensors) or planned.take_last_step:
        return None
    match planned.type:
        case "dense":
            prefix = "head." if planned.index is None else f"layers.{planned.index}."
            units = planned.out_shape[-1]
            return [
                lambda flow, tables, counts: _Dense(flow, tables, counts, prefix, units),
                *_activation(arguments, in_place=True),
            ]
        case "activation":
            return _activation(arguments, in_place=False)
        case "leaky_relu":
            leaky = LeakyRelu.planned(planned)
            return [lambda flow, _tables, _counts: _Recorded(flow, lambda x: leaky(x, {}, None))]
        case "dropout":
            rate = arguments.number("rate", below=1.0)
            return [lambda flow, _tables, counts: _Dropout(flow, counts, rate)] if rate else []
        case _:
            return None


def _activation(arguments: Arguments, *, in_place: bool) -> list[Binder]:
    """An activation; in place only behind a layer that does not need its own output again."""
    function, name = activation_of(arguments), str(arguments.values["activation"])
    if name == "linear":
        return []
    if in_place and name in _IN_PLACE:
        pair = _IN_PLACE[name]
        return [lambda flow, _tables, _counts: _InPlace(flow, *pair)]
    return [lambda flow, _tables, _counts: _Recorded(flow, function)]
