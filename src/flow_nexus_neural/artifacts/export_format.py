"""The interface of an export format: what it writes, and how what was written is computed again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.artifacts.model import Examples, ExportedModel
from flow_nexus_neural.data.example import positions_in_order
from flow_nexus_neural.vocabulary import ExportFormat as ExportFormatName

Files = Mapping[str, bytes]
"""Content by file name."""


@dataclass(frozen=True)
class Rendered:
    """A model in one format.

    Attributes:
        files: What is written. A format of one file has one entry, whose name does not matter.
        not_included: What of the cluster's answers the format cannot express, a sentence each.
        inputs: What a user gives to the exported model.
        outputs: What it gives back.
        warnings: For the caller.
    """

    files: Files
    not_included: tuple[str, ...]
    inputs: str
    outputs: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recomputed:
    """What an export answers to examples.

    Attributes:
        answers: As `expected`, computed from the written bytes; None where nothing here can run them.
        expected: What the nodes answered, in the same unit.
        by: What computed them, or why nothing could.
        of_logits: Whether both are outputs of networks and not answers.
    """

    answers: NDArray[np.float64] | None
    expected: NDArray[np.float64]
    by: str
    of_logits: bool = False

    @classmethod
    def logits(
        cls, found: NDArray[np.float64], expected: NDArray[np.float64], by: str
    ) -> "Recomputed":
        """Outputs of networks, which have no bound: relative to the nodes', where these are above 1."""
        unit = np.maximum(1.0, np.abs(expected))
        return cls(found / unit, expected / unit, by, of_logits=True)

    @classmethod
    def networks(
        cls, found: Mapping[str, NDArray[Any]], examples: Examples, by: str
    ) -> "Recomputed":
        """Logits [n, n_outputs] by key of the network, beside those of the nodes."""
        wide = [logits.astype(np.float64).ravel() for logits in found.values()]
        expected = [examples.logits[key].ravel() for key in found]
        return cls.logits(np.concatenate(wide), np.concatenate(expected), by)


class ExportFormat(Protocol):
    """One format; its module is imported only when it is used.

    Attributes:
        name: As callers write it.
        suffix: Of the file, with its dot; None where a folder is written.
        tolerance: How far answers of the export may be from those of the nodes: in probabilities, or in
            standard deviations of a regression's target.
        begins: How its files begin, so that nothing else is overwritten; None where a folder is written, of
            which the manifest tells that.
    """

    name: ClassVar[ExportFormatName]
    suffix: ClassVar[str | None]
    tolerance: ClassVar[float]
    begins: ClassVar[Pattern[bytes] | None]

    def render(self, model: ExportedModel) -> Rendered:
        """Make the files. Blocking, without any I/O.

        Raises:
            NotAvailable: The format cannot express the model, or an optional library is missing.
        """
        ...

    def recompute(self, model: ExportedModel, files: Files, examples: Examples) -> Recomputed:
        """Answer examples by what was written and read back. Blocking.

        Raises:
            StoreCorrupt: What was read back is not what was made.
        """
        ...


def first(files: Files) -> bytes:
    """The content of a format that writes one file."""
    return next(iter(files.values()))


def answering(rows: str, model: ExportedModel) -> dict[str, Any]:
    """The words for inputs and outputs that formats share."""
    classes = model.schema.classes
    shape = ["n", *model.schema.input.row_shape]
    places = positions_in_order(model.schema)
    named = ", ".join(places[:32])
    more = len(places) - 32
    listed = named + (f" and {more} more" if more > 0 else "")
    kind = "value" if classes is None else f"probability per class of {classes}"
    return {"inputs": f"{rows} {shape}: {listed}", "outputs": kind}


OTHER_AGGREGATIONS = (
    "the answer is that of aggregation mean: weighted, majority and ensemble are not part of it"
)
RECORDS = (
    "records are not read by other spellings of column names; rows are numbers in stored order"
)
NO_SETS = "prediction sets and intervals, which follow recorded outcomes, are not part of it"


def left_out(model: ExportedModel) -> tuple[str, ...]:
    """What no export that only answers includes, as far as this model has it."""
    roles: Callable[[str], bool] = lambda purpose: any(  # noqa: E731
        slot.startswith(purpose) for slot in model.roles
    )
    told = [OTHER_AGGREGATIONS, RECORDS]
    bundle = model.stored.get("bundle")
    if isinstance(bundle, dict):
        told += [NO_SETS] if bundle.get("conformal") else []
        told += (
            ["nodes that count twice for records of their symbols do so in weighted only"]
            if bundle.get("experts")
            else []
        )
    told += ["networks of aggregators, which answer ensemble"] if roles("aggregator") else []
    told += (
        ["networks of validators, which say how sure an answer is"] if roles("validator") else []
    )
    told += (
        ["networks of parameter servers, which answer where workers do not"]
        if roles("parameter_server")
        else []
    )
    return tuple(told)
