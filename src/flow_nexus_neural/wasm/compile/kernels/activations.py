"""Activation functions on four floats at a time, and the kernels that map them over rows.

Absolute errors are below 3e-7 for results of magnitude 1. The exponential is that of the Cephes library
(Moshier, `expf`): multiples of ln 2 are taken off in two parts, and a polynomial of degree 5 remains.
"""

import struct
from collections.abc import Callable, Mapping

from flow_nexus_neural.wasm.compile.text import add, assign, const, counted, local

LEAKY_SLOPE = 0.2
"""Keras' slope of the activation that has no argument."""
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
VECTOR_LOCALS = ("v", "e", "power", "s", "u")
SOFTMAX = "softmax"

Function = Callable[[], list[str]]
"""Statements that turn the local `v` into its image; they may use the other vector locals."""


def number(value: float) -> str:
    """Four equal floats, exactly as float32."""
    exact = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"(v128.const f32x4 {' '.join([float.hex(exact)] * 4)})"


def _two(operation: str, a: str, b: str) -> str:
    return f"(f32x4.{operation} {a} {b})"


def _power_of_two(exponents: str) -> str:
    return f"(i32x4.shl (i32x4.add {exponents} (v128.const i32x4 127 127 127 127)) {const(23)})"


def exponential(argument: str) -> list[str]:
    """`e = exp(argument)`: 0 below -104, infinite above 89."""
    v, n, e = local("s"), local("power"), local("e")
    bounded = _two("min", _two("max", argument, number(-104.0)), number(89.0))
    lines = [
        assign("s", bounded),
        assign("power", f"(f32x4.nearest {_two('mul', v, number(1.4426950408889634))})"),
        assign("s", _two("sub", v, _two("mul", n, number(0.693359375)))),
        assign("s", _two("sub", v, _two("mul", n, number(-2.12194440e-4)))),
    ]
    polynomial = number(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
        polynomial = _two("add", _two("mul", polynomial, v), number(coefficient))
    lines.append(
        assign(
            "e", _two("add", _two("add", _two("mul", polynomial, _two("mul", v, v)), v), number(1))
        )
    )
    # 2^n in two steps: n may be 128 or below -126, where a single factor is no finite normal number.
    half = f"(i32x4.shr_s {n} {const(1)})"
    lines += [
        assign("power", f"(i32x4.trunc_sat_f32x4_s {n})"),
        assign("e", _two("mul", e, _power_of_two(half))),
        assign("e", _two("mul", e, _power_of_two(f"(i32x4.sub {n} {half})"))),
    ]
    return lines


def _absolute() -> str:
    return f"(f32x4.abs {local('v')})"


def _sigmoid_of(argument: str) -> tuple[list[str], str]:
    lines = exponential(f"(f32x4.neg {argument})")
    return lines, _two("div", number(1), _two("add", number(1), local("e")))


def _relu() -> list[str]:
    return [assign("v", _two("max", local("v"), number(0)))]


def _relu6() -> list[str]:
    return [assign("v", _two("min", _two("max", local("v"), number(0)), number(6)))]


def leaky(slope: float) -> Function:
    """`x` above 0, `slope * x` below."""

    def made() -> list[str]:
        v = local("v")
        return [assign("v", _where_positive(v, _two("mul", v, number(slope))))]

    return made


def _where_positive(yes: str, no: str) -> str:
    return f"(v128.bitselect {yes} {no} {_two('gt', local('v'), number(0))})"


def _elu() -> list[str]:
    negative = _two("sub", local("e"), number(1))
    return [*exponential(local("v")), assign("v", _where_positive(local("v"), negative))]


def _selu() -> list[str]:
    negative = _two("mul", _two("sub", local("e"), number(1)), number(SELU_SCALE * SELU_ALPHA))
    positive = _two("mul", local("v"), number(SELU_SCALE))
    return [*exponential(local("v")), assign("v", _where_positive(positive, negative))]


def _gelu() -> list[str]:
    """`x (1 + erf(x / sqrt 2)) / 2`; erf by Abramowitz and Stegun, formula 7.1.26 (error below 1.5e-7)."""
    u, s = local("u"), local("s")
    lines = [
        assign("u", _two("mul", _absolute(), number(0.7071067811865476))),
        *exponential(f"(f32x4.neg {_two('mul', u, u)})"),
        assign(
            "s", _two("div", number(1), _two("add", number(1), _two("mul", u, number(0.3275911))))
        ),
    ]
    polynomial = number(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = _two("add", _two("mul", polynomial, s), number(coefficient))
    # half of the complement of erf: what the smaller side of the normal distribution has
    tail = _two("mul", number(0.5), _two("mul", _two("mul", polynomial, s), local("e")))
    share = _where_positive(_two("sub", number(1), local("u")), local("u"))
    return [*lines, assign("u", tail), assign("v", _two("mul", local("v"), share))]


def _silu() -> list[str]:
    lines, sigmoid = _sigmoid_of(local("v"))
    return [*lines, assign("v", _two("mul", local("v"), sigmoid))]


def _mish() -> list[str]:
    """`x tanh(ln(1 + e^x))`, which is `x (e^2 + 2 e) / (e^2 + 2 e + 2)`; above 20 it is x."""
    e, u = local("e"), local("u")
    return [
        *exponential(_two("min", local("v"), number(20))),
        assign("u", _two("mul", e, _two("add", e, number(2)))),
        assign("v", _two("mul", local("v"), _two("div", u, _two("add", u, number(2))))),
    ]


def _tanh() -> list[str]:
    """`(1 - e) / (1 + e)` of `e = exp(-2 |x|)`, with the sign of x."""
    e = local("e")
    size = _two("div", _two("sub", number(1), e), _two("add", number(1), e))
    sign = f"(v128.and {local('v')} (v128.const i32x4 {' '.join(['0x80000000'] * 4)}))"
    return [
        *exponential(_two("mul", _absolute(), number(-2))),
        assign("v", f"(v128.or {size} {sign})"),
    ]


def _sigmoid() -> list[str]:
    lines, sigmoid = _sigmoid_of(local("v"))
    return [*lines, assign("v", sigmoid)]


def _hard_sigmoid() -> list[str]:
    sixth = _two("div", _two("add", local("v"), number(3)), number(6))
    return [assign("v", _two("min", _two("max", sixth, number(0)), number(1)))]


def _softplus() -> list[str]:
    """`max(x, 0) + ln(1 + e)` of `e = exp(-|x|)`; the logarithm as `2 artanh(e / (2 + e))`."""
    s, u = local("s"), local("u")
    series = number(2 / 13)
    for odd in (11, 9, 7, 5, 3, 1):
        series = _two("add", _two("mul", series, u), number(2 / odd))
    return [
        *exponential(f"(f32x4.neg {_absolute()})"),
        assign("s", _two("div", local("e"), _two("add", local("e"), number(2)))),
        assign("u", _two("mul", s, s)),
        assign("v", _two("add", _two("max", local("v"), number(0)), _two("mul", s, series))),
    ]


def _softsign() -> list[str]:
    return [assign("v", _two("div", local("v"), _two("add", number(1), _absolute())))]


def _exponential() -> list[str]:
    return [*exponential(local("v")), assign("v", local("e"))]


FUNCTIONS: Mapping[str, Function] = {
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": leaky(LEAKY_SLOPE),
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "softplus": _softplus,
    "softsign": _softsign,
    "exponential": _exponential,
}
"""All element-wise activations; `linear` needs no code, `softmax` is a kernel of its own."""


def map_kernel(name: str, function: Function) -> str:
    """A kernel `name(at, row_bytes, vectors, rows)` that maps a function over rows in place."""
    body = "\n".join(
        [
            assign("v", f"(v128.load {local('p')})"),
            *function(),
            f"(v128.store {local('p')} {local('v')})",
            assign("p", add(local("p"), 16)),
        ]
    )
    row = "\n".join(
        [
            assign("p", add(local("at"), f"(i32.mul {local('r')} {local('row_bytes')})")),
            assign("c", const(0)),
            counted("c", local("vectors"), body),
        ]
    )
    return "\n".join(
        [
            f"(func ${name}",
            "(param $at i32) (param $row_bytes i32) (param $vectors i32) (param $rows i32)",
            "(local $p i32) (local $c i32) (local $r i32)",
            " ".join(f"(local ${one} v128)" for one in VECTOR_LOCALS),
            counted("r", local("rows"), row),
            ")",
        ]
    )
