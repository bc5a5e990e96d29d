"""Sums of a private training: charged first, noised with a secret that leaves no trace, each with its own."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.registry import AVERAGING
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.private_sums import PrivateSums
from flow_nexus_neural.errors import PrivacyBudgetSpent
from tests.unit.coordination.test_privacy import settings
from tests.unit.engine.building import training
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import group
from tests.unit.engine.training.test_strategies import config

SLOTS = ["worker-0", "worker-1", "worker-2"]
START = group(SLOTS, params=[0.1, 0.2, 0.3, 0.4], optimizer="adam")


@pytest.fixture
def anyio_backend():
    return virtual_time()


def updates(n=2):
    return [Update(slot, START.state, "d", 10, 1, 7, 0.0, 0.0) for slot in SLOTS[:n]]


def private_of(w, **changes):
    chosen = settings(**changes)
    made = training()
    made.config = config(privacy=chosen)
    return PrivateSums(w.cluster, made, chosen)


async def test_two_sums_of_the_same_updates_have_different_noise(tmp_path):
    async with running(tmp_path, 0) as w:
        sums = private_of(w)
        one = await sums.combine(START, updates(), SLOTS, AVERAGING)
        other = await sums.combine(START, updates(), SLOTS, AVERAGING)
        assert not np.array_equal(one.state.params, other.state.params)
        assert sums.training.advance.privacy.sums == dict.fromkeys(SLOTS, 2)
        # The divisor is those who were asked, not those who delivered.
        assert one.evidence["privacy"]["clients"] == 3
        assert (one.state.opt_step, one.state.moments["m"].any()) == (0, False)


async def test_the_key_is_neither_shown_nor_stored(tmp_path):
    async with running(tmp_path, 0) as w:
        sums = private_of(w)
        await sums.combine(START, updates(), SLOTS, AVERAGING)
        key = sums._key
        assert len(key) == 32
        assert key.hex() not in repr(sums)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        kept = b"".join(path.read_bytes() for path in files)
        assert b"privacy_charged" in kept
        assert key not in kept
        assert key.hex().encode() not in kept
        assert private_of(w)._key != key


async def test_a_sum_beyond_a_limit_is_refused_and_not_charged(tmp_path):
    async with running(tmp_path, 0) as w:
        sums = private_of(w, max_epsilon=7.0)
        await sums.combine(START, updates(), SLOTS, AVERAGING)
        await sums.combine(START, updates(), SLOTS, AVERAGING)
        with pytest.raises(PrivacyBudgetSpent, match="max_epsilon 7"):
            await sums.combine(START, updates(), SLOTS, AVERAGING)
        spent = sums.training.advance.privacy
        assert spent.most == 2
        assert spent.epsilon_of_data < 7.0
        stored = await w.engine.context.store.privacy_spending()
        assert [one.sums.count for one in stored] == [2]


async def test_the_adaptive_norm_is_kept_per_network(tmp_path):
    async with running(tmp_path, 0) as w:
        sums = private_of(w, adaptive=True, clip_norm=0.5)
        first = await sums.combine(START, updates(), SLOTS, AVERAGING)
        told = first.evidence["privacy"]["next_clip_norm"]
        assert sums.training.advance.privacy.clip_norms == {"c0": told}
        second = await sums.combine(START, updates(), SLOTS, AVERAGING)
        assert second.evidence["privacy"]["clip_norm"] == told
        other = await sums.combine(replace(START, key="c1"), updates(), SLOTS, AVERAGING)
        assert other.evidence["privacy"]["clip_norm"] == 0.5


def test_clients_start_with_fresh_moments():
    worn = replace(START, state=replace(START.state, opt_step=9))
    worn.state.moments["m"][:] = 3.0
    begun = worn.with_fresh_moments()
    assert (begun.state.opt_step, begun.state.moments["m"].any()) == (0, False)
    assert begun.digest == worn.digest
    bare = replace(START, state=None)
    assert bare.with_fresh_moments() is bare
