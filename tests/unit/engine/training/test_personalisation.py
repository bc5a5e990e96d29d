"""After the rounds slots train on by themselves, and answer with that where it helps."""

import numpy as np
import pytest

from flow_nexus_neural.engine.training import personalisation
from flow_nexus_neural.engine.training.personalisation import MOST_ROWS, Personaliser
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import OTHER_LAYERS, rows, running, virtual_time

N = 480
"""So many that 38 are validation rows."""


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def trained(w, **more):
    options = {"dataset": rows(N), "epochs": 10, "learning_rate": 0.02, "federated": True} | more
    training = await w.train(**options)
    assert (training.status, training.error) == ("completed", None)
    return training


def params_of(w):
    return {key: n.state.params.tolist() for key, n in w.committed.networks.items()}


async def test_slots_that_are_not_done_learning_answer_with_weights_of_their_own(tmp_path):
    async with running(tmp_path, 3) as w:
        training = await trained(w)
        found = training.personalisation
        assert (found.kept, found.epochs, found.validation_rows) == (True, 1, 38)
        assert found.personal_loss < found.shared_loss - 2 * found.standard_error
        assert [one.slot for one in found.slots] == ["worker-0", "worker-1", "worker-2"]
        for one in found.slots:
            assert one.kept
            assert one.loss < one.shared_loss
            assert one.steps == -(-one.rows // 8)
        networks = w.committed.networks
        assert {key: n.slots for key, n in networks.items()} == {
            "c0": (),
            **{f"c0@worker-{k}": (f"worker-{k}",) for k in range(3)},
        }
        assert len(set(w.committed.digests.values())) == 4
        answer = await w.predict()
        assert (answer.effective_ensemble_size, answer.model_version) == (3, w.committed.version)
        nodes = list(answer.node_predictions.values())
        assert answer.prediction == pytest.approx(np.mean(nodes))
        assert len(set(nodes)) == 3


async def test_the_ledger_names_whose_work_own_weights_are_and_of_what_they_were_made(tmp_path):
    async with running(tmp_path, 3) as w:
        training = await trained(w)
        *_, shared, one, two, three = await w.ledger("version")
        assert shared["cohort"] == "c0"
        for number, entry in enumerate((one, two, three)):
            assert (entry["cohort"], entry["rule"]) == (f"c0@worker-{number}", "personalised")
            assert entry["shared_digest"] == shared["weights_digest"]
            assert [member["slot"] for member in entry["contributors"]] == [f"worker-{number}"]
            assert (entry["parent"], entry["version"]) == (0, 1)
            assert entry["training_id"] == training.training_id


async def test_a_later_training_goes_on_from_the_shared_weights_and_counts_on(tmp_path):
    async with running(tmp_path, 3) as w:
        await trained(w)
        shared = w.committed.networks["c0"].digest
        again = await trained(w)
        assert again.advance.digest_before == shared
        assert again.personalisation.kept
        entries = await w.ledger("version")
        own = [e["version"] for e in entries if e["cohort"] == "c0@worker-1"]
        assert own == [1, 2]


async def test_equal_seeds_make_equal_weights(tmp_path):
    made = []
    for name in ("one", "two"):
        async with running(tmp_path / name, 3) as w:
            await trained(w)
            made.append((w.committed.digests, params_of(w)))
    assert made[0] == made[1]


async def test_after_a_restart_every_slot_answers_with_what_it_had(tmp_path):
    async with running(tmp_path, 3) as w:
        await trained(w)
        cluster_id, lived, before = w.cluster_id, w.committed, await w.predict()
    async with running(tmp_path, 0) as w:
        w.cluster = w.engine.cluster(cluster_id)
        found = w.committed
        assert (found.sha, found.digests) == (lived.sha, lived.digests)
        after = await w.predict(deadline_ms=5000)
        assert after.predictions == before.predictions
        assert sorted(after.node_predictions.values()) == sorted(before.node_predictions.values())
        assert w.cluster.state.latest_training.personalisation.kept


async def test_a_node_in_the_place_of_a_dead_one_loads_what_its_slot_had(tmp_path):
    services = {}

    def make(spec):
        services[spec.slot] = LinearService()
        return services[spec.slot]

    async with running(tmp_path, 3, service=make) as w:
        await trained(w)
        await w.kill("worker-1")
        await w.deploy(layers=None)
        own = w.committed.networks["c0@worker-1"].state.params.tolist()
        assert own in [one.tolist() for one in services["worker-1"].serving.values()]
        assert (await w.predict()).effective_ensemble_size == 3


async def test_a_worker_that_comes_later_answers_with_the_shared_weights(tmp_path):
    async with running(tmp_path, 2) as w:
        await trained(w)
        await w.deploy()
        networks = w.committed.networks
        assert networks["c0"].slots == ("worker-2",)
        assert (await w.predict()).effective_ensemble_size == 3


async def test_connecting_leaves_every_slot_its_own_weights(tmp_path):
    async with running(tmp_path, 3) as w:
        await trained(w)
        before, evaluation = w.committed.digests, w.committed.evaluation
        report = (await w.connect("star")).aggregation
        assert (report.performed, report.contributors, report.excluded) == (True, 3, [])
        assert w.committed.digests == before
        assert w.committed.evaluation == evaluation is not None


async def test_the_groups_that_are_trained_have_all_their_slots(tmp_path):
    async with running(tmp_path, 3) as w:
        await trained(w)
        (shared,) = w.committed.shared_networks.values()
        assert shared.slots == ("worker-0", "worker-1", "worker-2")
        assert shared.digest == w.committed.networks["c0"].digest


async def test_a_removed_slot_takes_its_own_weights_with_it(tmp_path):
    async with running(tmp_path, 3) as w:
        await trained(w)
        without = w.committed.without_slot("worker-1")
        assert set(without.networks) == {"c0", "c0@worker-0", "c0@worker-2"}


async def test_own_weights_are_computed_by_another_node_than_made_them(tmp_path):
    asked = []

    class Watched(LinearService):
        def on_infer(self, request, arrays, poll):
            params = self.regions[request.weights]["params"].tolist()
            asked.append((self.slot, params))
            return super().on_infer(request, arrays, poll)

    def make(spec):
        service = Watched()
        service.slot = spec.slot
        return service

    async with running(tmp_path, 2, service=make) as w:
        await trained(w)
        own = params_of(w)
        for slot, other in (("worker-0", "worker-1"), ("worker-1", "worker-0")):
            by = {who for who, params in asked if params == own[f"c0@{slot}"]}
            assert by == {other}


class Lying(LinearService):
    """Trains honestly with the others, and alone makes nonsense of what it was given."""

    def step(self, request, params, x, y):
        made = super().step(request, params, x, y)
        if self.alone:
            params *= -1.5
        return made

    def on_train(self, request, arrays, poll):
        self.alone = request.passes[0].order_seed in self.last_orders
        return super().on_train(request, arrays, poll)


async def test_nonsense_that_one_slot_made_alone_does_not_answer(tmp_path, monkeypatch):
    orders = []
    usual = personalisation.seed64

    def noted(*ids):
        orders.append(usual(*ids))
        return orders[-1]

    monkeypatch.setattr(personalisation, "seed64", noted)
    Lying.last_orders = orders

    def make(spec):
        return Lying() if spec.slot == "worker-1" else LinearService()

    async with running(tmp_path, 3, service=make) as w:
        training = await trained(w)
        kept = {one.slot: one.kept for one in training.personalisation.slots}
        assert kept == {"worker-0": True, "worker-1": False, "worker-2": True}
        assert w.committed.networks["c0"].slots == ("worker-1",)


async def test_a_node_that_dies_at_it_goes_on_with_the_shared_weights(tmp_path, monkeypatch):
    async with running(tmp_path, 3) as w:
        usual = Personaliser._updates

        async def killing(self, members, epochs):
            await w.kill("worker-2")
            return await usual(self, members, epochs)

        monkeypatch.setattr(Personaliser, "_updates", killing)
        training = await trained(w)
        assert training.personalisation.kept
        assert w.committed.network_of("worker-2").key == "c0"


async def test_a_failure_of_all_leaves_the_shared_weights_in_force_and_is_told(tmp_path):
    async with running(tmp_path, 2) as w:

        async def nobody(self, members, epochs):
            for slot in ("worker-0", "worker-1"):
                await w.kill(slot)
            return await usual(self, members, epochs)

        usual = Personaliser._updates
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Personaliser, "_updates", nobody)
            training = await w.train(dataset=rows(N), epochs=10, learning_rate=0.02, federated=True)
        assert not training.personalisation.kept
        assert "round_failed" in training.personalisation.reason
        assert set(w.committed.networks) == {"c0"}


@pytest.mark.parametrize(
    ("workers", "more", "why"),
    [
        (1, {}, "1 worker"),
        (2, {"epochs": 9}, "fewer than 10 epochs"),
        (2, {"dataset": rows(300)}, "24 validation rows"),
    ],
)
async def test_it_is_not_tried_where_it_cannot_help_or_costs_too_much(tmp_path, workers, more, why):
    async with running(tmp_path, workers) as w:
        found = (await trained(w, **more)).personalisation
        assert not found.kept
        assert why in found.reason
        assert (found.personal_loss, found.seconds, found.slots) == (None, None, None)


async def test_weights_of_more_than_a_bound_are_not_made(tmp_path, monkeypatch):
    monkeypatch.setattr(personalisation, "MOST_BYTES", 31)
    async with running(tmp_path, 2) as w:  # 4 parameters each
        assert "32 bytes" in (await trained(w)).personalisation.reason


async def test_what_is_learnt_to_the_end_is_not_improved_on(tmp_path):
    async with running(tmp_path, 2) as w:
        noisy = rows(N)
        noisy["y"] = [y + (11 * i % 19) / 19 for i, y in enumerate(noisy["y"])]
        found = (await trained(w, dataset=noisy, epochs=20, learning_rate=0.2)).personalisation
        assert not found.kept
        assert "not make the answer better" in found.reason
        assert set(w.committed.networks) == {"c0"}


async def test_different_networks_each_have_their_own_slots(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.deploy(layers=OTHER_LAYERS)
        await trained(w, dataset=rows(4 * N))
        keys = set(w.committed.networks)
        assert {"c0", "c1"} <= keys
        assert all(key.partition("@")[0] in ("c0", "c1") for key in keys)


async def test_a_refit_makes_own_weights_of_its_own_shared_ones(tmp_path):
    async with running(tmp_path, 3) as w:
        training = await trained(w, refit=True)
        assert (training.refit.state, training.personalisation.kept) == ("done", True)
        committed = w.committed
        assert set(committed.evaluated) == set(committed.networks)
        for key, network in committed.networks.items():
            assert network.digest != committed.evaluated[key].digest, key
        assert len(set(committed.digests.values())) == 4
        again = await trained(w, refit=False)
        assert again.advance.digest_before == committed.evaluated["c0"].digest


async def test_a_refit_without_the_own_weights_of_a_slot_leaves_what_was_evaluated(
    tmp_path, monkeypatch
):
    usual = Personaliser._updates

    async def all_but_the_last(self, members, epochs):
        updates = await usual(self, members, epochs)
        return updates[:-1] if self.training.phase == "refit" else updates

    monkeypatch.setattr(Personaliser, "_updates", all_but_the_last)
    async with running(tmp_path, 3) as w:
        training = await trained(w, refit=True)
        assert training.personalisation.kept
        assert training.refit.state == "failed"
        assert "worker-2 did not make its own weights anew" in training.refit.error
        assert (w.committed.evaluated, w.committed.evaluation is None) == ({}, False)


def test_of_many_validation_rows_some_at_equal_distances_decide():
    shown = personalisation._shown(10 * MOST_ROWS)
    assert len(shown) == MOST_ROWS
    assert set(np.diff(shown)) == {10}
    assert personalisation._shown(5).tolist() == [0, 1, 2, 3, 4]
    assert personalisation._shown(0).size == 0
