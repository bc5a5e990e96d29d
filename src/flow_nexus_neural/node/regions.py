"""Granted memory regions, and the checks of their arrays before use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from flow_nexus_neural.node.trainer import Shard
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import NetworkPlan
from flow_nexus_neural.vocabulary import Optimizer


@dataclass(frozen=True, slots=True)
class Region:
    """Arrays under one key.

    Attributes:
        writable: Whether it was granted for writing.
    """

    key: str
    arrays: Mapping[str, NDArray[Any]]
    writable: bool = False

    def array(self, name: str, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """Return the array `name` if it has exactly this dtype and shape; None stands for any length.

        Raises:
            ValueError: If it is missing, or has another dtype or shape.
        """
        found = self.arrays.get(name)
        if found is None:
            raise ValueError(f"{self.key!r} has no array {name!r}; it has {sorted(self.arrays)}")
        fits = len(found.shape) == len(shape) and all(
            wanted is None or wanted == length
            for wanted, length in zip(shape, found.shape, strict=True)
        )
        if found.dtype != np.dtype(dtype) or not fits:
            wanted_shape = ", ".join("any" if length is None else str(length) for length in shape)
            raise ValueError(
                f"array {name!r} of {self.key!r} is {found.dtype} {found.shape},"
                f" needed is {np.dtype(dtype)} ({wanted_shape})"
            )
        return found


def rows_of(region: Region, plan: NetworkPlan) -> NDArray[Any]:
    """Return the array `x` [rows, *row_shape] float32.

    Raises:
        ValueError: If it is missing or does not fit the plan.
    """
    return region.array("x", np.float32, (None, *plan.input.row_shape))


def shard_of(region: Region, plan: NetworkPlan, *, taught: bool = False) -> Shard:
    """Return the arrays `x` and `y`, rows with targets.

    Args:
        region: Granted.
        plan: Of the network.
        taught: Whether there must be the array `teacher`, outputs to learn from beside the targets.

    Raises:
        ValueError: If one is missing, does not fit the plan, or holds targets the task does not have.
    """
    x = rows_of(region, plan)
    if len(x) == 0:
        raise ValueError(f"{region.key!r} has no rows")
    y = region.array("y", np.int64 if plan.task == "multiclass" else np.float32, (len(x),))
    # torch's losses would accept class -100 as "ignore" and any number as a binary target.
    highest = {"binary": 1, "multiclass": plan.n_outputs - 1, "regression": None}[plan.task]
    if highest is not None and not (y.min() >= 0 and y.max() <= highest):
        raise ValueError(f"targets of {region.key!r} leave the range 0 to {highest} of {plan.task}")
    teacher = region.array("teacher", np.float32, (len(x), plan.n_outputs)) if taught else None
    if teacher is not None and not np.isfinite(teacher).all():
        raise ValueError(f"the teacher's outputs of {region.key!r} are not finite")
    return Shard(x, y, teacher)


def state_of(
    region: Region, plan: NetworkPlan, optimizer: Optimizer | None = None
) -> dict[str, NDArray[Any]]:
    """Return the vectors `params` and `buffers`, and the moments of `optimizer`.

    Raises:
        ValueError: If one is missing or is not exactly as long as the plan says.
    """
    moments = () if optimizer is None else MOMENTS[optimizer]
    lengths = {"params": plan.n_params, "buffers": plan.n_buffers} | dict.fromkeys(
        moments, plan.n_params
    )
    return {name: region.array(name, np.float32, (size,)) for name, size in lengths.items()}


def words_of(region: Region, n: int) -> NDArray[np.uint32]:
    """Return the memory of `params` [n] float32 of a writable region, for words of 4 bytes.

    Raises:
        ValueError: If the region was granted for reading only, or has no such array.
    """
    params = region.array("params", np.float32, (n,))
    if not region.writable or not params.flags.writeable:
        raise ValueError(f"{region.key!r} was not granted for writing")
    return params.view(np.uint32)


def publish_to(region: Region, plan: NetworkPlan, optimizer: Optimizer) -> dict[str, NDArray[Any]]:
    """Return the vectors of a writable region, to be overwritten with a trained state.

    Raises:
        ValueError: If the region was granted for reading only, or as in `state_of`.
    """
    state = state_of(region, plan, optimizer)
    if not region.writable or not all(array.flags.writeable for array in state.values()):
        raise ValueError(f"{region.key!r} was not granted for writing")
    return state


def correction_of(region: Region, plan: NetworkPlan) -> NDArray[Any]:
    """Return the vector `correction` [n_params] float32, which is added to every gradient.

    Raises:
        ValueError: If it is missing or is not exactly as long as the plan says.
    """
    return region.array("correction", np.float32, (plan.n_params,))
