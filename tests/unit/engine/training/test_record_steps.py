"""DP-SGD in the workers is paid for first, and no two assignments share their noise."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flow_nexus_neural.engine.training.record_steps import RecordSteps
from flow_nexus_neural.engine.training.tasks import Base, Task
from flow_nexus_neural.errors import PrivacyBudgetSpent
from tests.unit.coordination.test_privacy import settings
from tests.unit.engine.building import slot, training
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import group
from tests.unit.engine.training.test_strategies import config

STEPS, ROWS = 3, 40


@pytest.fixture
def anyio_backend():
    return virtual_time()


EXCHANGE = SimpleNamespace(steps_of=lambda _slot, _passes: STEPS, rows_of=lambda _slot: ROWS)


def record_steps(w, **changes):
    chosen = settings(mode="record_dp", sampling_rate=0.25, steps=STEPS, **changes)
    made = training()
    made.config = config(privacy=chosen)
    return RecordSteps(w.cluster, made, chosen)


def task(name):
    return Task(
        slot=slot(name),
        network=group([name], params=[0.1, 0.2, 0.3, 0.4]),
        base=Base("base", None),
        copied=True,
        opt_step=0,
        passes=(),
        dropout_seed=1,
        work=1.0,
    )


async def test_every_assignment_is_paid_for_and_has_a_key_of_its_own(tmp_path):
    async with running(tmp_path, 0) as w:
        steps = record_steps(w)
        tasks = [task("worker-0"), task("worker-1")]
        first = await steps.charged(EXCHANGE, tasks)
        again = await steps.charged(EXCHANGE, tasks)
        assert steps.training.advance.privacy.sums == {"worker-0": 6, "worker-1": 6}
        assert len({one.private.key for one in first + again}) == 4
        assert [replace(one, private=None) for one in first] == tasks
        assert first[0].private.expected_rows == 0.25 * ROWS


async def test_two_trainings_have_other_keys_for_the_same_assignment(tmp_path):
    async with running(tmp_path, 0) as w:
        one, other = record_steps(w), record_steps(w)
        (mine,) = await one.charged(EXCHANGE, [task("worker-0")])
        (theirs,) = await other.charged(EXCHANGE, [task("worker-0")])
        assert mine.private.key != theirs.private.key


async def test_beyond_the_limit_nobody_gets_a_key(tmp_path):
    async with running(tmp_path, 0) as w:
        steps = record_steps(w, max_epsilon=0.1)
        with pytest.raises(PrivacyBudgetSpent):
            await steps.charged(EXCHANGE, [task("worker-0")])
        assert steps.training.advance.privacy.most == 0
