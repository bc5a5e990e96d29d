"""Each layer carries weight on its own, and the walls stand behind one another."""

import os
from functools import partial

import pytest

from flow_nexus_neural.node.confinement import (
    landlock,
    limits,
    namespaces,
    privileges,
    seccomp,
)
from tests.security.harness import (
    BARE,
    IS_ROOT,
    LIMITS,
    STRONGEST_USER,
    SUCCEEDED,
    Confinement,
    has_landlock,
    is_blocked,
    outcome_of,
    skip_without_namespaces,
)
from tests.security.test_escape_battery import ATTACKS

BY_ID = {attack.id: attack for attack in ATTACKS}


def _rlimits():
    limits.set_rlimits(memory_mb=LIMITS.memory_mb, cpu_s=LIMITS.cpu_s, nofile=LIMITS.nofile)


def _landlock():
    privileges.forbid_new_privileges()
    landlock.enter_domain(landlock.landlock_abi())


def _seccomp():
    privileges.forbid_new_privileges()
    seccomp.install_filter(hostile="errno")


def _namespaces():
    namespaces.enter_namespaces(as_root=IS_ROOT)
    namespaces.enter_empty_root()


def _ids():
    privileges.drop_bounding_set()
    privileges.drop_ids()
    privileges.drop_capabilities()


LAYERS = {
    "descriptors": (
        limits.close_descriptors,
        ["leaks-use_a_leaked_descriptor", "leaks-find_further_descriptors"],
    ),
    "environment": (
        lambda keep: limits.scrub_environment(),
        ["leaks-read_the_environment", "leaks-read_the_environment_of_c"],
    ),
    "rlimits": (
        lambda keep: _rlimits(),
        [
            "resources-touch_a_gigabyte",
            "resources-allocate_from_python",
            "resources-reserve_fifty_gigabytes",
            "resources-write_into_a_memory_file",
            "resources-fill_the_descriptor_table",
        ],
    ),
    "namespaces": (
        lambda keep: _namespaces(),
        ["network-connect_by_tcp", "network-send_a_datagram"],
    ),
    "landlock": (
        lambda keep: _landlock(),
        [
            "files-read_a_world_readable_system_file",
            "files-list_the_root",
            "files-write_a_world_writable_file",
            "files-write-create_in_a_temporary_directory",
            "devices-open_a_device",
        ],
    ),
    "seccomp": (
        lambda keep: _seccomp(),
        [
            "files-list_the_root",
            "execution-fork",
            "network-socketpair",
            "leaks-send_a_descriptor_to_the_engine",
            "oracles-stat",
            "undoing-i386_system_call",
        ],
    ),
}
if IS_ROOT:
    LAYERS["ids"] = (
        lambda keep: _ids(),
        [
            "privilege-mount",
            "privilege-chroot",
            "privilege-become_root",
            "privilege-set_the_host_name",
            "network-raw_socket",
            "signals-kill_the_server",
        ],
    )

CASES = [(layer, attack) for layer, (_, attacks) in LAYERS.items() for attack in attacks]


@pytest.mark.parametrize(("layer", "attack"), CASES)
def test_the_layer_alone_blocks(layer, attack, stage):
    if layer == "namespaces":
        skip_without_namespaces(STRONGEST_USER)
    if layer == "landlock" and not has_landlock():
        pytest.skip("this kernel has no Landlock: the layer was NOT tested")
    apply = LAYERS[layer][0]
    case = BY_ID[attack]
    alone = Confinement(
        keep_fds=case.keep_fds(stage), apply=lambda limits_, keep, ppid: apply(keep)
    )
    blocked = outcome_of(lambda: case.code(stage), user=STRONGEST_USER, confinement=alone)
    control = case.control or case.code
    assert is_blocked(blocked), blocked
    assert outcome_of(lambda: control(stage), user=STRONGEST_USER, confinement=BARE) == SUCCEEDED


def _everything_but_seccomp(granted, keep, ppid):
    from flow_nexus_neural.node.confinement.apply import confine

    seccomp.install_filter = lambda *, hostile: "left out"
    return confine(granted, keep_fds=keep, expected_ppid=ppid)


ONLY_THE_FILTER_BLOCKS = {
    "memory-open_a_pidfd",
    "network-get_a_handle_of_the_engines_process",
    "network-netlink",
    "network-send_out_of_band",
    "network-socketpair",
    "network-vsock",
    "privilege-add_a_key",
    "privilege-barrier_on_all_cores",
    "privilege-futex_with_priority_inheritance",
    "privilege-kernel_timer",
    "privilege-keyring",
    "privilege-personality",
    "signals-bind_the_server_to_a_core",
    "signals-choose_the_signal_of_a_descriptor",
    "signals-interval_timer",
    "signals-let_another_process_get_SIGIO",
    "signals-signal_everybody",
    "signals-signal_the_group",
    "signals-slow_another_process_down",
}
"""What is left of those classes where seccomp is missing: the reason for the level `process` there."""

SECOND_WALL = [
    attack
    for attack in ATTACKS
    if attack.kind in ("files", "files-write", "memory", "network", "signals", "privilege")
    and attack.id not in ONLY_THE_FILTER_BLOCKS
]


@pytest.mark.parametrize("attack", SECOND_WALL, ids=lambda attack: attack.id)
def test_without_the_filter_the_other_layers_still_block(attack, user, stage, needs_landlock):
    skip_without_namespaces(user)
    confinement = Confinement(keep_fds=attack.keep_fds(stage), apply=_everything_but_seccomp)
    outcome = outcome_of(lambda: attack.code(stage), user=user, confinement=confinement)
    assert is_blocked(outcome), outcome


def test_the_filter_alone_blocks_all_but_what_it_cannot_see(stage):
    """What a filter cannot see: how much there is, and what was there before."""
    seen = [attack for attack in ATTACKS if attack.kind != "resources"]
    through = set()
    for attack in seen:
        confinement = Confinement(
            keep_fds=attack.keep_fds(stage), apply=lambda limits_, keep, ppid: _seccomp()
        )
        code = partial(attack.code, stage)
        if outcome_of(code, user=STRONGEST_USER, confinement=confinement) == SUCCEEDED:
            through.add(attack.id)
    assert through == {
        "leaks-find_further_descriptors",
        "leaks-read_the_environment",
        "leaks-read_the_environment_of_c",
        "leaks-use_a_leaked_descriptor",
        "oracles-name_of_the_machine",
    }


def test_nothing_of_the_test_process_was_changed():
    assert seccomp.install_filter.__module__ == seccomp.__name__
    assert os.geteuid() == (0 if IS_ROOT else os.getuid())
