"""Describes what a model was trained on: how to read records for it, and what the data were."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from flow_nexus_neural.data.normalise import ColumnSpec, RowScaler
from flow_nexus_neural.protocol.digest import json_digest
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.vocabulary import Label, Task


@dataclass(frozen=True)
class Description:
    """A data set as it was read. The fields are those of the engine's report on a data set."""

    name: str
    kind: str
    source: str
    rows: int
    columns: list[str]
    target: str
    task: Task
    classes: list[Label] | None
    split: dict[str, int]
    synthetic: bool
    sha256: str
    symbols: list[str]
    excluded_columns: list[dict[str, str]]


@dataclass(frozen=True)
class Adapted:
    """Records as network input, and a report of how they were read.

    Attributes:
        x: [records, *row_shape] float32, scaled; missing values are 0.
        is_list: Whether the input was a list, so that the reply has a list of predictions.
        symbols: Symbol of every record, in the schema's spelling where it is known.
        coverage: [records] float64, share of the inputs that were given.
        familiar: [records] float64, share of the inputs that were given and lie within 6 standard deviations
            of the training rows.
        mode: How the input was read: `single`, `batch` or `window`.
        mapped: Schema columns that some record gave.
        imputed: Schema columns, or steps of a vector, that some record lacked.
        ignored: Names that were not used, each with `name` and `reason`.
        ood: Columns with a value beyond 6 standard deviations, or one that their scaling cannot use.
        clipped: Number of clipped values.
        warnings: For the caller.
        outcomes: By record what it says of its own outcome, under names as they were given. Never input.
    """

    x: NDArray[np.float32]
    is_list: bool
    symbols: list[str | None]
    coverage: NDArray[np.float64]
    familiar: NDArray[np.float64]
    mode: str
    mapped: list[str]
    imputed: list[str]
    ignored: list[dict[str, str]]
    ood: list[str]
    clipped: int
    warnings: list[str]
    outcomes: Mapping[int, Mapping[str, object]] = field(default_factory=dict)


class DataSchema(BaseModel):
    """Input, output and scaling of a trained model. Immutable; equal schemas have equal digests.

    Attributes:
        input: Shape of a stored row.
        task: What is predicted.
        classes: Labels by class index; None for regression.
        columns: Feature columns in stored order: the vector column first.
        target: Name of the target for reports.
        target_name: Column of the label; None when it is the return of a price.
        target_mean: Training mean of a regression target; 0 otherwise.
        target_sd: Training standard deviation of a regression target; 1 otherwise.
        symbols: Known symbols.
        time_ordered: Rows came in time order.
        target_is_return: Whether the target is a return, so that its sign is a direction.
        horizon: Rows that a label looks ahead.
        outcome_names: Columns of the source that are outcomes and are ignored in records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: InputSpec
    task: Task
    classes: list[Label] | None
    columns: tuple[ColumnSpec, ...] = Field(min_length=1)
    target: str
    target_name: str | None
    target_mean: float
    target_sd: float = Field(gt=0)
    symbols: tuple[str, ...]
    time_ordered: bool
    target_is_return: bool
    horizon: int = Field(ge=0)
    outcome_names: tuple[str, ...]

    @property
    def n_outputs(self) -> int:
        """Width of the network's output: classes, or 1."""
        return len(self.classes) if self.task == "multiclass" and self.classes else 1

    @cached_property
    def scaler(self) -> RowScaler:
        """Scales raw rows in stored order."""
        return RowScaler(self.columns)

    @cached_property
    def digest(self) -> str:
        """sha256 of the canonical JSON."""
        return json_digest(self.to_json())

    def to_json(self) -> dict[str, JsonValue]:
        """JSON from which `from_json` makes an equal schema."""
        result: dict[str, JsonValue] = self.model_dump(mode="json")
        # Schemas of earlier versions had no such field, and their digests are on disk.
        plain = {"decimal": None}
        columns = self.model_dump(mode="json")["columns"]
        result["columns"] = [
            {key: value for key, value in column.items() if (key, value) not in plain.items()}
            for column in columns
        ]
        return result

    @classmethod
    def from_json(cls, value: JsonValue) -> Self:
        """Read what `to_json` wrote.

        Raises:
            pydantic.ValidationError: If the value is no schema.
        """
        return cls.model_validate(value)
