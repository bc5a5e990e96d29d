"""A node that is a linear model in numpy: every message of the protocol, no tensor library."""

import time
from itertools import islice

import numpy as np

from flow_nexus_neural.coordination.consensus.proof_of_learning import chain
from flow_nexus_neural.kernels.folding import fold
from flow_nexus_neural.node.raft import RaftSeat
from flow_nexus_neural.protocol.digest import training_digest, vectors_digest, weights_digest
from flow_nexus_neural.protocol.messages import (
    Announce,
    AskMasked,
    AskMaskKeys,
    AskMaskShares,
    AskUnmasking,
    Build,
    Built,
    Commitment,
    Done,
    Failed,
    Fold,
    Folded,
    GetWeights,
    Infer,
    Load,
    Loaded,
    Masked,
    MaskKeys,
    MaskShares,
    Observe,
    Observed,
    Outputs,
    Pong,
    Predict,
    Reexecute,
    Reexecuted,
    Reveal,
    Revealed,
    Sight,
    Train,
    Trained,
    Unmasking,
    Weights,
)
from flow_nexus_neural.protocol.plan import InputSpec, NetworkPlan, PlannedLayer, TensorSpec

ENDLESS = (1, 64)
"""Batch size and passes of a training that makes one step and goes on until it is told to end.

Who looks for a node at work finds it so, however late the look is.
"""
_PAUSE_S = 0.001


def linear_plan(features=3, outputs=1):
    """The plan of one dense layer without activation."""
    return NetworkPlan(
        input=InputSpec(vector_length=features, n_scalars=0),
        view="flat",
        task="regression",
        n_outputs=outputs,
        implied_head=True,
        layers=(
            PlannedLayer(
                index=None,
                type="dense",
                args={"units": outputs, "activation": "linear"},
                in_shape=(features,),
                out_shape=(outputs,),
                tensors=(
                    TensorSpec(
                        name="head.kernel", shape=(features, outputs), init="glorot_uniform"
                    ),
                    TensorSpec(name="head.bias", shape=(outputs,), init="zeros"),
                ),
            ),
        ),
    )


class LinearService:
    """Least squares by plain gradient steps; `steps_done` counts them."""

    def __init__(self):
        self.regions = {}
        self.own = set()
        self.plans = {}
        self.serving = {}
        self.raft = RaftSeat()
        self.busy = None
        self.steps_done = 0
        self.states = {}

    def attach(self, key, arrays, *, writable):
        self.regions[key] = arrays
        self.own = self.own | {key} if writable else self.own - {key}

    def detach(self, keys):
        for key in keys:
            self.regions.pop(key, None)
        self.raft.forget(keys)

    def handle(self, request, arrays, poll):
        if not request.is_long:
            return self.answer(request, arrays, poll)
        if self.busy is not None:
            return Failed(type="busy", message=f"{self.busy} runs"), {}
        self.busy = request.kind
        try:
            return self.answer(request, arrays, poll)
        finally:
            self.busy = None

    def answer(self, request, arrays, poll):
        try:
            return getattr(self, f"on_{request.kind}")(request, arrays, poll)
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as failure:
            return Failed(type=type(failure).__name__, message=str(failure)), {}

    def on_ping(self, request, arrays, poll):
        return Pong(busy=self.busy, steps_done=self.steps_done, longest_step_ms=0.0), {}

    def on_cancel(self, request, arrays, poll):
        return Done(), {}

    def on_build(self, request: Build, arrays, poll):
        plan = request.plan
        draw = np.random.Generator(np.random.PCG64(request.seed)).standard_normal(plan.n_params)
        self.plans[request.network] = plan
        self.serving[request.network] = draw.astype("f4")
        return Built(n_params=plan.n_params, n_buffers=0, digest=self.digest(request.network)), {}

    def digest(self, network, params=None):
        params = self.serving[network] if params is None else params
        return weights_digest(self.plans[network], params, np.zeros(0, "f4"))

    def on_get_weights(self, request: GetWeights, arrays, poll):
        params = self.serving[request.network]
        return Weights(digest=self.digest(request.network)), {
            "params": params,
            "buffers": np.zeros(0, "f4"),
        }

    def on_load(self, request: Load, arrays, poll):
        self.serving[request.network] = np.array(self.regions[request.region]["params"])
        return Loaded(digest=self.digest(request.network)), {}

    def outputs(self, network, params, x):
        plan = self.plans[network]
        width = plan.input.flat_width
        kernel = params[: width * plan.n_outputs].reshape(width, plan.n_outputs)
        rows = np.asarray(x, "f4").reshape(len(x), width)
        return (rows @ kernel + params[width * plan.n_outputs :]).astype("f4")

    def on_predict(self, request: Predict, arrays, poll):
        y = self.outputs(request.network, self.serving[request.network], arrays["x"])
        return Outputs(digest=self.digest(request.network)), {"y": y}

    def on_infer(self, request: Infer, arrays, poll):
        params = self.regions[request.weights]["params"]
        return Outputs(digest=None), {
            "y": self.outputs(request.network, params, self.regions[request.data]["x"])
        }

    def on_announce(self, request: Announce, arrays, poll):
        self.regions[request.key]["token"][0] = request.token
        return Done(), {}

    def on_observe(self, request: Observe, arrays, poll):
        held = [self.regions.get(key) for key in request.keys]
        return Observed(sights=tuple(region and self.sight(region) for region in held)), {}

    def sight(self, region):
        began_s = time.perf_counter()
        token = int(region["token"][0])
        return Sight(token=token, read_ms=(time.perf_counter() - began_s) * 1e3)

    def on_raft_step(self, request, arrays, poll):
        return self.raft.step(request), {}

    def on_raft_hold(self, request, arrays, poll):
        return self.raft.hold(request, self.regions[request.region]), {}

    def on_ask_mask_keys(self, request: AskMaskKeys, arrays, poll):
        return MaskKeys(masking="0" * 64, sealing="0" * 64), {}

    def on_ask_mask_shares(self, request: AskMaskShares, arrays, poll):
        sealed = dict.fromkeys((peer.slot for peer in request.peers), "0" * 164)
        return MaskShares(own="0" * 64, sealed=sealed), {}

    def on_ask_masked(self, request: AskMasked, arrays, poll):
        return Masked(), {"y": np.zeros(self.plans[request.network].n_params, "i4")}

    def on_ask_unmasking(self, request: AskUnmasking, arrays, poll):
        return Unmasking(shares=dict.fromkeys(request.delivered, "0" * 66)), {}

    def on_fold(self, request: Fold, arrays, poll):
        into = list(self.regions[request.into].values())
        n_read = 0
        for part in request.parts:
            sources = [
                (list(self.regions[source.region].values()), source.weight)
                for source in part.sources
            ]
            fold(into, sources, part.divisor, (part.start, part.stop))
            foreign = [source for source in part.sources if source.region not in self.own]
            n_read += 4 * len(foreign) * (part.stop - part.start)
        digest = vectors_digest(into) if request.hashed else None
        return Folded(bytes_read=n_read, digest=digest), {}

    def batches(self, request: Train, shard):
        """Rows of every step of an assignment."""
        for part in request.passes:
            draw = np.random.Generator(np.random.PCG64(part.order_seed))
            order = draw.permutation(len(shard["x"]))
            size = request.batch_size
            rows = [order[start : start + size] for start in range(0, len(order), size)]
            yield from rows[part.start : part.stop]

    def stepped(self, request, state, rows):
        """One step of an assignment, in place; its loss."""
        shard, params = self.regions[request.shard], state["params"]
        control = self.regions[request.control]["correction"] if request.control else 0.0
        pull = control
        if request.proximal_mu:
            pull = request.proximal_mu * (params - self.regions[request.base]["params"]) + control
        loss = self.step(request, params, shard["x"][rows], shard["y"][rows])
        params -= np.float32(request.learning_rate) * pull
        return loss

    def on_train(self, request: Train, arrays, poll):
        shard, state = self.regions[request.shard], own(self.regions[request.base])
        self.states, losses, digests = {}, [], [training_digest(state, request.opt_step)]
        order = request.proof
        endless = (request.batch_size, len(request.passes)) == ENDLESS
        for rows in self.batches(request, shard):
            while not (cancelled := poll()) and endless and losses:
                time.sleep(_PAUSE_S)
            if cancelled:
                return Failed(type="cancelled", message="as asked"), {}
            losses.append(self.stepped(request, state, rows))
            self.steps_done += 1
            if order and len(losses) % order.segment_steps == 0:
                self.states[len(digests)] = own(state)
                digests.append(training_digest(state, request.opt_step + len(losses)))
        steps = len(losses)
        if order and (steps % order.segment_steps or not steps):
            digests.append(training_digest(state, request.opt_step + steps))
        fill(self.regions[request.publish], state)
        return Trained(
            digest=self.digest(request.network, state["params"]),
            loss=float(np.mean(losses)),
            steps=steps,
            opt_step=request.opt_step + steps,
            cpu_s=0.0,
            commitment=order
            and Commitment(states=tuple(digests), head=chain(order.context, digests), cpu_s=0.0),
        ), {}

    def on_reveal(self, request: Reveal, arrays, poll):
        fill(self.regions[request.into], self.states[request.segment])
        return Revealed(cpu_s=0.0), {}

    def on_reexecute(self, request: Reexecute, arrays, poll):
        work, shard = request.work, self.regions[request.work.shard]
        state, length = own(self.regions[request.state]), request.work.proof.segment_steps
        first = steps = request.segment * length
        before = training_digest(state, work.opt_step + first)
        for rows in islice(self.batches(work, shard), first, first + length):
            self.stepped(work, state, rows)
            steps += 1
        after = training_digest(state, work.opt_step + steps)
        return Reexecuted(before=before, after=after, cpu_s=0.0), {}

    def step(self, request, params, x, y):
        width = self.plans[request.network].input.flat_width
        error = self.outputs(request.network, params, x)[:, 0] - y
        params[:width] -= (request.learning_rate * 2 / len(x)) * (
            x.reshape(len(x), width).T @ error
        )
        params[width:] -= request.learning_rate * 2 * error.mean()
        return float(np.mean(error**2))


def own(region):
    """Copies of a state; its moments are carried along and not used."""
    return {name: np.array(vector) for name, vector in region.items()}


def fill(region, state):
    for name, vector in state.items():
        region[name][...] = vector
