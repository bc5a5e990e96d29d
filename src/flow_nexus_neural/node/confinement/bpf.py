"""Compiles the policy to a seccomp filter program. Pure: the same policy gives the same instructions.

Source: classic BPF as `linux/filter.h` and `linux/seccomp.h` define it. The kernel runs the program for every
system call on `struct seccomp_data {int nr; u32 arch; u64 ip; u64 args[6]}` and applies its return value. It
caches calls that are allowed for all arguments, so their position in the program costs nothing.
"""

from typing import Final, NamedTuple

from flow_nexus_neural.node.confinement import policy
from flow_nexus_neural.node.confinement.syscalls import Machine
from flow_nexus_neural.settings import Hostile

LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K

KILL_PROCESS: Final = 0x8000_0000
ERRNO: Final = 0x0005_0000
ALLOW: Final = 0x7FFF_0000

NUMBER_OFFSET: Final = 0
ARCH_OFFSET: Final = 4
ARGUMENTS_OFFSET: Final = 16  # little endian: the lower half of an argument comes first


class Instruction(NamedTuple):
    """`struct sock_filter`; a jump is the number of instructions to skip."""

    code: int
    jump_true: int
    jump_false: int
    k: int


def compile_policy(machine: Machine, *, own_pid: int, hostile: Hostile) -> list[Instruction]:
    """Compile the policy's tables for one machine and one process.

    Names without a number on this machine are left out: they cannot be called there.

    Args:
        machine: Call numbers and architecture; a call of any other ABI kills the process.
        own_pid: Replaces `policy.OWN_PID`.
        hostile: What happens on a call in `policy.HOSTILE`.
    """
    program = _guard_abi(machine)
    for name in policy.ALLOWED:
        program += _case(machine, name, [_return(ALLOW)])
    for name, rule in policy.CHECKED.items():
        program += _case(machine, name, _rule(rule, own_pid))
    for name, code in policy.REFUSED.items():
        program += _case(machine, name, [_return(ERRNO | code)])
    if hostile == "kill":
        for name in policy.HOSTILE:
            program += _case(machine, name, [_return(KILL_PROCESS)])
    program.append(_return(ERRNO | policy.DEFAULT_ERRNO))
    return program


def _guard_abi(machine: Machine) -> list[Instruction]:
    # Before any number is compared: under another ABI (32-bit, x32) the same number is another call.
    program = [
        Instruction(LOAD, 0, 0, ARCH_OFFSET),
        Instruction(EQUAL, 1, 0, machine.audit_arch),
        _return(KILL_PROCESS),
        Instruction(LOAD, 0, 0, NUMBER_OFFSET),
    ]
    if machine.foreign_from is not None:
        program += [Instruction(AT_LEAST, 0, 1, machine.foreign_from), _return(KILL_PROCESS)]
    return program


def _case(machine: Machine, name: str, body: list[Instruction]) -> list[Instruction]:
    """Run `body` for this call only.

    The body must end in a return: it overwrites the accumulator, in which later cases expect the number.
    """
    number = machine.numbers.get(name)
    if number is None:
        return []
    return [Instruction(EQUAL, 0, len(body), number), *body]


def _rule(rule: policy.Rule, own_pid: int) -> list[Instruction]:
    refuse = _return(ERRNO | rule.otherwise)
    body: list[Instruction] = []
    for check in rule.checks:
        offset = ARGUMENTS_OFFSET + 8 * check.argument
        # BPF compares 32 bits at a time: a 64-bit pointer needs a test of its upper half too.
        if check.wide:
            body += [Instruction(LOAD, 0, 0, offset + 4), Instruction(EQUAL, 1, 0, 0), refuse]
        body.append(Instruction(LOAD, 0, 0, offset))
        if check.mask != 0xFFFF_FFFF:
            body.append(Instruction(AND, 0, 0, check.mask))
        left = len(check.values)
        for value in check.values:
            k = own_pid if value == policy.OWN_PID else value
            body.append(Instruction(EQUAL, left, 0, k))
            left -= 1
        body.append(refuse)
    body.append(_return(ALLOW))
    return body


def _return(action: int) -> Instruction:
    return Instruction(RETURN, 0, 0, action)
