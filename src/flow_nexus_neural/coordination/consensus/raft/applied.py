"""The replicated state machine: which version of the model the log has come to.

The engine asks for one version at a time and serves it once its record is committed. A record that was
committed while nobody waited any more, because the engine had given up or was gone, was never served: the
next one with the same parent takes its place. So the log never has two versions that were served beside each
other.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter

from flow_nexus_neural.protocol.arrays import Count
from flow_nexus_neural.protocol.digest import canonical_json, json_digest
from flow_nexus_neural.protocol.raft_records import LogEntry

Verdict = Literal["applied", "repeated", "refused"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What the log has come to.

    Attributes:
        index: Last entry that was applied.
        version: Version of the model; 0 before the first.
        parent: The version that it followed.
        digest: Of the last record that was applied.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    index: Count = 0
    version: Count = 0
    parent: Count = 0
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""

    def to_text(self) -> str:
        """For a snapshot."""
        return canonical_json(dict(asdict(self))).decode()

    @classmethod
    def of_text(cls, text: str, index: int) -> "Applied":
        """From the snapshot of a log up to an entry; that of a new log is empty.

        Raises:
            ValueError: The text is none that `to_text` made.
        """
        return replace(_STATE.validate_json(text), index=index) if text else cls(index=index)


_STATE = TypeAdapter(Applied)


def record(version: int, parent: int, entries: JsonValue) -> str:
    """The body of a record: a version, the one that it follows, and what the ledger will say of it.

    A record whose version is its own parent changes how a version answers, not its weights.
    """
    body: dict[str, JsonValue] = {"version": version, "parent": parent, "entries": entries}
    return canonical_json(body).decode()


def body_digest(body: str) -> str:
    """By which a record is known again."""
    return json_digest(body)


def apply(applied: Applied, entry: LogEntry) -> tuple[Applied, Verdict]:
    """Apply a committed entry.

    Only a record changes the version. It is refused where its parent is not the present version, nor the one
    that the present version followed: such a record is late.
    """
    moved = replace(applied, index=entry.index)
    if entry.kind != "record":
        return moved, "applied"
    digest = body_digest(entry.body)
    if digest == applied.digest:
        return moved, "repeated"
    body = json.loads(entry.body)
    version, parent = int(body["version"]), int(body["parent"])
    follows = parent == applied.version
    replaces = version == applied.version and parent == applied.parent
    begins = not applied.digest  # a cluster whose versions were made before it had voters
    if not (follows or replaces or begins):
        return moved, "refused"
    kept_parent = applied.parent if version == parent == applied.version else parent
    return Applied(entry.index, version, kept_parent, digest), "applied"
