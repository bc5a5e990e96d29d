"""Updates become a state: by a rule, by the rule that trusted rows prefer, or against a trusted update."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.registry import find_policy
from flow_nexus_neural.coordination.consensus.robust_rule import RobustRule
from flow_nexus_neural.coordination.consensus.tolerance import Tolerance
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.training.trusted_rows import Trusted, TrustedRows
from flow_nexus_neural.engine.versions.aggregate import aggregate
from flow_nexus_neural.errors import NoWorkers, RoundFailed
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import group
from tests.unit.engine.training.test_trusted_rows import RECIPE, TRUSTED

TRUTH = np.array([1.0, -2.0, 0.5, 0.3], "f4")
START = group([f"worker-{k}" for k in range(7)], params=[0.1, 0.2, 0.3, 0.4])
RUN = (4, 1)


@pytest.fixture
def anyio_backend():
    return virtual_time()


def updates(*liars, lie=-10.0):
    """Seven updates near the truth, those of the liars in the opposite direction."""
    draw = np.random.Generator(np.random.PCG64(8))
    made = []
    for k in range(7):
        change = 0.5 * (TRUTH - START.state.params) + 0.05 * draw.standard_normal(4).astype("f4")
        params = START.state.params + change.astype("f4") * np.float32(lie if k in liars else 1.0)
        state = replace(START.state, params=params)
        made.append(
            Update(f"worker-{k}", state, "d", rows=10, steps=1, opt_step=1, loss=0.0, cpu_s=0.0)
        )
    return made


def combiner(w, name, trusted=TRUSTED, *, f=None):
    policy = find_policy(name)
    if f is not None:
        policy = policy.tolerating(Tolerance(f, exact=True))
    rows = None if trusted is None else TrustedRows(w.cluster, trusted)
    made = Combiner(w.engine.context, policy, rows, RUN, 1)
    made.begin_round(1)
    return made


def off(made):
    return float(np.linalg.norm(made.state.params - TRUTH))


async def test_a_rule_without_trusted_rows_is_applied_as_it_is(tmp_path):
    async with running(tmp_path, 1) as w:
        made = await combiner(w, "fedavg", None).combine(START, updates())
        plain = aggregate(START.state, updates(), FederatedAveraging())
        assert made.state.params.tobytes() == plain.state.params.tobytes()


@pytest.mark.parametrize("liars", [(), (1, 4)])
async def test_what_was_selected_is_applied_to_moments_too(tmp_path, liars):
    def with_moments(state, k):
        return replace(state, moments={"m": np.full(4, k, "f4"), "v": np.full(4, k + 1, "f4")})

    start = replace(START, state=with_moments(START.state, 0))
    sent = [replace(u, state=with_moments(u.state, k)) for k, u in enumerate(updates(*liars))]
    async with running(tmp_path, 1) as w:
        await w.deploy("validator")
        made = await combiner(w, "validated").combine(start, sent)
        chosen = find_policy("validated").candidates(7)[made.evidence["selection"]["chosen"]]
        alone = aggregate(start.state, sent, chosen)
        assert (made.evidence["rule"] == "mean") == (not liars)
        for name, array in alone.state.arrays.items():
            assert made.state.arrays[name].tobytes() == array.tobytes()
        assert not np.array_equal(made.state.moments["m"], start.state.moments["m"])


async def test_where_all_are_honest_the_mean_is_kept(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy("validator")
        made = await combiner(w, "validated").combine(START, updates())
        assert made.evidence["selection"]["chosen"] == made.evidence["rule"] == "mean"
        assert made.evidence["selection"]["rows"] == 64
        assert set(made.evidence["selection"]["loss"]) == {
            "mean",
            "caf, f = 2",
            "caf, f = 3",
            "nnm+trimmed_mean, f = 2",
            "geometric_median",
        }


@pytest.mark.parametrize("liars", [(0, 3), (1, 2, 5)])
async def test_a_rule_takes_the_means_place_where_that_would_cost_loss(tmp_path, liars):
    async with running(tmp_path, 1) as w:
        await w.deploy("validator")
        made = await combiner(w, "validated").combine(START, updates(*liars))
        told = made.evidence["selection"]
        assert told["chosen"] != "mean"
        assert told["deviations"][told["chosen"]] > 2
        assert told["loss"][told["chosen"]] < told["loss"]["mean"]
        plain = aggregate(START.state, updates(*liars), FederatedAveraging())
        assert off(made) < 0.6 * off(replace(made, state=START.state)) < off(plain)
        if len(liars) == 3:
            assert told["chosen"] == "caf, f = 3", "f below a third does not know of so many"


@pytest.mark.parametrize("case", ["no validator", "few rows", "no rows"])
async def test_where_nobody_can_tell_it_is_auto_and_the_evidence_says_why(tmp_path, case):
    few = Trusted(TRUSTED.rows.at(slice(0, 63)), "regression", RECIPE)
    async with running(tmp_path, 1) as w:
        if case != "no validator":
            await w.deploy("validator")
        rows = {"few rows": few, "no rows": None}.get(case, TRUSTED)
        made = await combiner(w, "validated", rows).combine(START, updates(1))
        plain = aggregate(START.state, updates(1), find_policy("auto"))
        assert made.state.params.tobytes() == plain.state.params.tobytes()
        assert made.evidence["rule"] == "caf"
        assert made.evidence["selection"]["off"]


async def test_against_a_trusted_update_most_may_lie(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy("validator")
        made = await combiner(w, "fltrust", f=4).combine(START, updates(0, 1, 2, 3, 4))
        assert off(made) < off(replace(made, state=START.state))
        assert set(made.excluded) == {f"worker-{k}" for k in range(5)}
        assert made.weights["worker-0"] == 0


async def test_without_a_validator_or_rows_there_is_no_trusted_update(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 1, faults=faults) as w:
        with pytest.raises(NoWorkers, match="no healthy validator"):
            await combiner(w, "fltrust").combine(START, updates())
        with pytest.raises(RoundFailed, match="too few trusted rows"):
            await combiner(w, "fltrust", None).combine(START, updates())
        await w.deploy("validator")
        faults.kill("validator-0", "train")
        with pytest.raises(RoundFailed, match="no update from a validator"):
            await combiner(w, "fltrust").combine(START, updates())


async def test_buckets_follow_from_the_round_and_the_exchange_in_it(tmp_path, monkeypatch):
    seeds = []
    combine = RobustRule.combine

    def seen(self, *given):
        seeds.append(self.seed)
        return combine(self, *given)

    monkeypatch.setattr(RobustRule, "combine", seen)
    async with running(tmp_path, 1) as w:
        made = combiner(w, "bucketing+caf")
        for number in (1, 1, 2):
            made.begin_round(number)
            for _ in range(2):
                await made.combine(START, updates())
    assert seeds[:2] == seeds[2:4]
    assert len(set(seeds)) == 4
