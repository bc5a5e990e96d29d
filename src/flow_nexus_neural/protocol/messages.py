"""All requests of the engine to a node and all replies of a node. No other message is accepted.

A node only sends replies (its `Ready` is the reply to its start). Arrays travel in the frame's body and are
described by `arrays.ArrayLayout`; regions travel as descriptors with a `Grant`.

Replies come first, then requests, because every request names the class of its reply. `protocol.contract`
explains what else a request declares. To add a request: its class here, its name in `ServiceRequest`, and its
case in `node.service`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field
from typing_extensions import override

from flow_nexus_neural.protocol.arrays import (
    ArrayLayout,
    ArraySpecs,
    Count,
    DType,
    Shapes,
    rows_of,
    specs_of,
)
from flow_nexus_neural.protocol.contract import AnsweredBy, NodeRecord
from flow_nexus_neural.protocol.plan import Frozen, Name, NetworkPlan
from flow_nexus_neural.vocabulary import CLASS_WEIGHT, SEED_LIMIT, Bounds, Optimizer

MAX_LOSS = 3.5e38
"""Above the largest float32: the mean of float32 losses cannot exceed it."""
MAX_ROUNDING = 1e-3
"""Every training loss is >= 0, except for rounding errors of this size."""
MAX_CPU_S = 1e9
NODE_LEARNING_RATE = Bounds(1e-7, 10)
NODE_BATCH_SIZE = Bounds(1, 4096)
"""Limits of a node, wider than those of a caller: a schedule may go beyond the caller's limits."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
ClassWeight = Annotated[float, Field(ge=CLASS_WEIGHT.low, le=CLASS_WEIGHT.high)]

LINK_LAYOUT: tuple[tuple[str, DType, tuple[int, ...]], ...] = (("token", "i8", (1,)),)
"""Arrays of a link buffer, which one node writes and its neighbours read: (name, dtype, shape)."""


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
    """

    kind: Literal["trained"] = "trained"
    digest: Digest
    loss: Annotated[float, Field(ge=-MAX_ROUNDING, le=MAX_LOSS)] | None
    steps: Count
    opt_step: Count
    cpu_s: Annotated[float, Field(ge=0, le=MAX_CPU_S)]


class Outputs(Frozen):
    """Carries the array `y` [rows, n_outputs] f4: logits, or standardised values for regression.

    `digest` is that of the serving copy that answered a Predict; None for Infer, whose request names the
    weights.
    """

    kind: Literal["outputs"] = "outputs"
    digest: Digest | None


class Sight(Frozen):
    """The token read from one neighbour's link buffer.

    Attributes:
        token: The last value read; any value is possible, since another node wrote it.
        read_ms: Median time of one read.
    """

    token: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    read_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Observed(Frozen):
    """One `Sight` per requested key, in that order; None if the node holds no such region."""

    kind: Literal["observed"] = "observed"
    sights: Annotated[tuple[Sight | None, ...], Field(max_length=256)]


class Failed(Frozen):
    """The operation failed; the node goes on.

    `type` is the exception's class, or `busy`, `cancelled`, `fenced` (wrong incarnation) or `unreadable`.
    """

    kind: Literal["failed"] = "failed"
    type: Annotated[str, Field(max_length=80)]
    message: Annotated[str, Field(max_length=2000)]


Reply = Annotated[
    Ready | Pong | Done | Built | Weights | Loaded | Trained | Outputs | Observed | Failed,
    Field(discriminator="kind"),
]


class Ping(AnsweredBy[Pong]):
    """Ask for signs of life and progress."""

    kind: Literal["ping"] = "ping"


class Cancel(AnsweredBy[Done]):
    """End the running long request at its next step; its reply is then `Failed` with type `cancelled`."""

    kind: Literal["cancel"] = "cancel"


class Shutdown(AnsweredBy[Done]):
    """Reply `Done`, then exit with status 0."""

    kind: Literal["shutdown"] = "shutdown"


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


class Build(AnsweredBy[Built]):
    """Build the network `network` from a plan, with weights drawn from `seed`.

    Replaces a network of that name.
    """

    is_long: ClassVar[bool] = True

    kind: Literal["build"] = "build"
    network: Name
    plan: NetworkPlan
    seed: Seed

    @override
    def fault_of(self, reply: Built) -> str | None:
        built, planned = (
            (reply.n_params, reply.n_buffers),
            (self.plan.n_params, self.plan.n_buffers),
        )
        return None if built == planned else f"(parameters, buffers) are {built}, planned {planned}"

    @override
    def note_sent(self, node: NodeRecord, *, arrays_in_frame: bool) -> None:
        node.plans[self.network] = (*node.plans_of(self.network), self.plan)

    @override
    def note_answered(self, node: NodeRecord, reply: BaseModel) -> None:
        """Keep the plan that is now in force: this one, or the former one if the Build failed."""
        former = tuple(plan for plan in node.plans_of(self.network) if plan is not self.plan)
        node.plans[self.network] = (self.plan,) if isinstance(reply, Built) else former


class GetWeights(AnsweredBy[Weights]):
    """Send `params` and `buffers` of the network's serving copy."""

    is_long: ClassVar[bool] = True

    kind: Literal["get_weights"] = "get_weights"
    network: Name

    @override
    def reply_arrays(self, node: NodeRecord, shapes: Shapes) -> tuple[ArraySpecs, ...]:
        return node.weights_of(self.network)


class Load(AnsweredBy[Loaded]):
    """Copy a region's `params` and `buffers` into the network's serving copy; recompute its digest."""

    is_long: ClassVar[bool] = True

    kind: Literal["load"] = "load"
    network: Name
    region: Name


class Pass(Frozen):
    """A part of one pass over the shard.

    The order of rows is `numpy.random.Generator(PCG64(order_seed)).permutation(rows)`, cut into batches
    of `batch_size` (the last one may be shorter); steps `start` to `stop` (exclusive) of it are done.
    `stop` None means to the end.
    """

    order_seed: Seed
    start: Count = 0
    stop: Count | None = None


class Train(AnsweredBy[Trained]):
    """Train on the node's shard from a committed state; the new state is written to `publish`.

    Attributes:
        base: Region with `params`, `buffers` and the optimiser's moments; see `protocol.model_state`.
        opt_step: Number of steps in the moments of the base.
        shard: Region with `x` [rows, *row_shape] f4 and `y` [rows] (f4; i8 for multiclass).
        publish: Writable region with the arrays of the base's layout.
        dropout_seed: Seed of all random numbers of the training except the order of rows.
        feature_dropout: Probability with which each feature group of a row is set to 0 (its mean).
        class_weight: What the loss of a row is multiplied by, by its class index; empty for 1.
    """

    is_long: ClassVar[bool] = True

    kind: Literal["train"] = "train"
    network: Name
    base: Name
    opt_step: Count
    shard: Name
    publish: Name
    optimizer: Optimizer
    learning_rate: Annotated[float, Field(ge=NODE_LEARNING_RATE.low, le=NODE_LEARNING_RATE.high)]
    batch_size: Annotated[int, Field(ge=NODE_BATCH_SIZE.low, le=NODE_BATCH_SIZE.high)]
    passes: Annotated[tuple[Pass, ...], Field(min_length=1, max_length=64)]
    dropout_seed: Seed
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weight: Annotated[tuple[ClassWeight, ...], Field(max_length=64)] = ()

    @override
    def region_filled(self) -> str:
        return self.publish


class Infer(AnsweredBy[Outputs]):
    """Compute logits of region `data` with the weights in another region, not with the serving copy."""

    is_long: ClassVar[bool] = True

    kind: Literal["infer"] = "infer"
    network: Name
    weights: Name
    data: Name

    @override
    def reply_arrays(self, node: NodeRecord, shapes: Shapes) -> tuple[ArraySpecs, ...]:
        return node.outputs_of(self.network, node.rows.get(self.data, 0))


class Predict(AnsweredBy[Outputs]):
    """Compute logits of the rows in the array `x` [rows, *row_shape] f4 with the serving copy."""

    kind: Literal["predict"] = "predict"
    network: Name

    @override
    def reply_arrays(self, node: NodeRecord, shapes: Shapes) -> tuple[ArraySpecs, ...]:
        return node.outputs_of(self.network, rows_of(shapes))


class Announce(AnsweredBy[Done]):
    """Write `token` into the node's own link buffer."""

    kind: Literal["announce"] = "announce"
    key: Name
    token: Seed

    @override
    def region_filled(self) -> str:
        return self.key


class Observe(AnsweredBy[Observed]):
    """Read the tokens in these neighbours' link buffers, each one `reads` times."""

    kind: Literal["observe"] = "observe"
    keys: Annotated[tuple[Name, ...], Field(max_length=256)]
    reads: Annotated[int, Field(ge=1, le=64)]

    @override
    def regions_observed(self) -> tuple[str, ...]:
        return self.keys

    @override
    def fault_of(self, reply: Observed) -> str | None:
        n_sights, n_keys = len(reply.sights), len(self.keys)
        return None if n_sights == n_keys else f"{n_sights} sights of {n_keys} views"


TransportRequest = Grant | Revoke | Shutdown
"""Answered by `protocol.dispatch`, independently of the node's service."""

ServiceRequest = (
    Ping | Cancel | Build | GetWeights | Load | Train | Infer | Predict | Announce | Observe
)
"""Answered by the node's service, `node.service`."""

Request = Annotated[TransportRequest | ServiceRequest, Field(discriminator="kind")]
