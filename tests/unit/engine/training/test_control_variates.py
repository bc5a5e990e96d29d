"""SCAFFOLD's rounds, against the algorithm of the paper written here in float64."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.federated_methods import SCAFFOLD
from flow_nexus_neural.engine.state.network_groups import ServerState
from flow_nexus_neural.engine.training.collect import Pace, prepare_all
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.training.control_variates import Corrections, corrected_gradients
from flow_nexus_neural.engine.training.delivery import Delivery
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.strategies import (
    ClientHistory,
    RoundSetting,
    federated_round,
)
from flow_nexus_neural.kernels.seeds import seed64
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import (
    BATCH,
    RATE,
    START,
    exchange,
    lying,
    publishes,
    training_rows,
)
from tests.unit.engine.training.test_strategies import RUN, config

SIZES, EPOCHS = (12, 7, 9), 2
NAMES = ["worker-0", "worker-1", "worker-2"]


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Course:
    """Rounds of SCAFFOLD over one exchange, as a training runs them."""

    def __init__(self, w, *, per_round=2, rate=1.0):
        self.w, self.exchange = w, exchange(w, SIZES)
        self.network, self.work = START, None
        left_out = LeftOut()
        scaffold = SCAFFOLD.with_options({"server_learning_rate": rate})
        self.setting = RoundSetting(
            context=w.engine.context,
            exchange=self.exchange,
            config=config(local_epochs=EPOCHS, clients_per_round=per_round, learning_rate=RATE),
            least_workers=1,
            run=RUN,
            groups={},
            asked=ClientHistory(),
            pace=Pace(),
            left_out=left_out,
            delivery=Delivery(
                cluster=w.cluster,
                exchange=self.exchange,
                combiner=Combiner(w.engine.context, scaffold, None, RUN, EPOCHS),
                left_out=left_out,
                audited=False,
            ),
        )

    async def round(self, number):
        """Run one; the slots that contributed."""
        members = [(slot, self.network) for slot in self.w.slots.healthy("worker")]
        await prepare_all(self.exchange, members, self.setting.left_out)
        self.work = await federated_round(self.setting, number, members)
        self.network = self.network.with_state(self.work.states["c0"])
        return [update.slot for update in self.work.updates]


class ByHand:
    """Algorithm 1 of Karimireddy et al. with option II, on the mean squared error."""

    def __init__(self, shards, rate):
        self.rows, self.shards, self.rate = training_rows(), shards, rate
        self.x = START.state.params.astype("f8")
        self.c, self.own = np.zeros(4), {name: np.zeros(4) for name in NAMES}

    def round(self, number, chosen):
        moves, changes = [], []
        for name in chosen:
            y, steps = self.x.copy(), 0
            xs, ys = self.rows.x[self.shards[name]], self.rows.y[self.shards[name]]
            for epoch in range(EPOCHS):
                seed = seed64(RUN, number, name, epoch, "order")
                order = np.random.Generator(np.random.PCG64(seed)).permutation(len(xs))
                for k in range(0, len(order), BATCH):
                    batch = order[k : k + BATCH]
                    error = xs[batch].astype("f8") @ y[:3] + y[3] - ys[batch]
                    g = 2 * np.append(xs[batch].T @ error, error.sum()) / len(batch)
                    y = y - RATE * (g - self.own[name] + self.c)
                    steps += 1
            after = self.own[name] - self.c + (self.x - y) / (steps * RATE)
            moves.append(y - self.x)
            changes.append(after - self.own[name])
            self.own[name] = after
        self.x = self.x + self.rate * np.mean(moves, axis=0)
        self.c = self.c + len(chosen) / len(NAMES) * np.mean(changes, axis=0)


@pytest.mark.parametrize(("per_round", "rate"), [(3, 1.0), (2, 1.0), (2, 1.5), (1, 1.0)])
async def test_rounds_of_scaffold_are_those_of_the_paper(tmp_path, per_round, rate):
    async with running(tmp_path, 3) as w:
        course = Course(w, per_round=per_round, rate=rate)
        by_hand = ByHand(course.exchange.shards, rate)
        for number in range(1, 6):
            chosen = await course.round(number)
            assert len(chosen) == per_round
            by_hand.round(number, chosen)
            np.testing.assert_allclose(course.network.state.params, by_hand.x, atol=2e-5)
            for name, control in course.network.state.server.controls.items():
                np.testing.assert_allclose(control, by_hand.own[name], atol=1e-4)
        assert any(control.any() for control in course.network.state.server.controls.values())
        course.exchange.close()


async def test_without_the_factor_of_participation_the_rounds_are_others(tmp_path, monkeypatch):
    """The control: c moved by the whole mean change, as NVFlare 2.9 does, is not the paper's."""
    from flow_nexus_neural.engine.training import control_variates

    def whole(controls, _n, length):
        return np.mean(controls, axis=0) if controls else np.zeros(length)

    monkeypatch.setattr(control_variates, "server_control", whole)
    async with running(tmp_path, 3) as w:
        course = Course(w)
        by_hand = ByHand(course.exchange.shards, 1.0)
        for number in range(1, 6):
            by_hand.round(number, await course.round(number))
        assert np.abs(course.network.state.params - by_hand.x).max() > 1e-3
        course.exchange.close()


class Looking(LinearService):
    """Notes which regions it could read while it trained."""

    seen: list  # of (control, whether it could be written)

    def on_train(self, request, arrays, poll):
        self.seen.append((request.control, self.regions[request.control]["correction"].copy()))
        with pytest.raises(ValueError, match="read-only"):
            self.regions[request.control]["correction"][0] = 9.0
        return super().on_train(request, arrays, poll)


async def test_a_client_is_granted_its_own_correction_read_only_and_only_while_it_trains(tmp_path):
    services = {}

    def make(spec):
        services[spec.slot] = Looking()
        services[spec.slot].seen = []
        return services[spec.slot]

    async with running(tmp_path, 3, service=make) as w:
        course = Course(w, per_round=3)
        await course.round(1)
        await course.round(2)
        sent = w.cluster.metrics.communication_bytes
        assert sent > 0
        for name, service in services.items():
            assert [key for key, _ in service.seen] == [f"control:{name}"] * 2
            first, second = (vector for _, vector in service.seen)
            assert not first.any()
            assert second.any()
            assert f"control:{name}" not in service.regions
        total = sum(services[name].seen[1][1] for name in NAMES)
        np.testing.assert_allclose(total, 0, atol=1e-5)  # the corrections c - c_i of all clients
        assert course.exchange.controls == {}
        course.exchange.close()


async def test_what_a_liar_publishes_leaves_every_control_variate_finite(tmp_path):
    async with running(tmp_path, 3, service=lying(publishes(3e38), "worker-1")) as w:
        course = Course(w, per_round=3)
        await course.round(1)
        for control in course.network.state.server.controls.values():
            assert np.isfinite(control).all()
        course.exchange.close()


async def test_other_methods_correct_nothing(tmp_path):
    async with running(tmp_path, 3) as w:
        course = Course(w)
        slots = [(slot, START) for slot in w.slots.healthy("worker")]
        plain = replace(SCAFFOLD, name="another")
        async with corrected_gradients(
            course.exchange, w.engine.context, plain, slots, RATE
        ) as corrections:
            assert corrections == Corrections()
            assert course.exchange.controls == {}
        states = {"c0": START.state}
        assert corrections.advanced(states, []) == states
        course.exchange.close()


def test_a_client_that_made_no_step_keeps_its_control_variate():
    from flow_nexus_neural.engine.state.update import Update

    kept = ServerState("scaffold", {}, {"worker-0": np.ones(4, "f4")})
    network = START.with_state(replace(START.state, server=kept))
    corrections = Corrections({"c0": network}, {"worker-0": np.zeros(4, "f4")}, RATE)
    idle = Update("worker-0", START.state, "d", rows=3, steps=0, opt_step=0, loss=None, cpu_s=0.0)
    after = corrections.advanced({"c0": START.state}, [idle])["c0"].server
    assert after.controls["worker-0"].tolist() == [1.0] * 4
