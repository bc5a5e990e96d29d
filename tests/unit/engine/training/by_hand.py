"""One exchange with linear workers: its parts, and what it must give, computed here in float64."""

from itertools import pairwise

import numpy as np

from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.tasks import Recipe
from tests.doubles.linear_service import LinearService, linear_plan

RATE = 0.05
BATCH = 4
N = 30


def training_rows(n=N):
    draw = np.random.Generator(np.random.PCG64(5))
    x = draw.standard_normal((n, 3)).astype("f4")
    nothing = np.full(n, -1, "i4")
    return Rows(x, (x @ np.array([1.0, -2.0, 0.5]) + 0.3).astype("f4"), nothing, nothing)


def shards_of(sizes, n=N):
    """Consecutive rows, so many for each worker."""
    edges = np.cumsum([0, *sizes])
    assert edges[-1] <= n
    return {f"worker-{k}": np.arange(low, high) for k, (low, high) in enumerate(pairwise(edges))}


def group(slots, optimizer="sgd", params=None, key="c0"):
    """A network group with a state to start from, or without one when `params` is None."""
    made = NetworkGroup(
        key=key, plan=linear_plan(), slots=tuple(slots), layers_source="given", optimizer=optimizer
    )
    if params is None:
        return made
    bare = ModelState(np.asarray(params, "f4"), np.zeros(0, "f4"), {}, 0)
    return made.with_state(bare.with_fresh_moments(optimizer))


START = group(["worker-0", "worker-1", "worker-2"], params=[0.1, 0.2, 0.3, 0.4])


def exchange(w, sizes, rows=None):
    recipe = Recipe(learning_rate=RATE, batch_size=BATCH, feature_dropout=0.0, class_weight=())
    return Exchange(w.cluster, rows or training_rows(), shards_of(sizes), recipe)


def trained(params, rows, shard, passes):
    """Plain gradient steps on the mean squared error; passes as (order seed, start, stop)."""
    params, losses = np.asarray(params, "f8").copy(), []
    x, y = rows.x[shard].astype("f8"), rows.y[shard].astype("f8")
    for seed, start, stop in passes:
        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(shard))
        batches = [order[k : k + BATCH] for k in range(0, len(order), BATCH)]
        for batch in batches[start:stop]:
            error = x[batch] @ params[:3] + params[3] - y[batch]
            losses.append(float(np.mean(error**2)))
            gradient = 2 * np.append(x[batch].T @ error, error.sum()) / len(batch)
            params -= RATE * gradient
    return params, float(np.mean(losses)), len(losses)


class Liar(LinearService):
    """Passes its honest answer to a training request through `lie(service, request, reply)`."""

    def __init__(self, lie):
        super().__init__()
        self.lie = lie

    def on_train(self, request, arrays, poll):
        reply, made = super().on_train(request, arrays, poll)
        return self.lie(self, request, reply), made


def lying(lie, *slots):
    """Services of which those of these slots lie."""
    return lambda spec: Liar(lie) if spec.slot in slots else LinearService()


def claims(**changes):
    return lambda service, request, reply: reply.model_copy(update=changes)


def publishes(value, *, digest_of_it=True):
    """Publishes this value everywhere, with its digest or with that of what it trained."""

    def lie(service, request, reply):
        params = service.regions[request.publish]["params"]
        params[...] = value
        if digest_of_it:
            reply = reply.model_copy(update={"digest": service.digest(request.network, params)})
        return reply

    return lie
