"""Which slot a deploy means, which network it gets, and what is left when it fails."""

import anyio
import pytest

from flow_nexus_neural.errors import (
    ClusterTerminated,
    InvalidArchitecture,
    InvalidArguments,
    LimitExceeded,
    NeuralError,
    NodeNotFound,
    StoreUnavailable,
    UnsupportedCombination,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.doubles.seeded import run_seeded
from tests.sim.scheduled import scheduled_world
from tests.sim.simulated import LAYERS, honest, node_of, world

ROLES = ("worker", "parameter_server", "aggregator", "validator")


async def fail(w, cluster, *slots):
    for slot in slots:
        w.kill(slot)
    await w.until(cluster, lambda s: s.failed_nodes == len(slots))


async def test_a_capability_that_changes_nothing_is_named(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0)
        asked = ("btc_analysis", "training", "real_time_inference", "x")
        report = await w.deploy(cluster, capabilities=asked)
        (warning,) = [text for text in report.warnings if "without an effect" in text]
        assert warning.endswith(": real_time_inference, x")
        plain = await w.deploy(cluster, capabilities=("training", "eth_analysis"))
        assert not any("without an effect" in text for text in plain.warnings)


@pytest.mark.parametrize("tag", ["btc_analysis", "BTC_analysis", "BTC_Analysis"])
async def test_a_tag_means_the_same_in_any_case(tmp_path, tag):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0, topology="hierarchical")
        for _ in range(2):
            await w.deploy(cluster, "aggregator", layers=None)
        for asked in ("eth_analysis", "btc_analysis", "Eth_Analysis", tag):
            report = await w.deploy(cluster, capabilities=(asked,))
            assert report.capabilities == [asked]
            assert not any("without an effect" in text for text in report.warnings)
        # One aggregator adopts the workers of one symbol.
        edges = {(edge.from_slot, edge.to_slot) for edge in (await w.connect(cluster)).edges}
        workers = {("aggregator-0", "worker-1"), ("aggregator-0", "worker-3")}
        workers |= {("aggregator-1", "worker-0"), ("aggregator-1", "worker-2")}
        assert {edge for edge in edges if edge[1].startswith("worker")} == workers
        # The failed node is meant, however its tag is written.
        await fail(w, cluster, "worker-1")
        again = await w.deploy(cluster, layers=None, capabilities=(tag.upper(),))
        assert (again.slot, again.incarnation) == ("worker-1", 2)


@pytest.mark.parametrize("alpha", ["0.0001", "5000"])
async def test_an_alpha_that_cannot_be_is_refused_before_the_data_are_looked_for(tmp_path, alpha):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        with pytest.raises(InvalidArguments, match=r"from 0\.001 to 1000"):
            await w.start(cluster, "no_such_file.csv", partition=f"dirichlet:{alpha}")


async def test_role_wins_over_node_type_and_both_over_the_default(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0)
        for role in ROLES:
            report = await w.deploy(cluster, None, node_type=role, layers=None)
            assert (report.role, report.node_type, report.slot) == (role, role, f"{role}-0")
        report = await w.deploy(cluster, None, layers=None)
        assert (report.role, report.slot) == ("worker", "worker-1")
        report = await w.deploy(cluster, "validator", node_type="worker", layers=None)
        assert (report.role, report.node_type) == ("validator", "worker")
        assert any("wins over node_type" in warning for warning in report.warnings)
        status = await w.status(cluster)
        assert (status.total_nodes, status.active_nodes) == (6, 6)


async def test_the_network_is_given_else_of_a_peer_else_the_default(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0, architecture="cnn")
        default = await w.deploy(cluster, layers=None)
        assert (default.layers_source, default.parameters) == ("default", None)
        assert (await w.deploy(cluster, layers=None)).layers_source == "default"
        given = await w.deploy(cluster, capabilities=("btc_analysis",))
        assert given.layers_source == "given"
        assert [layer["units"] for layer in given.layers] == [6, 1]
        assert any("layers win over model" in warning for warning in given.warnings)
        peer = await w.deploy(cluster, layers=None, capabilities=("btc_analysis",))
        assert (peer.layers_source, peer.layers) == ("peer", given.layers)
        other = await w.deploy(cluster, layers=None, capabilities=("eth_analysis",))
        assert other.layers_source == "default"
        # Two networks among the peers name none.
        await w.deploy(cluster, layers=LAYERS[:1], capabilities=("btc_analysis",))
        again = await w.deploy(cluster, layers=None, capabilities=("btc_analysis",))
        assert again.layers_source == "default"
        assert len(await w.versions(cluster)) == 0


async def test_impossible_requests_start_nothing(tmp_path):
    async with world(tmp_path, max_nodes=2) as w:
        cluster = await w.cluster(1)
        for more, failure in (
            ({"model": "custom", "layers": None}, UnsupportedCombination),
            ({"layers": ({"type": "dens", "units": 3},)}, InvalidArchitecture),
            ({"replace_node_id": "worker-9"}, NodeNotFound),
            ({"replace_node_id": "worker-0"}, InvalidArguments),
        ):
            with pytest.raises(failure):
                await w.deploy(cluster, **more)
        await w.deploy(cluster)
        with pytest.raises(LimitExceeded, match="the limit is 2"):
            await w.deploy(cluster)
        assert len(w.runtime.nodes) == 2
        assert (await w.status(cluster)).total_nodes == 2


async def test_a_network_that_does_not_fit_the_data_is_named_by_its_workers(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.deploy(cluster, layers=({"type": "conv1d", "filters": 2, "kernel_size": 9},))
        with pytest.raises(InvalidArchitecture, match=r"worker-1: layers\[0\] conv1d spans 9"):
            await w.train(cluster)


async def test_concurrent_deploys_respect_the_limit(tmp_path):
    async with world(tmp_path, max_nodes=3) as w:
        cluster = await w.cluster(0)
        refused = []

        async def deploy():
            try:
                await w.deploy(cluster)
            except LimitExceeded as refusal:
                refused.append(refusal)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(deploy)
        assert len(refused) == 2
        slots = [node.slot for node in (await w.status(cluster)).nodes]
        assert slots == ["worker-0", "worker-1", "worker-2"]


async def test_a_deploy_without_layers_replaces_a_failed_slot_of_its_kind(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.deploy(cluster, "validator")
        former = {node.slot: node for node in (await w.status(cluster)).nodes}
        await fail(w, cluster, "worker-1", "validator-0")
        report = await w.deploy(cluster, layers=None)
        assert (report.slot, report.incarnation) == ("worker-1", 2)
        assert report.replaces == former["worker-1"].node_id != report.node_id
        assert report.layers_source == "inherited"
        report = await w.deploy(cluster, "validator", layers=None)
        assert (report.slot, report.incarnation) == ("validator-0", 2)
        assert (await w.status(cluster)).total_nodes == 4


@pytest.mark.parametrize(
    "more", [{"layers": LAYERS}, {"replace": False}, {"capabilities": ("x",)}, {"model": "large"}]
)
async def test_another_kind_or_wish_opens_a_new_slot(tmp_path, more):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await fail(w, cluster, "worker-0")
        report = await w.deploy(cluster, **{"layers": None} | more)
        assert (report.slot, report.replaces) == ("worker-1", None)


async def test_a_failed_node_is_replaced_by_its_id(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        former = {node.slot: node.node_id for node in (await w.status(cluster)).nodes}
        await fail(w, cluster, "worker-1", "worker-2")
        report = await w.deploy(cluster, layers=None, replace_node_id=former["worker-2"])
        assert (report.slot, report.replaces) == ("worker-2", former["worker-2"])


async def test_a_healthy_node_is_replaced_only_when_that_is_forced_and_the_former_is_told(
    tmp_path,
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.train(cluster)
        before = await w.predict(cluster)
        former = node_of(await w.status(cluster), "worker-1")
        with pytest.raises(InvalidArguments, match="worker-1 is healthy"):
            await w.deploy(cluster, layers=None, replace_node_id="worker-1")
        with pytest.raises(InvalidArguments, match="names none"):
            await w.deploy(cluster, layers=None, force=True)
        report = await w.deploy(cluster, layers=None, replace_node_id="worker-1", force=True)
        assert (report.slot, report.incarnation, report.replaces) == (
            "worker-1",
            2,
            former.node_id,
        )
        assert report.synced_version == before.model_version
        (gone,) = (await w.status(cluster)).retired_nodes
        assert (gone.node_id, gone.slot, gone.incarnation) == (former.node_id, "worker-1", 1)
        assert gone.reason == "replaced on request"
        assert (await w.status(cluster, detail="nodes")).retired_nodes == []
        answer = await w.predict(cluster)
        assert (answer.nodes_used, answer.prediction) == (2, before.prediction)
        w.kill("worker-1")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        await w.deploy(cluster, layers=None)
    async with world(tmp_path) as w:
        await w.predict(cluster)
        gone = (await w.status(cluster)).retired_nodes
        assert [one.incarnation for one in gone if one.slot == "worker-1"] == [1, 2, 3]
        assert "node_died" in gone[-2].reason


async def test_concurrent_recoveries_of_one_node_start_one(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await fail(w, cluster, "worker-0")
        reports = []

        async def recover():
            reports.append(await w.deploy(cluster, layers=None))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(recover)
        assert len({report.node_id for report in reports}) == 1
        assert {report.incarnation for report in reports} == {2}
        assert [report.deduplicated for report in reports].count(False) == 1
        assert len([n for n in w.runtime.nodes if n.spec.slot == "worker-0"]) <= 2


@pytest.mark.parametrize("force", [False, True], ids=["failed", "healthy and forced"])
async def test_concurrent_calls_that_name_one_node_replace_it_once(tmp_path, force):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        former = node_of(await w.status(cluster), "worker-0").node_id
        if not force:
            await fail(w, cluster, "worker-0")
        reports, refused = [], []

        async def replace():
            try:
                made = await w.deploy(cluster, layers=None, replace_node_id=former, force=force)
            except NeuralError as refusal:
                refused.append(refusal.message)
            else:
                reports.append(made)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(replace)
        status = await w.status(cluster)
        node = node_of(status, "worker-0")
        assert (node.incarnation, node.healthy, status.total_nodes) == (2, True, 2)
        assert {report.node_id for report in reports} == {node.node_id}
        assert [report.replaces for report in reports if not report.deduplicated] == [former]
        assert refused == [], refused
        assert [one.incarnation for one in status.retired_nodes] == [1]
        assert len([n for n in w.runtime.nodes if n.spec.slot == "worker-0"]) <= 2


async def test_concurrent_recoveries_replace_every_failed_node_before_they_join_one(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(4)
        await fail(w, cluster, "worker-0", "worker-1", "worker-3")
        reports = []

        async def recover():
            reports.append(await w.deploy(cluster, layers=None))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(recover)
        fresh = [report.slot for report in reports if not report.deduplicated]
        assert sorted(fresh) == ["worker-0", "worker-1", "worker-3"]
        assert (await w.status(cluster)).active_nodes == 4


async def test_a_full_cluster_points_to_its_failed_nodes(tmp_path):
    async with world(tmp_path, max_nodes=2) as w:
        cluster = await w.cluster(2)
        await fail(w, cluster, "worker-1")
        with pytest.raises(LimitExceeded) as caught:
            await w.deploy(cluster)
        assert "replace_node_id 'worker-1'" in caught.value.hint
        await w.deploy(cluster, replace_node_id="worker-1")
        with pytest.raises(LimitExceeded) as caught:
            await w.deploy(cluster)
        assert "replace" not in caught.value.hint


@pytest.mark.parametrize("head_start", range(0, 40, 2))
async def test_a_deploy_that_meets_the_end_of_its_cluster_says_so(tmp_path, head_start):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster)
        refusals = []

        async def deploy():
            try:
                await w.deploy(cluster)
            except NeuralError as refusal:
                refusals.append(refusal)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(deploy)
            for _ in range(head_start):
                await anyio.lowlevel.checkpoint()
            await w.terminate(cluster)
        assert {type(refusal) for refusal in refusals} <= {ClusterTerminated}
        assert all(node.gone for node in w.runtime.nodes)


def test_a_monitor_that_repeats_itself_gets_the_same_node_for_ten_seconds(tmp_path):
    async def repeat():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(2)
            await fail(w, cluster, "worker-0")
            first = await w.deploy(cluster, layers=None)
            await anyio.sleep(9.9)
            second = await w.deploy(cluster, layers=None)
            assert (second.node_id, second.deduplicated) == (first.node_id, True)
            assert not first.deduplicated
            await anyio.sleep(0.1)
            third = await w.deploy(cluster, layers=None)
            assert (third.slot, third.deduplicated) == ("worker-2", False)

    run_seeded(repeat)


async def test_a_start_that_fails_leaves_no_slot_and_no_process(tmp_path):
    broken = set()

    def service(spec):
        if spec.slot in broken:
            raise RuntimeError("no luck")
        return honest(spec)

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(1)
        broken.add("worker-1")
        with pytest.raises(NeuralError, match="worker-1 ended before it was ready"):
            await w.deploy(cluster)
        status = await w.status(cluster)
        assert (status.total_nodes, status.status) == (1, "initialized")
        assert all(n.gone for n in w.runtime.nodes if n.spec.slot == "worker-1")
        report = await w.deploy(cluster)
        assert report.slot == "worker-2"  # a name is never used twice
        await w.train(cluster)
        await fail(w, cluster, "worker-2")
        broken.add("worker-2")
        with pytest.raises(NeuralError, match="worker-2 ended before it was ready"):
            await w.deploy(cluster, layers=None)
        status = await w.status(cluster)
        assert (status.total_nodes, status.failed_nodes) == (2, 1)
        broken.clear()
        assert (await w.deploy(cluster, layers=None)).slot == "worker-2"


@pytest.mark.parametrize("fault", ["kill", "garbage"])
@pytest.mark.parametrize("kind", ["build", "load", "grant"])
async def test_a_node_that_cannot_be_synchronised_is_never_healthy(tmp_path, kind, fault):
    faults = FaultPlan()
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(2)
        await w.train(cluster)
        await fail(w, cluster, "worker-1")
        getattr(faults, fault)("worker-1", kind, nth=faults.met("worker-1", kind) + 1)
        with pytest.raises(NeuralError, match="worker-1"):
            await w.deploy(cluster, layers=None)
        node = next(n for n in (await w.status(cluster)).nodes if n.slot == "worker-1")
        assert (node.status, node.healthy) == ("failed", False)
        assert all(n.gone for n in w.runtime.nodes if n.spec.slot == "worker-1")
        assert (await w.predict(cluster)).nodes_used == 1
        assert (await w.deploy(cluster, layers=None)).synced_version == 3
        assert (await w.predict(cluster)).nodes_used == 2


async def test_a_cancelled_deploy_is_finished_or_leaves_nothing(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0)
        async with anyio.create_task_group() as group:
            group.start_soon(w.deploy, cluster)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        status = await w.status(cluster)
        living = [node for node in w.runtime.nodes if not node.gone]
        assert status.total_nodes == status.active_nodes == len(living)


async def test_a_slot_that_never_came_up_does_not_come_back_with_the_next_server(tmp_path):
    def service(spec):
        if spec.slot == "worker-1":
            raise RuntimeError("no luck")
        return honest(spec)

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(1)
        with pytest.raises(NeuralError):
            await w.deploy(cluster)
    async with world(tmp_path) as w:
        assert [node.slot for node in (await w.status(cluster)).nodes] == ["worker-0"]
        assert (await w.deploy(cluster)).slot == "worker-2"  # a name is never used twice


async def test_a_slot_whose_start_could_not_be_recorded_does_not_come_back(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        w.disk.fail_once(JOURNAL, disk_is_full())
        with pytest.raises(StoreUnavailable):
            await w.deploy(cluster)
    async with world(tmp_path) as w:
        assert [node.slot for node in (await w.status(cluster)).nodes] == ["worker-0"]
