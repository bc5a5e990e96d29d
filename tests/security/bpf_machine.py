"""A small interpreter of classic BPF, to ask a filter program what it would do."""

from dataclasses import dataclass
from struct import pack, unpack_from

from flow_nexus_neural.node.confinement import bpf


@dataclass(frozen=True)
class Call:
    """A system call as the kernel shows it to a filter."""

    number: int
    arguments: tuple[int, ...] = ()
    arch: int = 0

    def packed(self) -> bytes:
        arguments = (*self.arguments, 0, 0, 0, 0, 0, 0)[:6]
        wrapped = (argument & 0xFFFF_FFFF_FFFF_FFFF for argument in arguments)
        return pack("<IIQ6Q", self.number & 0xFFFF_FFFF, self.arch, 0, *wrapped)


def run(program: list[bpf.Instruction], call: Call) -> int:
    """What the program returns for this call. Falling off its end is an error."""
    data = call.packed()
    accumulator = 0
    position = 0
    while True:
        code, jump_true, jump_false, k = program[position]
        position += 1
        if code == bpf.RETURN:
            return k
        if code == bpf.LOAD:
            (accumulator,) = unpack_from("<I", data, k)
        elif code == bpf.AND:
            accumulator &= k
        elif code == bpf.EQUAL:
            position += jump_true if accumulator == k else jump_false
        elif code == bpf.AT_LEAST:
            position += jump_true if accumulator >= k else jump_false
        else:
            raise AssertionError(f"unknown instruction {code:#x}")
