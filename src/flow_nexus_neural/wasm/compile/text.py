"""The text of WebAssembly functions: expressions, statements, loops.

Expressions and statements are strings in the folded text format; nothing here knows a network.
"""

from collections.abc import Iterator
from contextlib import contextmanager

Expression = str
FLOAT_BYTES = 4
VECTOR_BYTES = 16


def const(value: int) -> Expression:
    """An i32 constant."""
    return f"(i32.const {value})"


def local(name: str) -> Expression:
    """The value of a local variable or parameter."""
    return f"(local.get ${name})"


def assign(name: str, value: Expression) -> str:
    """Set a local variable."""
    return f"(local.set ${name} {value})"


def add(*terms: Expression | int) -> Expression:
    """A sum of addresses; constants are added here."""
    known = sum(term for term in terms if isinstance(term, int))
    open_terms = [term for term in terms if isinstance(term, str)]
    if not open_terms:
        return const(known)
    total = open_terms[0]
    for term in open_terms[1:]:
        total = f"(i32.add {total} {term})"
    return total if known == 0 else f"(i32.add {total} {const(known)})"


def times(count: Expression, factor: int) -> Expression:
    """A count times a constant."""
    return count if factor == 1 else f"(i32.mul {count} {const(factor)})"


def value(term: Expression | int) -> Expression:
    """An argument as an expression."""
    return const(term) if isinstance(term, int) else term


class Body:
    """Statements of one function, with loops whose counters are locals of their own."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counters: list[str] = []

    def call(self, function: str, *arguments: Expression | int) -> None:
        """Call a function that returns nothing."""
        self.lines.append(f"(call ${function} {' '.join(value(one) for one in arguments)})")

    def copy(self, to: Expression | int, source: Expression | int, n_bytes: int) -> None:
        """Copy bytes; the ranges do not overlap."""
        self.lines.append(f"(memory.copy {value(to)} {value(source)} {const(n_bytes)})")

    def zero(self, at: Expression | int, n_bytes: Expression | int) -> None:
        """Fill bytes with zeros."""
        self.lines.append(f"(memory.fill {value(at)} (i32.const 0) {value(n_bytes)})")

    @contextmanager
    def each(self, count: Expression | int) -> Iterator[Expression]:
        """Repeat what is written inside for a counter 0 .. count - 1; gives the counter's value."""
        name = f"i{len(self.counters)}"
        self.counters.append(name)
        self.lines += [assign(name, const(0)), f"(block $end_{name} (loop $next_{name}"]
        self.lines.append(f"(br_if $end_{name} (i32.ge_u {local(name)} {value(count)}))")
        yield local(name)
        self.lines += [assign(name, add(local(name), 1)), f"(br $next_{name})))"]

    @property
    def text(self) -> str:
        """Declarations of the counters, then the statements."""
        return "\n".join([*(f"(local ${name} i32)" for name in self.counters), *self.lines])


def counted(name: str, count: Expression, body: str, *, step: int = 1) -> str:
    """A loop of a kernel over a local `name` from its present value, as long as it is below `count`."""
    return (
        f"(block $end_{name} (loop $next_{name}"
        f" (br_if $end_{name} (i32.ge_u {local(name)} {count}))\n{body}\n"
        f"{assign(name, add(local(name), step))} (br $next_{name})))"
    )
