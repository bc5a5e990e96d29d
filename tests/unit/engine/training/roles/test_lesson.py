"""One node taught: it keeps its best stride, and whatever is wrong with it is only the reason why not."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.roles import lesson as lessons
from flow_nexus_neural.engine.training.roles.lesson import Lesson, as_rows, teach
from flow_nexus_neural.protocol.plan import InputSpec
from tests.sim.simulated import world

LAYERS = ({"type": "dense", "units": 8, "activation": "relu"}, {"type": "dense", "units": 1})


@pytest.fixture
def anyio_backend():
    return "asyncio"


def halves(n, seed):
    draw = np.random.Generator(np.random.PCG64(seed))
    x = draw.standard_normal((n, 3)).astype("f4")
    return as_rows(x, (x[:, 0] > 0).astype("f4"))


def lesson(**more):
    values = {
        "purpose": "stacker",
        "fit": halves(200, 1),
        "held": halves(60, 2),
        "further": {"test": halves(40, 3)},
        "task": "binary",
        "n_outputs": 1,
        "input": InputSpec(vector_length=0, n_scalars=3),
        "run": (1, 0),
    }
    return Lesson(**values | more)


async def live_cluster(w, layers=LAYERS):
    cluster_id = await w.cluster(1)
    await w.deploy(cluster_id, "aggregator", layers=layers)
    return w.engine._clusters.find(cluster_id)


async def test_its_own_network_learns_the_rows_and_equal_seeds_give_equal_weights(tmp_path):
    async with world(tmp_path) as w:
        cluster = await live_cluster(w)
        slot = cluster.slots["aggregator-0"]
        taught = await teach(cluster, slot, lesson())
        assert taught.learnt.trained
        assert (taught.learnt.rows, taught.learnt.reason) == (200, None)
        assert taught.learnt.loss < 0.4
        labels = lesson().further["test"].y
        assert ((taught.outputs["test"][:, 0] > 0) == (labels > 0.5)).mean() > 0.85
        assert taught.network.digest_of(taught.network.state) == taught.learnt.digest
        assert taught.network.state.moments == {}, "nobody goes on from it"
        again = await teach(cluster, slot, lesson())
        assert again.learnt == taught.learnt
        other = await teach(cluster, slot, lesson(run=(2, 0)))
        assert other.learnt.digest != taught.learnt.digest


async def test_layers_that_do_not_fit_are_the_reason_why_it_is_not_trained(tmp_path):
    async with world(tmp_path, max_parameters=100) as w:
        cluster = await live_cluster(w, ({"type": "dense", "units": 60},))
        taught = await teach(cluster, cluster.slots["aggregator-0"], lesson())
        assert taught.network is None
        assert taught.learnt.reason.startswith("limit_exceeded:")


async def test_a_node_that_dies_meanwhile_ends_nothing_else(tmp_path):
    async with world(tmp_path) as w:
        cluster = await live_cluster(w)
        slot = cluster.slots["aggregator-0"]
        w.kill("aggregator-0")
        taught = await teach(cluster, slot, lesson())
        assert not taught.learnt.trained
        assert taught.learnt.reason.startswith("node_")


async def test_of_a_node_that_hangs_the_best_stride_so_far_counts_and_none_before_the_first(
    tmp_path, monkeypatch
):
    train = Exchange.train
    async with world(tmp_path) as w:
        cluster = await live_cluster(w)
        for strides, learnt in ((2, True), (0, False)):
            asked = []

            async def hangs(self, task, asked=asked, strides=strides):
                asked.append(task)
                if len(asked) > strides:
                    await anyio.sleep_forever()
                if len(asked) == strides:
                    monkeypatch.setattr(lessons, "STRIDE_S", 0.05)  # of the next stride
                return await train(self, task)

            monkeypatch.setattr(Exchange, "train", hangs)
            monkeypatch.setattr(lessons, "STRIDE_S", 60.0 if strides else 0.05)
            taught = await teach(cluster, cluster.slots["aggregator-0"], lesson())
            assert taught.learnt.trained == learnt


async def test_rows_are_bounded_by_a_sample_that_the_seed_draws(monkeypatch):
    monkeypatch.setattr(lessons, "MAX_ROWS", 50)
    whole = lesson(teacher=np.arange(200, dtype="f4")[:, None])
    made, again = (lessons._bounded(whole, "aggregator-0") for _ in range(2))
    assert (len(made.fit), len(made.held), len(made.further["test"])) == (50, 50, 40)
    chosen = made.teacher[:, 0].astype(int)
    assert made.fit.x.tobytes() == whole.fit.x[chosen].tobytes() == again.fit.x.tobytes()
    assert len(set(chosen)) == 50
