"""What private steps cost is charged durably before anybody learns of it, or nothing is."""

from dataclasses import replace

import pytest

from flow_nexus_neural.engine.training.charging import charge
from flow_nexus_neural.errors import PrivacyBudgetSpent
from tests.unit.coordination.test_privacy import settings
from tests.unit.engine.building import training
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.test_strategies import config


@pytest.fixture
def anyio_backend():
    return virtual_time()


def private(**changes):
    made = training()
    made.config = config(privacy=None if changes.pop("plain", False) else settings(**changes))
    made.advance = replace(made.advance, privacy=replace(made.advance.privacy, data=("rows",)))
    return made


async def stored(w):
    return [one.sums.count for one in await w.engine.context.store.privacy_spending()]


async def test_what_is_charged_is_on_disk_when_it_returns(tmp_path):
    async with running(tmp_path, 0) as w:
        made = private()
        await charge(w.cluster, made, {"worker-0": 2, "worker-1": 1})
        assert made.advance.privacy.sums == {"worker-0": 2, "worker-1": 1}
        assert await stored(w) == [2]


async def test_what_would_exceed_a_limit_is_not_charged_at_all(tmp_path):
    async with running(tmp_path, 0) as w:
        made = private(max_epsilon=7.0)
        await charge(w.cluster, made, {"worker-0": 1})
        with pytest.raises(PrivacyBudgetSpent, match="max_epsilon 7"):
            await charge(w.cluster, made, {"worker-0": 9})
        assert made.advance.privacy.sums == {"worker-0": 1}
        assert await stored(w) == [1]


async def test_two_trainings_on_the_same_data_share_one_limit(tmp_path):
    async with running(tmp_path, 0) as w:
        one, other = private(max_epsilon=7.0), private(max_epsilon=7.0)
        other.training_id, other.ordinal = "another", one.ordinal + 1
        await charge(w.cluster, one, {"worker-0": 2})
        with pytest.raises(PrivacyBudgetSpent):
            await charge(w.cluster, other, {"worker-0": 2})


async def test_a_training_without_privacy_is_a_mistake_of_the_caller(tmp_path):
    async with running(tmp_path, 0) as w:
        with pytest.raises(ValueError, match="not private"):
            await charge(w.cluster, private(plain=True), {"worker-0": 1})
