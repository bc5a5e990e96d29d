"""The output layer of a network: finds the layer that outputs the logits, or decides to append one."""

from dataclasses import dataclass, replace
from typing import Final

from flow_nexus_neural.networks.layer_type import LayerSpec, Signal
from flow_nexus_neural.protocol.plan import Task

_IN_LOSS: Final[dict[Task, str]] = {
    "binary": "sigmoid",
    "multiclass": "softmax",
    "regression": "sigmoid",
}
"""The final activation that a task accepts besides linear; the plan replaces it by linear."""

_OUTPUT_ACTIVATIONS: Final = frozenset({"sigmoid", "softmax"})


@dataclass(frozen=True)
class NetworkEnd:
    """The end of a network.

    Attributes:
        layers: The list; its last layer is made linear if it outputs the logits.
        implied: Whether dense(n_outputs, linear) must be appended.
    """

    layers: tuple[LayerSpec, ...]
    implied: bool
    warnings: tuple[str, ...] = ()


def find_head(layers: tuple[LayerSpec, ...], end: Signal, task: Task, n_outputs: int) -> NetworkEnd:
    """Decide whether the last layer outputs the logits of the task.

    It does if its type can (dense, activation), its width is right and its activation is linear or the one
    in the task's loss: sigmoid for binary, softmax for multiclass. The loss takes logits, so the plan drops
    that activation. The output of a regression is not bounded: a final sigmoid becomes linear, with a
    warning.

    Args:
        layers: Parsed layers; an `input` layer is ignored.
        end: The shape after the last layer.
        task: The learning task.
        n_outputs: Width that the task needs.
    """
    last = next((layer for layer in reversed(layers) if layer.kind.is_computed), None)
    if last is None or not last.kind.can_give_logits:
        return NetworkEnd(layers, implied=True)
    activation = last.args["activation"]
    if end.width != n_outputs or activation not in {"linear", _IN_LOSS[task]}:
        return NetworkEnd(
            layers, implied=True, warnings=_meant_as_output(last, end, task, n_outputs)
        )
    logits = replace(last, args={**last.args, "activation": "linear"})
    warnings: tuple[str, ...] = ()
    if task == "regression" and activation == "sigmoid":
        warnings = (f"{last.where} activation sigmoid became linear: the target is a number",)
    return NetworkEnd(
        tuple(logits if layer is last else layer for layer in layers),
        implied=False,
        warnings=warnings,
    )


def _meant_as_output(last: LayerSpec, end: Signal, task: Task, n_outputs: int) -> tuple[str, ...]:
    """A warning if the last layer looks like an output layer for another task."""
    if last.args["activation"] not in _OUTPUT_ACTIVATIONS:
        return ()
    sentence = (
        f"{last.where} ({last.args['activation']}, width {end.width}) does not fit a {task} target;"
        f" an output layer of width {n_outputs} follows it"
    )
    return (sentence,)
