"""The steps that need no privilege, and their ways around old kernels and low limits."""

import ctypes
import io
import os
import resource

from flow_nexus_neural.node.confinement import limits, policy
from tests.security.attacks_on_resources import STACK
from tests.security.harness import BARE, SUCCEEDED, outcome_of


def _in_child(code):
    return outcome_of(code, user="unprivileged", confinement=BARE)


def _close_and_check():
    keep = os.open("/dev/null", os.O_RDONLY)
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
    # Descriptor numbers of the report pipe are not known here, so it is found by elimination.
    report = [fd for fd in _open_descriptors() if fd not in (*others, keep)]
    limits.close_descriptors([keep, *report])
    assert not set(others) & set(_open_descriptors())
    assert {keep, *report} <= set(_open_descriptors())


def _open_descriptors():
    found = []
    for descriptor in range(512):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        found.append(descriptor)
    return found


def test_descriptors_are_closed_by_one_call():
    assert _in_child(_close_and_check) == SUCCEEDED


def test_descriptors_are_closed_one_by_one_on_a_kernel_without_that_call():
    def without_close_range():
        def unknown(name, *_):
            raise OSError(38, name)

        limits.syscall = unknown
        _close_and_check()

    assert _in_child(without_close_range) == SUCCEEDED


def test_a_hard_limit_below_the_wanted_one_is_kept():
    def start_low():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        resource.setrlimit(resource.RLIMIT_CPU, (7, 9))
        done = limits.set_rlimits(memory_mb=64, cpu_s=100, nofile=96)
        assert done["nofile"] == 40
        assert done["cpu_s"] == 9
        assert resource.getrlimit(resource.RLIMIT_CPU) == (9, 9)

    assert _in_child(start_low) == SUCCEEDED


def test_every_limit_is_final():
    def lower():
        limits.set_rlimits(memory_mb=64, cpu_s=100, nofile=96)
        for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
            soft, hard = resource.getrlimit(kind)
            assert soft == hard
            try:
                resource.setrlimit(kind, (hard, hard + 1))
            except ValueError:
                continue
            raise AssertionError(kind)

    assert _in_child(lower) == SUCCEEDED


def test_the_stack_has_its_final_size_and_can_be_used_to_the_end():
    def lower_and_use():
        limits.set_rlimits(memory_mb=64, cpu_s=100, nofile=96)
        assert resource.getrlimit(resource.RLIMIT_STACK) == (0, 0)
        ctypes.memset(STACK - 7 * (1 << 20), 1, 1)

    assert _in_child(lower_and_use) == SUCCEEDED


def test_the_sizes_of_the_stack_stay_limited_where_its_place_is_not_told(monkeypatch):
    """On a /proc that is not the Linux kernel's; the engine then reports the limit as missing."""
    told = b"1 (a) b) S" + b" 0" * 49
    monkeypatch.setattr(limits, "open", lambda *_: io.BytesIO(told), raising=False)

    def lower():
        assert limits._fix_stack() == policy.STACK_BYTES

    assert _in_child(lower) == SUCCEEDED


def test_variables_that_compute_are_kept_and_nothing_else():
    def scrub():
        os.environ.update(LANG="C.UTF-8", OMP_NUM_THREADS="1", AWS_SECRET="x", HOME="/x")
        assert limits.scrub_environment() == len(os.environ)
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert not {"AWS_SECRET", "HOME", "PATH"} & set(os.environ)

    assert _in_child(scrub) == SUCCEEDED


def test_the_strings_of_dropped_variables_are_wiped_from_the_stack():
    """What `unsetenv` leaves behind is readable in /proc and by anyone who scans the memory."""

    def scrub():
        limits.scrub_environment()
        with open("/proc/self/environ", "rb") as shown:
            left = shown.read()
        assert b"PATH=" not in left
        assert left.strip(b"\0") == b"" or b"=" not in left.strip(b"\0")

    assert _in_child(scrub) == SUCCEEDED
