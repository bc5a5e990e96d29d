import numpy as np

from flow_nexus_neural.runtime.ray.hosts import Host, least_loaded
from flow_nexus_neural.runtime.ray.memory import HostRegion


class Stream:
    def __init__(self):
        self.sent = []

    def send(self, host, header, *body):
        self.sent.append((host, header["kind"], sum(len(part) for part in body)))


def host(number, cores=2, *, here=False):
    told = {"name": f"h{number}", "address": f"10.0.0.{number}", "cores": cores}
    return Host(number, {**told, "isolation": "strict", "is_here": here}, Stream())


def test_nodes_are_spread_by_the_cores_of_hosts_and_equal_loads_go_to_the_first():
    small, large = host(1, 2), host(2, 4)
    placed = []
    for _ in range(6):
        placed.append(least_loaded([small, large], placed))
    assert [one.number for one in placed] == [1, 2, 2, 1, 2, 2]


def test_a_lost_host_gets_no_node_and_without_hosts_there_is_none():
    one, other = host(1), host(2)
    one.lost = True
    assert least_loaded([one, other], [other] * 9) is other
    other.lost = True
    assert least_loaded([one, other], []) is None


def test_a_host_is_sent_a_region_once_and_again_only_after_it_was_given_up():
    given_up = []
    region = HostRegion("base", {"params": np.ones(4, "f4")}, given_up.append)
    found = host(1)
    assert [found.hold(region), found.hold(region)] == [16, 0]
    found.drop(region.number)
    found.drop(region.number)
    assert [kind for _, kind, _ in found._stream.sent] == ["put", "drop"]
    assert found._stream.sent[0] == (1, "put", 16)


def test_the_servers_own_machine_is_not_remote():
    assert (host(1, here=True).is_remote, host(2).is_remote) == (False, True)
