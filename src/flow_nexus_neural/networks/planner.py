"""Plans a network: checks parsed layers against an input and a task, and assigns shapes and tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture, InvalidDataset, LimitExceeded
from flow_nexus_neural.networks.heads import find_head
from flow_nexus_neural.networks.layer_type import LayerSpec, SequenceUse, Signal
from flow_nexus_neural.networks.layers import LAYER_TYPES
from flow_nexus_neural.networks.shapes import walk
from flow_nexus_neural.protocol.plan import (
    InputSpec,
    NetworkPlan,
    PlannedLayer,
    Task,
    TensorSpec,
)

MAX_VALUES_PER_ROW: Final = 1 << 24
"""Largest number of values of one row between two layers."""


@dataclass(frozen=True)
class Planned:
    """A plan, and warnings for the caller."""

    plan: NetworkPlan
    warnings: list[str]


def check_structure(layers: Sequence[LayerSpec]) -> None:
    """Refuse a list that cannot work for any data, for example a sequence layer after the sequence ended.

    Raises:
        InvalidArchitecture: For the first layer that cannot work at its position.
    """
    _check_input_layers(layers)
    walk(layers, Signal(is_sequence=is_sequence_network(layers), steps=None, width=None))


def is_sequence_network(layers: Sequence[LayerSpec]) -> bool:
    """Whether any layer needs [steps, features]; else the network gets one flat vector per row."""
    return any(layer.kind.needs_sequence for layer in layers)


def plan_network(
    layers: Sequence[LayerSpec],
    *,
    input: InputSpec,  # noqa: A002 - the plan's own word for it
    task: Task,
    n_outputs: int,
    max_parameters: int,
) -> Planned:
    """Assign shapes and tensors to every layer, and append an output layer if there is none.

    Args:
        layers: From `parse_layers`.
        input: Layout of the rows of data.
        task: The learning task.
        n_outputs: Width of the logits: 1 for binary and regression, the number of classes for multiclass.
        max_parameters: Limit on the number of all tensor elements, trainable or not.

    Raises:
        InvalidArchitecture: If a layer's sizes do not fit the data, or no tensor is trainable.
        InvalidDataset: If the data has no feature.
        LimitExceeded: If the network has too many parameters or too many values per row.
        ValueError: If `n_outputs` does not belong to `task`.
    """
    if (n_outputs == 1) != (task != "multiclass"):
        raise ValueError(f"a {task} target cannot have {n_outputs} outputs")
    entry = _entry_signal(layers, input)
    _check_input_layers(layers)
    # Shapes are inferred twice: the output layer is found by its width, and finding it can change the list.
    end = walk(layers, entry)[-1]
    head = find_head(tuple(layers), end, task, n_outputs)
    working = [layer for layer in head.layers if layer.kind.is_computed]
    if head.implied:
        working.append(_implied_head(n_outputs))
    planned = _plan_layers(working, walk(working, entry))
    plan = NetworkPlan(
        input=input,
        view="sequence" if entry.is_sequence else "flat",
        task=task,
        n_outputs=n_outputs,
        implied_head=head.implied,
        layers=planned,
    )
    _check_parameters(plan, max_parameters)
    warnings = [*_input_warnings(layers, entry), *_short_sequence(entry, input), *head.warnings]
    return Planned(plan, warnings)


def _entry_signal(layers: Sequence[LayerSpec], rows: InputSpec) -> Signal:
    if rows.flat_width == 0:
        raise InvalidDataset(
            "the data has no feature column",
            hint="Give at least one numeric column besides the target",
        )
    if is_sequence_network(layers):
        steps, width = rows.sequence_shape
        return Signal(is_sequence=True, steps=steps, width=width)
    return Signal(is_sequence=False, steps=None, width=rows.flat_width)


def _implied_head(n_outputs: int) -> LayerSpec:
    args: dict[str, JsonValue] = {"units": n_outputs, "activation": "linear", "use_bias": True}
    return LayerSpec(index=_IMPLIED, kind=LAYER_TYPES["dense"], args=args)


_IMPLIED: Final = -1
"""Index of the implied head during planning; in the plan it is None."""


def _plan_layers(layers: list[LayerSpec], signals: list[Signal]) -> tuple[PlannedLayer, ...]:
    """Layers with shapes and tensors; `signals[i]` is the input of layer i."""
    final_stack = _final_stack(layers)
    cut = final_stack if signals[final_stack].is_sequence else None
    planned = []
    for position, layer in enumerate(layers):
        before, after = signals[position], signals[position + 1]
        _check_row_size(layer, after)
        reduced = cut is not None and position >= cut
        width = before.shape[-1]
        attends = layer.kind.sequence_use is SequenceUse.ATTENDS
        planned.append(
            PlannedLayer(
                index=None if layer.index == _IMPLIED else layer.index,
                type=layer.type,
                args=layer.kind.planned_args(layer, width),
                in_shape=before.shape[-1:] if reduced and position != cut else before.shape,
                out_shape=after.shape[-1:] if reduced else after.shape,
                take_last_step=position == cut,
                # Everything after the cut sees the last step only, so the layer before needs no other query.
                last_query_only=attends and position + 1 == cut,
                tensors=layer.named_tensors(width, _prefix(layer)),
            )
        )
    return tuple(planned)


def _final_stack(layers: list[LayerSpec]) -> int:
    """Index at which the final run of pointwise layers starts.

    Taking the last step before this run gives the same result as taking it after, for 1/steps of the work.
    """
    start = len(layers)
    while start > 0 and layers[start - 1].kind.sequence_use is SequenceUse.POINTWISE:
        start -= 1
    return start


def _prefix(layer: LayerSpec) -> str:
    return "head" if layer.index == _IMPLIED else f"layers.{layer.index}"


def _check_row_size(layer: LayerSpec, after: Signal) -> None:
    values = prod(after.shape)
    if values > MAX_VALUES_PER_ROW:
        raise LimitExceeded(
            f"{layer.where} gives {values:,} values per row; the limit is {MAX_VALUES_PER_ROW:,}",
            hint="Use fewer steps or features, or a pooling layer before it",
        )


def _check_parameters(plan: NetworkPlan, limit: int) -> None:
    total = sum(tensor.size for tensor in plan.tensors)
    if total > limit:
        largest = max(plan.layers, key=lambda layer: _count(layer.tensors))
        name = "the implied head" if largest.index is None else f"layers[{largest.index}]"
        raise LimitExceeded(
            f"network has {total:,} parameters; the limit is {limit:,}",
            hint=f"The largest layer is {name} {largest.type} with {_count(largest.tensors):,};"
            " make it smaller, or start the server with a higher --max-parameters",
            details={"parameters": total, "limit": limit},
        )
    if plan.n_params == 0:
        raise InvalidArchitecture(
            "layers have nothing to train: every layer is frozen or has no parameters",
            hint="Leave out trainable: false on at least one layer with parameters",
        )


def _count(tensors: Sequence[TensorSpec]) -> int:
    return sum(tensor.size for tensor in tensors)


def _check_input_layers(layers: Sequence[LayerSpec]) -> None:
    for position, layer in enumerate(layers):
        if not layer.kind.is_computed and position > 0:
            raise InvalidArchitecture(
                f"{layer.where} must come first",
                hint="Leave it out: the input shape comes from the data",
            )


def _input_warnings(layers: Sequence[LayerSpec], entry: Signal) -> list[str]:
    declared = layers[0].args["shape"] if layers and layers[0].type == "input" else None
    if not isinstance(declared, list):
        return []
    agrees = len(declared) == len(entry.shape) and all(
        size in (None, known) for size, known in zip(declared, entry.shape, strict=True)
    )
    if agrees:
        return []
    return [
        f"{layers[0].where} shape {declared} is not that of the data; {list(entry.shape)} is used"
    ]


def _short_sequence(entry: Signal, rows: InputSpec) -> list[str]:
    if not entry.is_sequence or entry.steps != 1 or rows.window is not None:
        return []
    sentence = (
        "the network reads sequences but each row of the data is one step;"
        " give 'window' to neural_train_distributed, or a vector column"
    )
    return [sentence]
