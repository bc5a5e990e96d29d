"""Kernels over the rows of a buffer: copies, sums, products, normalisations, pooling, packing of weights.

Addresses and strides are bytes, widths are floats, `vectors` counts four floats each. A row's result depends
on that row alone, and the order of its additions on its width alone.
"""

from collections.abc import Mapping

from flow_nexus_neural.wasm.compile.kernels.activations import VECTOR_LOCALS, exponential, number
from flow_nexus_neural.wasm.compile.text import Expression, add, assign, const, counted, local

Parameters = tuple[str, ...]


def _row(base: str, stride: str) -> Expression:
    return add(local(base), f"(i32.mul {local('r')} {local(stride)})")


def _f32x4(operation: str, a: Expression, b: Expression) -> Expression:
    return f"(f32x4.{operation} {a} {b})"


def _load(pointer: str) -> Expression:
    return f"(v128.load {local(pointer)})"


def _store(pointer: str, stored: Expression) -> str:
    return f"(v128.store {local(pointer)} {stored})"


def _function(name: str, parameters: Parameters, lines: list[str], *, result: str = "") -> str:
    locals_used = "p q s1 s2 s3 c r"
    return "\n".join(
        [
            f"(func ${name} {' '.join(f'(param ${one} i32)' for one in parameters)} {result}",
            " ".join(f"(local ${one} i32)" for one in locals_used.split() if one not in parameters),
            " ".join(f"(local ${one} v128)" for one in VECTOR_LOCALS),
            "(local $f f32)",
            *lines,
            ")",
        ]
    )


def _over_rows(
    name: str, bases: Mapping[str, tuple[str, str | None]], lines: list[str], *more: str
) -> str:
    """A kernel over rows and their vectors.

    Args:
        name: Of the kernel.
        bases: By local pointer, the parameter with its first address and the one with its stride between
            rows, None where all rows share it.
        lines: What is done with one vector of each.
        more: Further parameters.
    """
    parameters: list[str] = []
    for base, stride in bases.values():
        parameters += [base] if stride is None else [base, stride]
    start = [
        assign(pointer, local(base) if stride is None else _row(base, stride))
        for pointer, (base, stride) in bases.items()
    ]
    moved = [assign(pointer, add(local(pointer), 16)) for pointer in bases]
    inner = counted("c", local("vectors"), "\n".join([*lines, *moved]))
    loop = counted("r", local("rows"), "\n".join([*start, assign("c", const(0)), inner]))
    return _function(name, (*parameters, "vectors", "rows", *more), [loop])


_YX = {"p": ("y", "y_row"), "q": ("x", "x_row")}
_YXG = {**_YX, "s1": ("g", "g_row")}


def _pool(name: str, operation: str, *, mean: bool) -> str:
    """One sample: windows of steps to steps, channel by channel."""
    count = f"(f32.convert_i32_u {local('window')})"
    windows = "\n".join(
        [
            assign("s1", local("q")),
            assign("v", _load("s1")),
            assign("s2", const(1)),
            counted(
                "s2",
                local("window"),
                "\n".join(
                    [
                        assign("s1", add(local("s1"), local("x_row"))),
                        assign("v", _f32x4(operation, local("v"), _load("s1"))),
                    ]
                ),
            ),
            *(
                [assign("v", _f32x4("div", local("v"), f"(f32x4.splat {count})"))]
                if mean
                else []
            ),
            _store("p", local("v")),
            assign("p", add(local("p"), 16)),
            assign("q", add(local("q"), 16)),
        ]
    )  # fmt: skip
    row = "\n".join(
        [
            assign("p", _row("y", "y_row")),
            assign("q", _row("x", "move")),
            assign("c", const(0)),
            counted("c", local("vectors"), windows),
        ]
    )
    parameters = ("y", "y_row", "x", "x_row", "move", "window", "vectors", "rows")
    return _function(name, parameters, [counted("r", local("rows"), row)])


def _row_sum() -> str:
    """The sum of a row: lanes first, then the lanes, then what does not fill a vector."""
    first, second, third, fourth = (
        f"(f32x4.extract_lane {lane} {local('v')})" for lane in range(4)
    )
    total = f"(f32.add (f32.add {first} {second}) (f32.add {third} {fourth}))"
    vector = "\n".join(
        [assign("v", _f32x4("add", local("v"), _load("p"))), assign("p", add(local("p"), 16))]
    )
    single = "\n".join(
        [
            assign("f", f"(f32.add {local('f')} (f32.load {local('p')}))"),
            assign("p", add(local("p"), 4)),
        ]
    )
    lines = [
        assign("p", local("x")),
        counted("c", f"(i32.shr_u {local('width')} {const(2)})", vector),
        assign("f", total),
        assign("c", f"(i32.and {local('width')} {const(-4)})"),
        counted("c", local("width"), single),
        local("f"),
    ]
    return _function("row_sum", ("x", "width"), lines, result="(result f32)")


def _softmax() -> str:
    """Softmax over the first `width` floats of each row, in place."""
    biggest = "\n".join(
        [
            assign("f", f"(f32.max {local('f')} (f32.load {local('p')}))"),
            assign("p", add(local("p"), 4)),
        ]
    )
    powers = "\n".join(
        [
            *exponential(_f32x4("sub", _load("p"), f"(f32x4.splat {local('f')})")),
            _store("p", local("e")),
            assign("p", add(local("p"), 16)),
        ]
    )
    shares = "\n".join(
        [_store("p", _f32x4("div", _load("p"), local("v"))), assign("p", add(local("p"), 16))]
    )
    vectors = f"(i32.shr_u (i32.add {local('width')} {const(3)}) {const(2)})"
    row = "\n".join(
        [
            assign("q", _row("x", "x_row")),
            assign("p", local("q")),
            assign("f", "(f32.const -inf)"),
            assign("c", const(0)),
            counted("c", local("width"), biggest),
            assign("p", local("q")),
            assign("c", const(0)),
            counted("c", vectors, powers),
            assign("v", f"(f32x4.splat (call $row_sum {local('q')} {local('width')}))"),
            assign("p", local("q")),
            assign("c", const(0)),
            counted("c", vectors, shares),
        ]
    )
    return _function("softmax", ("x", "x_row", "width", "rows"), [counted("r", local("rows"), row)])


def _layer_norm() -> str:
    """`(x - mean) / sqrt(var + epsilon) * gamma + beta` of each row; epsilon lies at an address."""
    width = f"(f32.convert_i32_u {local('width')})"
    vectors = f"(i32.shr_u (i32.add {local('width')} {const(3)}) {const(2)})"
    centre = "\n".join(
        [
            assign("u", _f32x4("sub", _load("q"), local("v"))),
            _store("p", local("u")),
            _store("s3", _f32x4("mul", local("u"), local("u"))),
            *(assign(one, add(local(one), 16)) for one in ("p", "q", "s3")),
        ]
    )
    scale = "\n".join(
        [
            assign("u", _f32x4("mul", _f32x4("mul", _load("p"), local("v")), _load("s1"))),
            _store("p", _f32x4("add", local("u"), _load("s2"))),
            *(assign(one, add(local(one), 16)) for one in ("p", "s1", "s2")),
        ]
    )
    spread = f"(f32.div (call $row_sum {local('scratch')} {local('width')}) {width})"
    row = "\n".join(
        [
            assign("q", _row("x", "x_row")),
            assign("p", _row("y", "y_row")),
            assign("s3", local("scratch")),
            assign(
                "v",
                f"(f32x4.splat (f32.div (call $row_sum {local('q')} {local('width')}) {width}))",
            ),
            assign("c", const(0)),
            counted("c", vectors, centre),
            assign("f", f"(f32.add {spread} (f32.load {local('epsilon')}))"),
            assign("v", f"(f32x4.splat (f32.div (f32.const 1) (f32.sqrt {local('f')})))"),
            assign("p", _row("y", "y_row")),
            assign("s1", local("gamma")),
            assign("s2", local("beta")),
            assign("c", const(0)),
            counted("c", vectors, scale),
        ]
    )
    parameters = (
        "y", "y_row", "x", "x_row", "width", "rows", "gamma", "beta", "epsilon", "scratch",
    )  # fmt: skip
    return _function("layer_norm", parameters, [counted("r", local("rows"), row)])


def _pack_transposed() -> str:
    """The transpose of [n, k] rows as packed weights [panels][k][8]; columns beyond n are left alone."""
    one = "\n".join(
        [
            f"(f32.store {local('p')} (f32.load {local('q')}))",
            assign("p", add(local("p"), 32)),
            assign("q", add(local("q"), 4)),
        ]
    )
    panel = f"(i32.mul (i32.shr_u {local('r')} {const(3)}) (i32.mul {local('k')} {const(32)}))"
    column = f"(i32.mul (i32.and {local('r')} {const(7)}) {const(4)})"
    row = "\n".join(
        [
            assign("q", _row("x", "x_row")),
            assign("p", add(local("y"), panel, column)),
            assign("c", const(0)),
            counted("c", local("k"), one),
        ]
    )
    return _function(
        "pack_transposed", ("y", "x", "x_row", "k", "n"), [counted("r", local("n"), row)]
    )


def _pack() -> str:
    """[k, 8 panels] rows as packed weights [panels][k][8]."""
    one = "\n".join(
        [
            _store("p", _load("q")),
            f"(v128.store offset=16 {local('p')} (v128.load offset=16 {local('q')}))",
            assign("q", add(local("q"), 32)),
            assign("p", add(local("p"), f"(i32.mul {local('k')} {const(32)})")),
        ]
    )
    row = "\n".join(
        [
            assign("q", _row("x", "x_row")),
            assign("p", add(local("y"), f"(i32.mul {local('r')} {const(32)})")),
            assign("c", const(0)),
            counted("c", local("panels"), one),
        ]
    )
    return _function("pack", ("y", "x", "x_row", "k", "panels"), [counted("r", local("k"), row)])


def _spread() -> str:
    """A vector column and scalars as a sequence: channel 0 is the vector, each scalar a constant channel."""
    scalar = "\n".join(
        [
            f"(f32.store {local('p')} (f32.load {local('q')}))",
            assign("p", add(local("p"), 4)),
            assign("q", add(local("q"), 4)),
        ]
    )
    step = "\n".join(
        [
            assign("s1", const(4)),
            assign("p", _row("y", "y_row")),
            f"(f32.store {local('p')} (f32.load {_row('x', 's1')}))",
            assign("p", add(local("p"), 4)),
            assign("q", add(local("x"), f"(i32.mul {local('steps')} {const(4)})")),
            assign("c", const(0)),
            counted("c", local("scalars"), scalar),
        ]
    )
    return _function(
        "spread", ("y", "y_row", "x", "steps", "scalars"), [counted("r", local("steps"), step)]
    )


def _copy_rows() -> str:
    """Copy the first bytes of each row."""
    one = f"(memory.copy {_row('y', 'y_row')} {_row('x', 'x_row')} {local('bytes')})"
    return _function(
        "copy_rows",
        ("y", "y_row", "x", "x_row", "bytes", "rows"),
        [counted("r", local("rows"), one)],
    )


def _finite() -> str:
    """Trap unless all floats from an address on are finite."""

    def below_infinity(kind: str, read: Expression, infinity: Expression) -> Expression:
        return f"({kind}.lt ({kind}.abs {read}) {infinity})"

    vector = "\n".join(
        [
            assign(
                "v",
                f"(v128.and {local('v')} {below_infinity('f32x4', _load('x'), number(float('inf')))})",
            ),
            assign("x", add(local("x"), 16)),
        ]
    )
    single = "\n".join(
        [
            "(if (i32.eqz",
            below_infinity("f32", f"(f32.load {local('x')})", "(f32.const inf)"),
            ") (then unreachable))",
            assign("x", add(local("x"), 4)),
        ]
    )
    return _function(
        "finite",
        ("x", "count"),
        [
            assign("v", "(v128.const i32x4 -1 -1 -1 -1)"),
            counted("c", f"(i32.and {local('count')} {const(-4)})", vector, step=4),
            f"(if (i32.eqz (i32x4.all_true {local('v')})) (then unreachable))",
            counted("c", local("count"), single),
        ],
    )


_ONE = number(1)
KERNELS: Mapping[str, str] = {
    "row_sum": _row_sum(),
    "softmax": _softmax(),
    "layer_norm": _layer_norm(),
    "pack_transposed": _pack_transposed(),
    "pack": _pack(),
    "spread": _spread(),
    "copy_rows": _copy_rows(),
    "finite": _finite(),
    "max_pool": _pool("max_pool", "max", mean=False),
    "mean_pool": _pool("mean_pool", "add", mean=True),
    "add": _over_rows("add", _YX, [_store("p", _f32x4("add", _load("p"), _load("q")))]),
    "multiply": _over_rows("multiply", _YX, [_store("p", _f32x4("mul", _load("p"), _load("q")))]),
    "halve": _over_rows(
        "halve", {"p": ("y", "y_row")}, [_store("p", _f32x4("mul", _load("p"), number(0.5)))]
    ),
    "scale_onto": _over_rows(
        "scale_onto",
        _YXG,
        [_store("p", _f32x4("add", _load("s1"), _f32x4("mul", _load("p"), _load("q"))))],
    ),
    "blend": _over_rows(
        "blend",
        _YXG,
        [
            assign("v", _load("q")),
            assign("u", _f32x4("mul", _f32x4("sub", _ONE, local("v")), _load("s1"))),
            _store("p", _f32x4("add", _f32x4("mul", local("v"), _load("p")), local("u"))),
        ],
    ),
    "normalise": _over_rows(
        "normalise",
        {**_YX, "s1": ("mean", None), "s2": ("scale", None), "s3": ("shift", None)},
        [
            assign("v", _f32x4("mul", _f32x4("sub", _load("q"), _load("s1")), _load("s2"))),
            _store("p", _f32x4("add", local("v"), _load("s3"))),
        ],
    ),
}
"""Text by name. What those over rows do with y, x and g:

add: y = y + x. multiply: y = y * x. halve: y = y / 2. scale_onto: y = g + y * x. blend: y = x y + (1 - x) g.
normalise: y = (x - mean) * scale + shift, where the last three are shared by all rows.
"""

NEEDS: Mapping[str, tuple[str, ...]] = {"softmax": ("row_sum",), "layer_norm": ("row_sum",)}
"""Kernels that a kernel calls."""
