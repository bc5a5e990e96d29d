"""Tables and words that could drift from what they describe."""

import re
import sysconfig
from pathlib import Path

import pytest

from flow_nexus_neural.node.confinement import landlock, policy
from flow_nexus_neural.node.confinement.syscalls import MACHINES

ROOT = Path(__file__).parents[2]
HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),),
    "aarch64": (
        Path("/usr/include/aarch64-linux-gnu/asm/unistd.h"),
        Path("/usr/include/asm-generic/unistd.h"),
    ),
}
_DEFINITION = re.compile(r"#define __NR3?2?6?4?_?(\w+)\s+(\d+)\s*$", re.MULTILINE)
_RENAMED = {"lseek": "3264_lseek", "fcntl": "3264_fcntl", "mmap": "3264_mmap"}


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_call_numbers_are_those_of_the_systems_headers(name):
    present = [path for path in HEADERS[name] if path.exists()]
    if not present:
        pytest.skip(f"no header for {name} here: its numbers were NOT compared")
    text = "".join(path.read_text() for path in present)
    known = {match[1]: int(match[2]) for match in _DEFINITION.finditer(text)}
    table = MACHINES[name].numbers
    compared = {call: number for call, number in table.items() if call in known}
    assert {call: known[call] for call in compared} == compared
    assert len(compared) > 0.9 * len(table)


def test_the_machine_that_runs_this_has_a_table():
    machine = sysconfig.get_platform().removeprefix("linux-")
    if machine not in MACHINES:
        pytest.skip(f"no table for {machine}: nodes reach the level process only")
    assert MACHINES[machine].numbers["read"] >= 0


@pytest.mark.parametrize(
    ("abi", "fs", "net", "scope", "nbytes"),
    [
        (1, 0x1FFF, 0, 0, 8),
        (2, 0x3FFF, 0, 0, 8),
        (3, 0x7FFF, 0, 0, 8),
        (4, 0x7FFF, 3, 0, 16),
        (5, 0xFFFF, 3, 0, 16),
        (6, 0xFFFF, 3, 3, 24),
        (7, 0xFFFF, 3, 3, 24),
        (99, 0xFFFF, 3, 3, 24),
    ],
)
def test_landlock_refuses_all_that_a_version_knows_and_no_more(abi, fs, net, scope, nbytes):
    assert landlock._newest(policy.LANDLOCK_FS_BITS, abi) == fs
    assert landlock._newest(policy.LANDLOCK_NET_BITS, abi) == net
    assert landlock._newest(policy.LANDLOCK_SCOPE_BITS, abi) == scope
    assert landlock._newest(landlock._ATTRIBUTE_BYTES, abi) == nbytes


def test_security_md_counts_the_allow_list_right():
    text = (ROOT / "SECURITY.md").read_text()
    said = re.search(r"an allow-list of (\d+) calls, (\d+) of them only with certain", text)
    assert said is not None
    allowed, checked = len(policy.ALLOWED), len(policy.CHECKED)
    assert (int(said[1]), int(said[2])) == (allowed + checked, checked)
