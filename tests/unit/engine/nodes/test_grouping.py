"""Which workers share a process: only where one process may be one failure, and only with equals."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.engine.nodes.grouping import group_of, why_alone
from flow_nexus_neural.settings import Settings
from tests.unit.engine.building import cluster_state, live, slot


def cluster(tmp_path, *names, groups="2", runtime_groups=True, max_nodes=32, **init):
    made = cluster_state(**{"consensus": "raft", **init})
    for name in names:
        made.slots.add(slot(name))
    found = live(made)
    found.context.settings = Settings(state_dir=tmp_path, node_groups=groups, max_nodes=max_nodes)
    capabilities = SimpleNamespace(groups=runtime_groups, places=4)
    found.context.runtime = SimpleNamespace(capabilities=capabilities)
    return found


def places(made):
    return [(group_of(made, one)[0] or "alone").rpartition("/")[2] for one in made.slots]


WORKERS = ("worker-0", "worker-1", "worker-2", "worker-3", "worker-10")


def test_workers_of_one_network_are_dealt_out_in_slot_order(tmp_path):
    made = cluster(tmp_path, *WORKERS)
    assert places(made) == ["0", "1", "0", "1", "0"]
    group, size = group_of(made, made.slots["worker-0"])
    assert group.startswith("dnc_1/")
    assert size == 16
    assert places(cluster(tmp_path, *WORKERS, groups="auto")) == ["0", "1", "2", "3", "0"]


def test_a_process_never_holds_more_than_64_nodes(tmp_path):
    made = cluster(tmp_path, *WORKERS, groups="1", max_nodes=256)
    assert group_of(made, made.slots["worker-0"])[1] == 64


def test_workers_with_other_layers_do_not_share_a_process(tmp_path):
    made = cluster(tmp_path, *WORKERS[:2], groups="1")
    other = slot("worker-2")
    object.__setattr__(other.spec, "layers", ({"type": "dense", "units": 9},))
    made.slots.add(other)
    groups = [group_of(made, one)[0] for one in made.slots]
    assert groups[0] == groups[1] != groups[2]


@pytest.mark.parametrize("role", ["aggregator-0", "validator-0", "parameter_server-0"])
def test_only_workers_share_a_process(tmp_path, role):
    made = cluster(tmp_path, role)
    assert group_of(made, made.slots[role]) == (None, 1)


@pytest.mark.parametrize("consensus", ["proof-of-learning", "byzantine"])
def test_no_process_is_shared_where_one_would_be_several_liars(tmp_path, consensus):
    made = cluster(tmp_path, *WORKERS, consensus=consensus)
    assert group_of(made, made.slots["worker-0"]) == (None, 1)


def test_gossip_shares_processes_too(tmp_path):
    assert places(cluster(tmp_path, *WORKERS[:2], consensus="gossip")) == ["0", "1"]


@pytest.mark.parametrize("why", [{"groups": "off"}, {"runtime_groups": False}])
def test_the_setting_and_the_runtime_can_switch_it_off(tmp_path, why):
    made = cluster(tmp_path, *WORKERS, **why)
    assert group_of(made, made.slots["worker-0"]) == (None, 1)


def test_who_wants_groups_and_gets_none_is_told_why(tmp_path):
    (exec_like,) = why_alone(cluster(tmp_path, runtime_groups=False), "worker")
    assert "started one by one" in exec_like
    (proved,) = why_alone(cluster(tmp_path, consensus="proof-of-learning"), "worker")
    assert "node groups (2) have no effect" in proved
    assert "proof-of-learning" in proved


def test_nobody_is_told_who_has_groups_or_wants_none(tmp_path):
    assert why_alone(cluster(tmp_path), "worker") == []
    assert why_alone(cluster(tmp_path, runtime_groups=False), "validator") == []
    assert why_alone(cluster(tmp_path, runtime_groups=False, groups="off"), "worker") == []
