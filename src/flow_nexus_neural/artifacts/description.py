"""A model as plain values, for programs that compute its answers without this project."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.artifacts.model import SEPARATOR, ExportedModel, ExportedNetwork
from flow_nexus_neural.artifacts.privacy import KEY, as_json
from flow_nexus_neural.artifacts.standalone.answering import answers

Tensors = dict[str, NDArray[Any]]


def described(model: ExportedModel) -> dict[str, Any]:
    """Everything but the weights that `artifacts.standalone` needs to answer, and how private they are."""
    schema, calibrator = model.schema, model.calibrator
    return {
        "task": schema.task,
        "classes": None if schema.classes is None else list(schema.classes),
        "columns": [
            {
                "name": column.name,
                "kind": column.kind,
                "mean": list(column.mean),
                "sd": list(column.sd),
                "medians": column.medians,
                "pooled": None if column.pooled is None else list(column.pooled),
                "levels": None if column.levels is None else list(column.levels),
            }
            for column in schema.columns
        ],
        "row_shape": list(schema.input.row_shape),
        "target_mean": schema.target_mean,
        "target_sd": schema.target_sd,
        "networks": {key: _network(network) for key, network in model.networks.items()},
        "slots": list(model.slots.values()),
        "class_weight": list(model.rule.class_weight),
        "threshold": model.rule.threshold,
        "calibrator": None if calibrator is None else [calibrator.scale, calibrator.offset],
        "liars": model.liars,
        KEY: as_json(model),
    }


def _network(network: ExportedNetwork) -> dict[str, Any]:
    plan = network.plan
    return {
        "view": plan.view,
        "vector_length": plan.input.vector_length,
        "layers": [
            {
                "type": layer.type,
                "args": layer.args,
                "take_last_step": layer.take_last_step,
                "last_query_only": layer.last_query_only,
                "tensors": {
                    part_of(tensor.name): f"{network.key}{SEPARATOR}{tensor.name}"
                    for tensor in layer.tensors
                },
            }
            for layer in plan.layers
        ],
    }


def part_of(tensor: str) -> str:
    """A tensor's name within its layer: `kernel` of `layers.3.kernel`, and of `head.kernel`."""
    return tensor.split(".", 1 if tensor.startswith("head.") else 2)[-1]


def answer(
    model: ExportedModel,
    tensors: Tensors,
    rows: NDArray[np.float64],
    symbols: tuple[str | None, ...],
) -> NDArray[np.float64]:
    """[n, classes] probabilities, or [n, 1] values, by `artifacts.standalone` with these tensors."""
    wide = {name: np.asarray(tensor, dtype=np.float64) for name, tensor in tensors.items()}
    return answers(described(model), wide, rows, list(symbols))
