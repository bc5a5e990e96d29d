"""Which slot a deploy request means, which network it gets, and what it is warned of."""

from dataclasses import replace

import anyio
import pytest

from flow_nexus_neural.engine.nodes.deploy import deploy, report_isolation
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.errors import (
    InvalidArchitecture,
    InvalidArguments,
    LimitExceeded,
    NodeNotFound,
    UnsupportedCombination,
)
from flow_nexus_neural.runtime.base import Isolation
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.running import LAYERS, running, virtual_time

PORTS = Ports(patience=Patience(deduplication_s=10.0))
WIDE = ({"type": "dense", "units": 8}, {"type": "dense", "units": 1})


@pytest.fixture
def anyio_backend():
    return virtual_time()


def world(tmp_path, workers=1, **more):
    return running(tmp_path, workers, ports=PORTS, **more)


async def killed(w, name):
    node = w.node(name)
    node.kill()
    await node.wait_exit()
    await anyio.wait_all_tasks_blocked()


async def test_layers_that_are_given_win_over_the_size_and_say_so(tmp_path):
    async with world(tmp_path, 0) as w:
        made = await deploy(w.cluster, w.deploy_request(model="large"))
        assert made.layers[0]["units"] == LAYERS[0]["units"]
        assert made.layers_source == "given"
        assert any("layers win over model 'large'" in warning for warning in made.warnings)
        made = await deploy(w.cluster, w.deploy_request(model="custom"))
        assert not any("layers win" in warning for warning in made.warnings)


async def test_a_node_without_layers_takes_those_of_its_only_kind_of_peer(tmp_path):
    async with world(tmp_path) as w:
        made = await deploy(w.cluster, w.deploy_request(layers=None))
        assert (made.slot, made.layers_source) == ("worker-1", "peer")
        assert made.layers == [dict(layer) for layer in w.slots["worker-0"].spec.layers]


async def test_default_layers_that_an_earlier_version_stored_are_shared(tmp_path):
    async with world(tmp_path) as w:
        slot = w.slots["worker-0"]
        slot.spec = replace(slot.spec, layers_source="default")
        made = await deploy(w.cluster, w.deploy_request(layers=None))
        assert (made.layers_source, made.layers) == ("peer", [dict(x) for x in slot.spec.layers])


@pytest.mark.parametrize(
    "more", [{"model": "large"}, {"capabilities": ("btc_analysis",)}, {"role": "validator"}]
)
async def test_a_peer_of_another_kind_lends_nothing(tmp_path, more):
    async with world(tmp_path) as w:
        made = await deploy(w.cluster, w.deploy_request(layers=None, **more))
        assert made.layers_source == "default"


async def test_two_networks_among_the_peers_are_no_advice(tmp_path):
    async with world(tmp_path) as w:
        await w.deploy(layers=WIDE)
        made = await deploy(w.cluster, w.deploy_request(layers=None))
        assert made.layers_source == "default"


async def test_a_custom_model_needs_layers(tmp_path):
    async with world(tmp_path, 0) as w:
        with pytest.raises(UnsupportedCombination, match="'custom' needs layers") as refusal:
            await deploy(w.cluster, w.deploy_request(layers=None, model="custom"))
        assert "pass layers" in refusal.value.hint
        assert len(w.slots) == 0


async def test_layers_that_cannot_work_start_nothing(tmp_path):
    async with world(tmp_path, 0) as w:
        with pytest.raises(InvalidArchitecture):
            await deploy(w.cluster, w.deploy_request(layers=({"type": "nonsense"},)))
        assert (len(w.slots), w.runtime.nodes) == (0, [])


async def test_the_limit_names_the_failed_node_that_could_be_replaced(tmp_path):
    async with world(tmp_path, 2, max_nodes=2) as w:
        with pytest.raises(LimitExceeded, match="has 2 nodes; the limit is 2") as refusal:
            await deploy(w.cluster, w.deploy_request())
        assert "replace_node_id" not in refusal.value.hint
        await killed(w, "worker-1")
        with pytest.raises(LimitExceeded) as refusal:
            await deploy(w.cluster, w.deploy_request())
        assert refusal.value.hint.startswith("replace a failed node (replace_node_id 'worker-1')")


async def test_a_request_without_layers_replaces_a_failed_node_of_its_kind(tmp_path):
    async with world(tmp_path, 2) as w:
        former = w.slots["worker-0"].node_id
        await killed(w, "worker-0")
        made = await deploy(w.cluster, w.deploy_request(layers=None))
        assert (made.slot, made.incarnation, made.replaces) == ("worker-0", 2, former)
        assert (made.layers_source, made.deduplicated, made.healthy) == ("inherited", False, True)
        assert made.node_id != former
        assert len(w.slots) == 2


@pytest.mark.parametrize("more", [{"layers": LAYERS}, {"replace": False}, {"model": "large"}])
async def test_a_request_that_means_something_else_replaces_nothing(tmp_path, more):
    async with world(tmp_path) as w:
        await killed(w, "worker-0")
        made = await deploy(w.cluster, w.deploy_request(**{"layers": None} | more))
        assert (made.slot, made.replaces) == ("worker-1", None)
        assert w.slots["worker-0"].state == "failed"


async def test_a_node_can_be_replaced_by_name_or_by_id_once_it_failed(tmp_path):
    async with world(tmp_path, 2) as w:
        with pytest.raises(InvalidArguments, match="worker-1 is healthy; only a failed") as refusal:
            await deploy(w.cluster, w.deploy_request(replace_node_id="worker-1"))
        assert "leave replace_node_id out" in refusal.value.hint
        with pytest.raises(NodeNotFound, match="no node or slot 'worker-9'"):
            await deploy(w.cluster, w.deploy_request(replace_node_id="worker-9"))
        await killed(w, "worker-1")
        failed_id = w.slots["worker-1"].node_id
        made = await deploy(w.cluster, w.deploy_request(replace_node_id=failed_id, layers=None))
        assert (made.slot, made.replaces) == ("worker-1", failed_id)


@pytest.mark.parametrize(("stop_s", "build_s"), [(1.0, 0.0), (1.0, 2.0), (0.0, 2.0)])
@pytest.mark.parametrize("by", ["slot", "id"])
async def test_calls_that_force_one_replacement_while_it_is_made_share_it(
    tmp_path, by, stop_s, build_s
):
    faults = FaultPlan()
    async with world(tmp_path, 2, faults=faults) as w:
        await w.train()
        faults.slow("worker-0", "build", nth=faults.met("worker-0", "build") + 1, delay_s=build_s)
        slot = w.slots["worker-0"]
        former, handle = slot.node_id, slot.handle
        stop = handle.stop

        async def slowly(**more):
            await anyio.sleep(stop_s)
            await stop(**more)

        handle.stop = slowly
        named, reports = "worker-0" if by == "slot" else former, []

        async def replace(after_s):
            await anyio.sleep(after_s)
            request = w.deploy_request(replace_node_id=named, force=True, layers=None)
            reports.append(await deploy(w.cluster, request))

        async with anyio.create_task_group() as group:
            for after_s in (0.0, 0.0, 0.4):
                group.start_soon(replace, after_s)
        assert len(reports) == 3
        assert {report.node_id for report in reports[-1:]} == {slot.node_id}
        assert (slot.state, slot.incarnation <= 3) == ("healthy", True)
        assert len([n for n in w.runtime.nodes if not n.gone]) == 2


async def test_a_call_that_is_repeated_later_with_the_former_id_replaces_nothing(tmp_path):
    async with world(tmp_path) as w:
        former = w.slots["worker-0"].node_id
        request = w.deploy_request(replace_node_id=former, force=True, layers=None)
        first = await deploy(w.cluster, request)
        await anyio.sleep(100)
        again = await deploy(w.cluster, request)
        assert (again.node_id, again.deduplicated, again.replaces) == (first.node_id, True, None)
        assert "took the place of the node that is named" in again.warnings[0]


async def test_a_repeated_request_for_a_node_that_just_came_back_starts_no_second_one(tmp_path):
    async with world(tmp_path) as w:
        await killed(w, "worker-0")
        first = await deploy(w.cluster, w.deploy_request(layers=None))
        await anyio.sleep(9.9)
        again = await deploy(w.cluster, w.deploy_request(layers=None))
        assert (again.node_id, again.deduplicated, again.replaces) == (first.node_id, True, None)
        await anyio.sleep(0.2)
        later = await deploy(w.cluster, w.deploy_request(layers=None))
        assert (later.slot, later.deduplicated) == ("worker-1", False)


async def test_a_request_for_what_the_restarted_node_is_not_starts_a_further_one(tmp_path):
    async with world(tmp_path) as w:
        await killed(w, "worker-0")
        await deploy(w.cluster, w.deploy_request(layers=None))
        again = await deploy(w.cluster, w.deploy_request(layers=None))
        assert again.deduplicated
        assert any("nothing was deployed: worker-0" in line for line in again.warnings)
        other = await deploy(w.cluster, w.deploy_request(layers=None, autonomy=0.1))
        assert (other.slot, other.autonomy, other.deduplicated) == ("worker-1", 0.1, False)
        third = await deploy(w.cluster, w.deploy_request(layers=None, template="python"))
        assert (third.slot, third.template) == ("worker-2", "python")


async def test_two_requests_at_one_time_share_one_restart(tmp_path):
    async with world(tmp_path) as w:
        await killed(w, "worker-0")
        made = []

        async def ask():
            made.append(await deploy(w.cluster, w.deploy_request(layers=None)))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)
        assert [one.slot for one in made] == ["worker-0", "worker-0"]
        assert sorted(one.deduplicated for one in made) == [False, True]
        assert w.slots["worker-0"].incarnation == 2


async def test_a_node_that_joins_a_trained_cluster_serves_its_version_at_once(tmp_path):
    async with world(tmp_path, 2) as w:
        await w.train()
        made = await deploy(w.cluster, w.deploy_request())
        assert made.synced_version == w.committed.version == 2
        assert made.sync_ms is not None
        assert made.parameters == 4
        other = await deploy(w.cluster, w.deploy_request(layers=WIDE))
        assert (other.synced_version, other.sync_ms, other.parameters) == (None, None, None)


async def test_the_role_wins_over_the_node_type_and_both_are_told(tmp_path):
    async with world(tmp_path, 0) as w:
        made = await deploy(w.cluster, w.deploy_request("validator", node_type="worker"))
        assert (made.role, made.node_type, made.slot) == ("validator", "worker", "validator-0")
        assert "role 'validator' wins over node_type 'worker'" in made.warnings
        by_type = await deploy(w.cluster, w.deploy_request(None, node_type="worker"))
        assert (by_type.role, by_type.slot) == ("worker", "worker-0")
        assert not any("wins over" in warning for warning in by_type.warnings)


async def test_capabilities_that_do_nothing_are_named(tmp_path):
    async with world(tmp_path, 0) as w:
        made = await deploy(
            w.cluster, w.deploy_request(capabilities=("btc_analysis", "levitation"))
        )
        (warning,) = [text for text in made.warnings if "without an effect" in text]
        assert "levitation" in warning
        assert "btc_analysis" not in warning


def test_an_isolation_report_is_the_measurement_and_nothing_else():
    measured = Isolation(
        "process", {"seccomp": "off"}, {"open": "EACCES"}, ("memory",), ("landlock",), ("worker-1",)
    )
    assert report_isolation(measured).model_dump() == {
        "level": "process",
        "layers": {"seccomp": "off"},
        "probes": {"open": "EACCES"},
        "not_enforced": ["memory"],
        "missing": ["landlock"],
        "shared_with": ["worker-1"],
    }
