"""What all stored shapes share: the format number, and how a part becomes JSON."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

FORMAT = 3

Part = Literal["cluster", "state", "slot", "training", "progress", "round"]
Json = Mapping[str, JsonValue]
Label = str | int | float | bool

LOST = "restore the state directory from a copy, or create the cluster again"


class Stored(BaseModel):
    """Base of all shapes: frozen, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredPart(Stored):
    """A shape that is a whole open part of a row, with a format number."""

    part: ClassVar[Part]

    def to_json(self) -> dict[str, JsonValue]:
        """The part as it is stored, in the present format."""
        return {"format": FORMAT, **self.model_dump(mode="json")}
