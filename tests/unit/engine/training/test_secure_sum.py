"""The engine's part in a secure sum: whom it loses in which phase, and what it then has."""

from types import SimpleNamespace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.federated_methods import FEDAVGM
from flow_nexus_neural.coordination.consensus.registry import AVERAGING
from flow_nexus_neural.engine.state.network_groups import ModelState
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.secure_sum import SecureSum
from flow_nexus_neural.errors import NodeDied, RoundFailed
from flow_nexus_neural.node.masking import MaskSession
from flow_nexus_neural.protocol.messages import AskMasked, AskMaskKeys, AskMaskShares
from flow_nexus_neural.runtime.connection.memory import CarriedBuffer
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import group
from tests.unit.engine.training.test_private_sums import private_of

SLOTS = [f"worker-{k}" for k in range(5)]
START = group(SLOTS, params=[0.1, 0.2, 0.3, 0.4])
ROWS = {slot: 10 + 7 * k for k, slot in enumerate(SLOTS)}
KINDS = ("ask_mask_keys", "ask_mask_shares", "ask_masked", "ask_unmasking")


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Nodes:
    """Answers as nodes do, except for those that die at a phase."""

    def __init__(self, deaths):
        self.deaths, self.sessions, self.seen, self.pulled = deaths, {}, [], []
        draw = np.random.Generator(np.random.PCG64(2))
        self.updates = {slot: draw.normal(0, 0.1, 4).astype("f4") for slot in SLOTS}
        self.calls = SimpleNamespace(ask=self.ask, pulled=self.pulled.append)
        self.buffers = {slot: CarriedBuffer(slot, [("params", "f4", (4,))]) for slot in SLOTS}

    def buffer(self, slot):
        return self.buffers[slot]

    async def ask(self, slot, request, _deadline):
        self.seen.append((slot.name, request))
        if self.deaths.get(slot.name) == request.kind:
            raise NodeDied(f"{slot.name} died at {request.kind}")
        if isinstance(request, AskMaskKeys):
            self.sessions[slot.name] = MaskSession.begin(request)
            return self.sessions[slot.name].keys(), {}
        session = self.sessions[slot.name]
        if isinstance(request, AskMaskShares):
            return session.share(request), {}
        if isinstance(request, AskMasked):
            words = np.empty(4, np.uint32)
            session.write_masked(request, self.updates[slot.name], words)
            self.buffers[slot.name].store({"params": words.view("f4")})
            return None, {}
        return session.unmask(request), {}

    def mean(self, slots):
        rows = [ROWS[slot] for slot in slots]
        return np.average([self.updates[slot] for slot in slots], axis=0, weights=rows)


def updates():
    return [Update(s, None, "0" * 64, ROWS[s], 1, 1, 0.5, 0.0) for s in SLOTS]


async def summed(w, deaths=None, policy=AVERAGING):
    nodes = Nodes(deaths or {})
    secure = SecureSum(w.cluster, nodes, policy, LeftOut())
    return nodes, secure, await secure.combine(START, updates(), ())


async def test_the_sum_is_the_plain_mean_by_rows(tmp_path):
    async with running(tmp_path, 5) as w:
        nodes, secure, made = await summed(w)
        expected = START.state.params + nodes.mean(SLOTS)
        assert np.abs(made.state.params - expected).max() < 1e-6
        assert made.weights == pytest.approx({s: ROWS[s] / sum(ROWS.values()) for s in SLOTS})
        assert secure.detour(START) is None
        assert nodes.pulled == [5 * 4 * START.plan.n_params]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost", [("worker-1",), ("worker-0", "worker-4")])
async def test_a_round_is_unmasked_although_workers_die_between_the_phases(tmp_path, kind, lost):
    async with running(tmp_path, 5) as w:
        nodes, secure, made = await summed(w, dict.fromkeys(lost, kind))
        delivered = SLOTS if kind == "ask_unmasking" else [s for s in SLOTS if s not in lost]
        expected = START.state.params + nodes.mean(delivered)
        assert np.abs(made.state.params - expected).max() < 1e-6
        assert set(made.excluded) == set(SLOTS) - set(delivered)
        assert all(secure.left_out.holds(w.slots[slot]) for slot in lost)


@pytest.mark.parametrize("kind", KINDS)
async def test_below_the_threshold_the_round_fails_and_nothing_is_unmasked(tmp_path, kind):
    async with running(tmp_path, 5) as w:
        lost = dict.fromkeys(SLOTS[:3], kind)
        nodes = Nodes(lost)
        secure = SecureSum(w.cluster, nodes, AVERAGING, LeftOut())
        with pytest.raises(RoundFailed, match=r"2 of the 3 workers"):
            await secure.combine(START, updates(), ())
        asked = [request.kind for _, request in nodes.seen]
        assert asked.count(KINDS[-1]) == (5 if kind == KINDS[-1] else 0)


@pytest.mark.parametrize("kind", KINDS[:3])
async def test_a_sum_of_two_is_never_asked_for(tmp_path, kind):
    async with running(tmp_path, 3) as w:
        nodes = Nodes({"worker-2": kind})
        secure = SecureSum(w.cluster, nodes, AVERAGING, LeftOut())
        with pytest.raises(RoundFailed, match=r"2 of the 3 workers"):
            await secure.combine(group(SLOTS[:3], params=[0.0] * 4), updates()[:3], ())
        assert KINDS[-1] not in {request.kind for _, request in nodes.seen}


async def test_with_two_workers_from_the_start_the_failure_names_no_lost_one(tmp_path):
    async with running(tmp_path, 3) as w:
        secure = SecureSum(w.cluster, Nodes({}), AVERAGING, LeftOut())
        with pytest.raises(RoundFailed) as caught:
            await secure.combine(START, updates()[:2], ())
        assert caught.value.message.endswith("2 of the 3 workers that it needs in a phase")


async def test_of_three_that_delivered_two_may_take_the_masks_off(tmp_path):
    async with running(tmp_path, 3) as w:
        nodes = Nodes({"worker-2": KINDS[-1]})
        secure = SecureSum(w.cluster, nodes, AVERAGING, LeftOut())
        base = group(SLOTS[:3], params=[0.0] * 4)
        made = await secure.combine(base, updates()[:3], ())
        assert np.abs(made.state.params - nodes.mean(SLOTS[:3])).max() < 1e-6


async def test_under_privacy_the_charge_is_durable_before_a_masked_update_is_asked_for(tmp_path):
    async with running(tmp_path, 5) as w:
        private = private_of(w)
        nodes, charged = Nodes(dict.fromkeys(SLOTS[:3], KINDS[3])), []
        ask = nodes.ask

        async def watched(slot, request, deadline):
            if isinstance(request, AskMasked):
                stored = await w.engine.context.store.privacy_spending()
                charged.append([one.sums.count for one in stored])
            return await ask(slot, request, deadline)

        nodes.calls.ask = watched
        secure = SecureSum(w.cluster, nodes, AVERAGING, LeftOut(), private)
        with pytest.raises(RoundFailed):
            await secure.combine(START, updates(), ())
        assert charged == [[1]] * 5
        # What was lost behind it stays charged.
        assert private.training.advance.privacy.sums == dict.fromkeys(SLOTS, 1)


async def test_a_servers_step_goes_on_from_the_mean_and_keeps_its_momentum(tmp_path):
    async with running(tmp_path, 5) as w:
        _, _, made = await summed(w, policy=FEDAVGM)
        assert made.state.server.method == "fedavgm"
        assert made.state.server.vectors["server_m"].any()
        assert isinstance(made.state, ModelState)


async def test_every_sum_has_a_name_of_its_own(tmp_path):
    async with running(tmp_path, 5) as w:
        names = set()
        for _ in range(2):
            nodes, _, _ = await summed(w)
            names |= {request.session for _, request in nodes.seen}
        assert len(names) == 2
