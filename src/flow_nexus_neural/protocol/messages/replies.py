"""What a node answers to requests of its own work; replies of other kinds of request stand beside those."""

from typing import Annotated, Literal

from pydantic import Field

from flow_nexus_neural.protocol.arrays import (
    Count,
)
from flow_nexus_neural.protocol.messages.commitments import Commitment
from flow_nexus_neural.protocol.messages.values import (
    MAX_CPU_S,
    MAX_LOSS,
    MAX_ROUNDING,
    Digest,
)
from flow_nexus_neural.protocol.plan import Frozen, Name


class Ready(Frozen):
    """The node is confined and accepts requests. Reply to the start, with call id 0.

    Attributes:
        steps: Result of each confinement step.
        probes: Result of each attempt at a forbidden operation.
    """

    kind: Literal["ready"] = "ready"
    node_id: Name
    incarnation: Count
    runtime: Annotated[str, Field(max_length=200)]
    steps: dict[Name, Annotated[str | int | bool | None, Field(union_mode="left_to_right")]]
    probes: dict[Name, Annotated[str, Field(max_length=48)]]


class Pong(Frozen):
    """The node is alive.

    `busy` names the running long request; `steps_done` counts optimiser steps since the node's start.
    """

    kind: Literal["pong"] = "pong"
    busy: Annotated[str, Field(max_length=48)] | None
    steps_done: Count
    longest_step_ms: Annotated[float, Field(ge=0)]


class Done(Frozen):
    """Success without a result (Cancel, Shutdown, Grant, Revoke, Announce)."""

    kind: Literal["done"] = "done"


class Built(Frozen):
    """The network was built; `digest` is that of its initial weights."""

    kind: Literal["built"] = "built"
    n_params: Count
    n_buffers: Count
    digest: Digest


class Weights(Frozen):
    """Carries the arrays `params` and `buffers`."""

    kind: Literal["weights"] = "weights"
    digest: Digest


class Loaded(Frozen):
    """The weights were loaded; `digest` is that of the serving copy."""

    kind: Literal["loaded"] = "loaded"
    digest: Digest


class Trained(Frozen):
    """The publish buffer holds the new state.

    Attributes:
        digest: Digest of the new `params` and `buffers`.
        loss: Mean training loss over the rows seen, each times its class weight; None when it was not finite.
        steps: Optimiser steps done in this request.
        cpu_s: CPU seconds they took.
        commitment: Present exactly if the request ordered a proof.
        stacked: Clients that were trained in one stack with this one, itself included; None when it was
            trained by itself.
    """

    kind: Literal["trained"] = "trained"
    digest: Digest
    loss: Annotated[float, Field(ge=-MAX_ROUNDING, le=MAX_LOSS)] | None
    steps: Count
    opt_step: Count
    cpu_s: Annotated[float, Field(ge=0, le=MAX_CPU_S)]
    commitment: Commitment | None = None
    stacked: Annotated[int, Field(ge=2, le=1024)] | None = None


class Outputs(Frozen):
    """Carries the array `y` [rows, n_outputs] f4: logits, or standardised values for regression.

    `digest` is that of the serving copy that answered a Predict; None for Infer, whose request names the
    weights.
    """

    kind: Literal["outputs"] = "outputs"
    digest: Digest | None


class Failed(Frozen):
    """The operation failed; the node goes on.

    `type` is the exception's class, or `busy`, `cancelled`, `fenced` (wrong incarnation) or `unreadable`.
    """

    kind: Literal["failed"] = "failed"
    type: Annotated[str, Field(max_length=80)]
    message: Annotated[str, Field(max_length=2000)]
