"""Requests to a network of a node: built, loaded, trained, asked."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field
from typing_extensions import override

from flow_nexus_neural.protocol.arrays import (
    ArraySpecs,
    Count,
    Shapes,
    rows_of,
)
from flow_nexus_neural.protocol.contract import AnsweredBy, NodeRecord
from flow_nexus_neural.protocol.messages.commitments import ProofOrder
from flow_nexus_neural.protocol.messages.private_steps import PrivateSteps
from flow_nexus_neural.protocol.messages.replies import (
    Built,
    Done,
    Loaded,
    Outputs,
    Pong,
    Trained,
    Weights,
)
from flow_nexus_neural.protocol.messages.values import (
    NODE_BATCH_SIZE,
    NODE_LEARNING_RATE,
    UNTOLD,
    ClassWeight,
    ProximalMu,
    Seed,
    Temperature,
)
from flow_nexus_neural.protocol.plan import Frozen, Name, NetworkPlan
from flow_nexus_neural.vocabulary import Optimizer


class Ping(AnsweredBy[Pong]):
    """Ask for signs of life and progress."""

    kind: Literal["ping"] = "ping"


class Cancel(AnsweredBy[Done]):
    """End the running long request at its next step; its reply is then `Failed` with type `cancelled`."""

    kind: Literal["cancel"] = "cancel"


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


class Together(Frozen):
    """Who is asked to train at the same time in one process, so that it may train them in one stack.

    Attributes:
        round: Equal for those who are asked together; another for each time.
        size: How many are asked.
        place: Of this node among them, from 0.
    """

    round: Count
    size: Annotated[int, Field(ge=1, le=1024)]
    place: Count


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
        proof: Asks for a commitment to the states between segments of the steps; None for none.
        proximal_mu: Weight of FedProx's term: `proximal_mu` (params - base's params) is added to every
            gradient, and the learning rate is at most 1 / `proximal_mu`.
        temperature: Of distillation; the shard then has `teacher` [rows, n_outputs] f4, outputs from which
            the network learns beside its labels. None for labels alone.
        kept: The new state stays in the node, for secure aggregation: nothing is written to `publish`, and
            the digest of the reply is `UNTOLD`.
        control: Region with `correction` [n_params] f4, which SCAFFOLD adds to every gradient; None for none.
        private: How single rows are protected (DP-SGD); None for not. The rows of a step are then drawn with
            its key, and of a pass only the number of its steps counts.
        together: Who is asked at the same time in this process; None for nobody.
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
    proof: ProofOrder | None = None
    proximal_mu: ProximalMu = 0.0
    temperature: Temperature | None = None
    control: Name | None = None
    kept: bool = False
    private: PrivateSteps | None = None
    together: Together | None = None

    @override
    def region_filled(self) -> str:
        return self.publish

    @override
    def fault_of(self, reply: Trained) -> str | None:
        if (reply.commitment is None) != (self.proof is None):
            return "a commitment comes exactly if one was ordered"
        if self.kept and reply.digest != UNTOLD:
            return "a digest tells of a state that was to be kept"
        if reply.stacked is not None and self.together is None:
            return "clients were stacked that were not asked together"
        return None


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
