"""The filter program says what the policy says, on both machines, without running a kernel."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.node.confinement import bpf, policy
from flow_nexus_neural.node.confinement.syscalls import MACHINES
from tests.security.bpf_machine import Call, run

PID = 4321
WORDS = st.integers(0, 2**64 - 1)


@pytest.fixture(params=sorted(MACHINES))
def machine(request):
    return MACHINES[request.param]


def _ask(machine, name, *arguments, hostile="errno"):
    program = bpf.compile_policy(machine, own_pid=PID, hostile=hostile)
    return run(program, Call(machine.numbers[name], arguments, machine.audit_arch))


def _refused(code):
    return bpf.ERRNO | code


def test_every_call_of_the_allow_list_passes(machine):
    known = [name for name in policy.ALLOWED if name in machine.numbers]
    assert {_ask(machine, name) for name in known} == {bpf.ALLOW}


def test_names_unknown_to_a_machine_are_only_old_calls_that_it_never_had():
    aarch64 = MACHINES["aarch64"].numbers
    named = {*policy.ALLOWED, *policy.CHECKED, *policy.REFUSED, *policy.HOSTILE}
    assert named <= set(MACHINES["x86_64"].numbers)
    assert named - set(aarch64) == {"poll", "arch_prctl", "open", "fork", "vfork"}


def test_no_call_is_in_two_tables():
    tables = (policy.ALLOWED, policy.CHECKED, policy.REFUSED, policy.HOSTILE)
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))


def test_two_names_never_share_a_number(machine):
    assert len(set(machine.numbers.values())) == len(machine.numbers)


def test_every_number_without_a_name_in_the_policy_fails_with_eperm(machine):
    named = {*policy.ALLOWED, *policy.CHECKED, *policy.REFUSED}
    numbers = {machine.numbers[name] for name in named if name in machine.numbers}
    program = bpf.compile_policy(machine, own_pid=PID, hostile="errno")
    others = (n for n in range(600) if n not in numbers)
    answers = {run(program, Call(n, (), machine.audit_arch)) for n in others}
    assert answers == {_refused(errno.EPERM)}


@given(number=st.integers(0, 2**32 - 1), arch=st.integers(0, 2**32 - 1))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_another_abi_is_killed_whatever_it_calls(number, arch):
    for machine in MACHINES.values():
        program = bpf.compile_policy(machine, own_pid=PID, hostile="errno")
        if arch != machine.audit_arch:
            assert run(program, Call(number, (), arch)) == bpf.KILL_PROCESS
        if machine.foreign_from is not None:
            foreign = Call(number | machine.foreign_from, (), machine.audit_arch)
            assert run(program, foreign) == bpf.KILL_PROCESS


@given(arguments=st.tuples(*[WORDS] * 6))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_memory_is_mapped_only_without_exec_and_only_of_the_kinds_that_a_limit_counts(arguments):
    protection, flags = arguments[2], arguments[3]
    uncounted = flags & 0x4_0100 or flags & 0x21 == 0x21
    allowed = not protection & 4 and not uncounted
    for machine in MACHINES.values():
        answer = _ask(machine, "mmap", *arguments)
        assert answer == (bpf.ALLOW if allowed else _refused(errno.EPERM))


@given(target=WORDS)
@settings(max_examples=100, derandomize=True, deadline=None)
def test_signals_reach_the_own_process_only(target):
    for machine in MACHINES.values():
        for call in ("kill", "tgkill"):
            own = target & 0xFFFF_FFFF == PID  # the kernel takes an int
            expected = bpf.ALLOW if own else _refused(errno.EPERM)
            assert _ask(machine, call, target) == expected
            assert _ask(machine, call, PID) == bpf.ALLOW


@pytest.mark.parametrize(
    ("name", "good", "bad", "code"),
    [
        ("prctl", (15,), (4,), errno.EPERM),
        ("prctl", (0x53564D41,), (1,), errno.EPERM),
        ("prctl", (23,), (22,), errno.EPERM),
        ("fcntl", (5, 1034), (5, 1033), errno.EPERM),
        ("fcntl", (5, 1), (5, 0), errno.EPERM),
        ("fcntl", (5, 1), (5, 4), errno.EPERM),
        ("fcntl", (5, 1), (5, 8), errno.EPERM),
        ("fcntl", (5, 2), (5, 1030), errno.EPERM),
        ("ioctl", (5, 0x5401), (5, 0x5412), errno.ENOTTY),
        ("ioctl", (5, 0x541B), (5, 0x8912), errno.ENOTTY),
        ("prlimit64", (0, 7, 0, 99), (0, 7, 1), errno.EPERM),
        ("prlimit64", (0, 2, 0, 99), (17, 7, 0), errno.EPERM),
        ("prlimit64", (0, 2, 0, 99), (0, 7, 1 << 40), errno.EPERM),
        ("ioctl", (5, 0x541B), (5, 0x5421), errno.ENOTTY),
        ("sendto", (3, 0, 1, 0x4040), (3, 0, 1, 1), errno.EPERM),
        ("recvfrom", (3, 0, 1, 0x40), (3, 0, 1, 0x41), errno.EPERM),
        ("recvmsg", (3, 0, 0x4000_0040), (3, 0, 0x2000), errno.EPERM),
        ("futex", (0, 0x189), (0, 0x9), errno.EPERM),
        ("futex", (0, 0x81), (0, 0x86), errno.EPERM),
        ("clock_gettime", (3,), (-6,), errno.EPERM),
        ("clock_gettime", (11,), (16,), errno.EPERM),
        ("clock_nanosleep", (1,), (-6,), errno.EPERM),
        ("sched_getaffinity", (0,), (1,), errno.EPERM),
        ("sched_getaffinity", (PID,), (PID + 1,), errno.EPERM),
        ("madvise", (0, 0, 4), (0, 0, 100), errno.EINVAL),
        ("mmap", (0, 0, 3, 0x22), (0, 0, 3, 0x4_0022), errno.EPERM),
        ("arch_prctl", (0x1023,), (0x1002,), errno.EPERM),
    ],
)
def test_arguments_are_checked(name, good, bad, code):
    machine = MACHINES["x86_64"]
    assert _ask(machine, name, *good) == bpf.ALLOW
    assert _ask(machine, name, *bad) == _refused(code)


def test_files_look_absent_and_unverifiable_calls_look_unknown(machine):
    assert _ask(machine, "openat") == _refused(errno.ENOENT)
    assert _ask(machine, "clone3") == _refused(errno.ENOSYS)
    assert _ask(machine, "io_uring_setup") == _refused(errno.ENOSYS)


def test_hostile_calls_kill_only_under_that_policy(machine):
    known = [name for name in policy.HOSTILE if name in machine.numbers]
    assert {_ask(machine, name) for name in known} == {_refused(errno.EPERM)}
    assert {_ask(machine, name, hostile="kill") for name in known} == {bpf.KILL_PROCESS}


def test_the_program_fits_the_kernels_limits(machine):
    for hostile in ("errno", "kill"):
        program = bpf.compile_policy(machine, own_pid=PID, hostile=hostile)
        assert len(program) <= 4096
        for position, line in enumerate(program):
            assert 0 <= line.jump_true < 256
            assert 0 <= line.jump_false < 256
            assert position + 1 + max(line.jump_true, line.jump_false) < len(program) + 1


def test_a_node_can_neither_make_nor_pass_on_a_descriptor(machine):
    """The capabilities of a node are what it was granted, and stay with it."""
    makers = {
        *("socket", "socketpair", "memfd_create", "dup", "sendmsg", "pidfd_open", "pidfd_getfd"),
        *("getsockopt", "openat", "open", "landlock_create_ruleset", "userfaultfd"),
    }
    assert makers.isdisjoint({*policy.ALLOWED, *policy.CHECKED})
