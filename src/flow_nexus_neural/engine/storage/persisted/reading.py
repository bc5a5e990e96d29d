"""Reading a stored part: upgraded to the present format, then checked against its shape."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from flow_nexus_neural.engine.storage.persisted.base import FORMAT, LOST, Json, Part, StoredPart
from flow_nexus_neural.errors import StoreCorrupt

S = TypeVar("S", bound=StoredPart)
M = TypeVar("M", bound=BaseModel)


def read(shape: type[S], stored: Json) -> S:
    """A stored part in the present format, whatever format it was written in.

    Raises:
        StoreCorrupt: It was written by a newer version, or cannot be understood.
    """
    try:
        return shape.model_validate(upgraded(shape.part, stored))
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreCorrupt(
            f"its {shape.part} cannot be read: {where}: {first['msg']}", hint=LOST
        ) from failure


def demands_digests(stored: Json) -> bool:
    """Whether a part is of a format whose rows the ledger names; one whose format cannot be told is."""
    number = stored.get("format", 1)
    return not isinstance(number, int) or number >= 3


def report(kind: type[M], values: Mapping[str, Any]) -> M:
    """A report of the engine from stored values: unknown ones are left out, missing ones are None.

    Raises:
        StoreCorrupt: A value that the report cannot do without is missing, or one has no meaning to it.
    """
    return understood(kind, kind.__name__, {name: values.get(name) for name in kind.model_fields})


def understood(kind: type[M], name: str, values: Mapping[str, Any]) -> M:
    """A model of another package from stored values.

    Raises:
        StoreCorrupt: The values do not fit it.
    """
    try:
        return kind.model_validate_json(json.dumps(values))
    except ValueError as failure:  # pydantic's errors are ValueErrors
        why = str(failure).replace("\n", " ")
        raise StoreCorrupt(f"its {name} cannot be read: {why:.300}", hint=LOST) from failure


def upgraded(part: Part, stored: Json) -> dict[str, Any]:
    """The content of a stored part after every step from its format to the present one.

    Raises:
        StoreCorrupt: Its format is unknown here.
    """
    content: dict[str, Any] = dict(stored)
    number = content.pop("format", 1)
    if not isinstance(number, int) or number < 1:
        raise StoreCorrupt(f"its {part} has the format {number!r}, which does not exist", hint=LOST)
    if number > FORMAT:
        raise StoreCorrupt(
            f"its {part} was written in format {number}; this version reads up to {FORMAT}",
            hint="use the newer version that wrote it, or another --state-dir",
        )
    for step in range(number, FORMAT):
        content = _UPGRADES[step](part, content)
    return content


def _from_1(part: Part, content: dict[str, Any]) -> dict[str, Any]:
    """Format 1 to 2: names of their own; a training's row was its configuration and nothing else."""
    if part == "training":
        return {"config": content}
    if part == "state":
        content["networks_made"] = content.pop("cohorts_made", 0)
        version = content.get("committed")
        if isinstance(version, dict):
            version = dict(version)
            version["networks"] = version.pop("cohorts", None)
            version["data_schema"] = version.pop("schema", None)
            content["committed"] = version
    return content


def _from_2(_part: Part, content: dict[str, Any]) -> dict[str, Any]:
    """Format 2 to 3: the parts are the same; what is new stands in the ledger."""
    return content


_UPGRADES: dict[int, Callable[[Part, dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}
"""From the format in the key to the next one."""
