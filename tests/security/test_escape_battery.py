"""Every attack is blocked in a node, as root and unprivileged; and the attack is real."""

from collections import Counter
from pathlib import Path

import pytest

from tests.security import (
    attacks_on_files,
    attacks_on_kernel,
    attacks_on_neighbours,
    attacks_on_network,
    attacks_on_processes,
    attacks_on_resources,
)
from tests.security.attack import Attack
from tests.security.harness import (
    BARE,
    STRONGEST_USER,
    SUCCEEDED,
    Confinement,
    outcome_of,
    skip_without_namespaces,
)
from tests.security.stage import revive

ATTACKS: list[Attack] = [
    *attacks_on_files.ATTACKS,
    *attacks_on_processes.ATTACKS,
    *attacks_on_network.ATTACKS,
    *attacks_on_kernel.ATTACKS,
    *attacks_on_neighbours.ATTACKS,
    *attacks_on_resources.ATTACKS,
]
CONTROLLED = [attack for attack in ATTACKS if not attack.no_control]

AT_LEAST = {
    "channels": 10,
    "files": 6,
    "files-write": 7,
    "devices": 3,
    "memory": 4,
    "network": 9,
    "execution": 6,
    "resources": 6,
    "signals": 6,
    "privilege": 12,
    "ipc": 3,
    "undoing": 4,
    "leaks": 5,
    "oracles": 2,
}


UNAVAILABLE = {
    "undoing-x32_system_call": ("ENOSYS",),  # kernels are mostly built without
    "undoing-let_others_trace_it": ("EINVAL",),  # an option of the Yama module
    "undoing-i386_system_call": ("SIGSEGV",),  # kernels without 32-bit emulation
    "channels-wake_a_neighbour_by_the_newer_futex_call": ("ENOSYS",),  # kernels before 6.7
    "channels-wait_for_a_neighbour_by_the_newer_futex_call": ("ENOSYS",),  # kernels before 5.16
    "undoing-a_key_for_memory_protection": ("ENOSYS",),
    "network-vsock": ("EAFNOSUPPORT",),
    "network-send_out_of_band": ("EOPNOTSUPP",),
    "network-receive_out_of_band": ("EOPNOTSUPP",),
    "network-get_a_handle_of_the_engines_process": ("ENOPROTOOPT",),  # kernels before 6.5
}
REFUSALS = ("EPERM", "EACCES", "ENOSYS")
ALMIGHTY = (
    int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16) >> 38 > 0
)


def _ids(attack: Attack) -> str:
    return attack.id


@pytest.mark.parametrize("attack", ATTACKS, ids=_ids)
def test_a_node_cannot(attack, user, stage):
    if attack.by_namespaces:
        skip_without_namespaces(user)
    confinement = Confinement(keep_fds=attack.keep_fds(stage))
    outcome = outcome_of(lambda: attack.code(stage), user=user, confinement=confinement)
    assert outcome in attack.expected


@pytest.mark.parametrize("attack", CONTROLLED, ids=_ids)
def test_without_confinement_the_attack_succeeds(attack, stage):
    outcome = _bare(attack, stage, STRONGEST_USER)
    if outcome in UNAVAILABLE.get(attack.id, ()) or (outcome in REFUSALS and not ALMIGHTY):
        pytest.skip(f"this machine refuses it to everybody who may run the suite: {outcome}")
    assert outcome == SUCCEEDED


def test_most_attacks_succeed_for_an_ordinary_user_without_confinement(stage):
    outcomes = {attack.id: _bare(attack, stage, "unprivileged") for attack in CONTROLLED}
    assert Counter(outcomes.values())[SUCCEEDED] >= 56, outcomes


def test_the_battery_has_every_class():
    present = Counter(attack.kind for attack in ATTACKS)
    assert {kind: present[kind] for kind in AT_LEAST if present[kind] < AT_LEAST[kind]} == {}
    assert len(ATTACKS) > 170  # as SECURITY.md says
    assert len(ATTACKS) - len(CONTROLLED) <= 10  # as SECURITY.md says
    assert len({attack.id for attack in ATTACKS}) == len(ATTACKS)


def _bare(attack: Attack, stage, user: str) -> str:
    code = attack.control or attack.code
    outcome = outcome_of(lambda: code(stage), user=user, confinement=BARE)
    revive(stage)
    return outcome
