"""Requests that `protocol.dispatch` answers: memory granted and revoked, another node hosted, the end."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from flow_nexus_neural.protocol.arrays import (
    ArrayLayout,
    Count,
    rows_of,
    specs_of,
)
from flow_nexus_neural.protocol.contract import AnsweredBy, NodeRecord
from flow_nexus_neural.protocol.messages.replies import (
    Done,
)
from flow_nexus_neural.protocol.messages.values import Seed
from flow_nexus_neural.protocol.plan import Name


class Shutdown(AnsweredBy[Done]):
    """Reply `Done`, then exit with status 0."""

    kind: Literal["shutdown"] = "shutdown"


class Host(AnsweredBy[Done]):
    """Serve one more node in this process, on the socket that comes with the frame as a descriptor.

    Only a process that was started to host several nodes does so. The other node says `Ready` on its socket.
    """

    kind: Literal["host"] = "host"
    node_id: Name
    incarnation: Count
    seed: Seed


class Grant(AnsweredBy[Done]):
    """Give the node access to a region: by a descriptor sent with the frame, or with the arrays as its body.

    Attributes:
        key: Name by which later requests refer to the region; replaces a region of that key.
        writable: True only for the node's own publish and link buffers.
    """

    kind: Literal["grant"] = "grant"
    key: Name
    writable: bool
    nbytes: Count
    arrays: Annotated[tuple[ArrayLayout, ...], Field(max_length=64)]

    @override
    def note_sent(self, node: NodeRecord, *, arrays_in_frame: bool) -> None:
        node.forget_region(self.key)
        node.rows[self.key] = rows_of({layout.name: layout.shape for layout in self.arrays})
        if arrays_in_frame and self.writable:
            node.carried[self.key] = specs_of(self.arrays)


class Revoke(AnsweredBy[Done]):
    """Drop these regions."""

    kind: Literal["revoke"] = "revoke"
    keys: Annotated[tuple[Name, ...], Field(max_length=256)]

    @override
    def note_sent(self, node: NodeRecord, *, arrays_in_frame: bool) -> None:
        for key in self.keys:
            node.forget_region(key)
