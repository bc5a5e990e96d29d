"""The matrix product: all layers with weights are made of it.

`y[r] = init[r] + sum over taps j and channels k of x[r][j][k] * w[j][k]`, in this order for every row
however many are computed together: so a row's result does not depend on the batch that it is part of.

Weights are packed as [panels][taps * k][8]: eight columns at a time, read in order. Several rows go through
four at a time (8 accumulators of 4 columns each); single rows take four panels at a time (as many
accumulators), since a chain of dependent additions would leave most of the processor idle.

Addresses and strides are bytes.
"""

from flow_nexus_neural.wasm.compile.text import (
    Expression,
    add,
    assign,
    const,
    counted,
    local,
    times,
)

UNROLLED = 2
"""Channels per turn of the inner loop."""
PANEL_BYTES = 32
ROWS = 4
PANELS = 4

PARAMETERS = (
    "x", "x_row", "w", "init", "init_row", "y", "y_row", "rows", "k", "taps", "tap_bytes", "panels",
)  # fmt: skip


def _accumulate(accumulator: str, x: str, weight: Expression) -> str:
    return assign(accumulator, f"(f32x4.add {local(accumulator)} (f32x4.mul {local(x)} {weight}))")


def _tile_channel(channel: int) -> str:
    """One channel of four rows and one panel."""
    lines = [
        assign(f"w{half}", f"(v128.load offset={channel * PANEL_BYTES + 16 * half} {local('wp')})")
        for half in range(2)
    ]
    for row in range(ROWS):
        lines.append(
            assign("xs", f"(f32x4.splat (f32.load offset={4 * channel} {local(f'x{row}')}))")
        )
        lines += [_accumulate(f"a{row}{half}", "xs", local(f"w{half}")) for half in range(2)]
    return "\n".join(lines)


def _row_channel(channel: int, panels: int) -> str:
    """One channel of one row and several panels."""
    lines = [assign("xs", f"(f32x4.splat (f32.load offset={4 * channel} {local('x0')}))")]
    for panel in range(panels):
        pointer = local("wp" if panel == 0 else f"wp{panel}")
        for half in range(2):
            offset = channel * PANEL_BYTES + 16 * half
            lines.append(
                _accumulate(f"a{panel}{half}", "xs", f"(v128.load offset={offset} {pointer})")
            )
    return "\n".join(lines)


def _over_channels(one: "list[str]", move: "dict[str, int]") -> str:
    """The loops over taps and channels.

    Args:
        one: Text of `UNROLLED` channels in a row; the first is used for what remains.
        move: Bytes that each pointer moves per channel.
    """

    def moved(channels: int) -> str:
        return "\n".join(assign(p, add(local(p), channels * b)) for p, b in move.items())

    rows = [pointer for pointer in move if pointer.startswith("x")]
    to_next_tap = "\n".join(
        assign(p, add(local(p), f"(i32.sub {local('tap_bytes')} {times(local('k'), 4)})"))
        for p in rows
    )
    main = counted("c", local("k_main"), "\n".join(one) + "\n" + moved(UNROLLED), step=UNROLLED)
    rest = counted("c", local("k"), one[0] + "\n" + moved(1))
    inner = f"{assign('c', const(0))}\n{main}\n{rest}\n{to_next_tap}"
    return f"{assign('t', const(0))}\n{counted('t', local('taps'), inner)}"


def _tiles() -> str:
    """Rows, four at a time."""
    begin = [assign("wp", local("wp_panel"))]
    end = []
    for row in range(ROWS):
        number = add(local("r"), row)
        begin.append(assign(f"x{row}", add(local("x"), f"(i32.mul {number} {local('x_row')})")))
        begin.append(assign("p0", add(local("init_p"), f"(i32.mul {number} {local('init_row')})")))
        end.append(assign("p0", add(local("y_p"), f"(i32.mul {number} {local('y_row')})")))
        for half in range(2):
            begin.append(assign(f"a{row}{half}", f"(v128.load offset={16 * half} {local('p0')})"))
            end.append(f"(v128.store offset={16 * half} {local('p0')} {local(f'a{row}{half}')})")
    move = {"wp": PANEL_BYTES, **{f"x{row}": 4 for row in range(ROWS)}}
    channels = [_tile_channel(channel) for channel in range(UNROLLED)]
    return "\n".join([*begin, _over_channels(channels, move), *end])


def _single(panels: int) -> str:
    """One row, several panels."""
    begin = [assign("x0", local("x_p")), assign("wp", local("wp_panel"))]
    begin += [
        assign(f"wp{n}", add(local("wp_panel"), times(local("panel_bytes"), n)))
        for n in range(1, panels)
    ]
    end = []
    for panel in range(panels):
        for half in range(2):
            offset = PANEL_BYTES * panel + 16 * half
            begin.append(
                assign(f"a{panel}{half}", f"(v128.load offset={offset} {local('init_p')})")
            )
            end.append(f"(v128.store offset={offset} {local('y_p')} {local(f'a{panel}{half}')})")
    move = {"wp": PANEL_BYTES, "x0": 4}
    move |= {f"wp{n}": PANEL_BYTES for n in range(1, panels)}
    channels = [_row_channel(channel, panels) for channel in range(UNROLLED)]
    return "\n".join([*begin, _over_channels(channels, move), *end])


def _advance(panels: int) -> str:
    """On to the next panels."""
    return "\n".join(
        [
            assign("wp_panel", add(local("wp_panel"), times(local("panel_bytes"), panels))),
            assign("init_p", add(local("init_p"), PANEL_BYTES * panels)),
            assign("y_p", add(local("y_p"), PANEL_BYTES * panels)),
        ]
    )


def _matmul() -> str:
    kept = f"(i32.and {local('k')} {const(-UNROLLED)})"
    size = times(f"(i32.mul {local('k')} {local('taps')})", PANEL_BYTES)
    start = "\n".join(
        [assign("wp_panel", local("w")), assign("init_p", local("init")), assign("y_p", local("y"))]
    )
    tiles = counted("r", f"(i32.and {local('rows')} {const(-ROWS)})", _tiles(), step=ROWS)
    many = counted("p", local("panels"), f"{assign('r', const(0))}\n{tiles}\n{_advance(1)}")
    by_fours = counted(
        "p",
        f"(i32.and {local('panels')} {const(-PANELS)})",
        _single(PANELS) + _advance(PANELS),
        step=PANELS,
    )
    by_one = counted("q", local("panels"), _single(1) + _advance(1))
    row_start = "\n".join(
        [
            assign("wp_panel", local("w")),
            assign("x_p", add(local("x"), f"(i32.mul {local('r')} {local('x_row')})")),
            assign("init_p", add(local("init"), f"(i32.mul {local('r')} {local('init_row')})")),
            assign("y_p", add(local("y"), f"(i32.mul {local('r')} {local('y_row')})")),
            assign("p", const(0)),
        ]
    )
    singles = counted(
        "r1", local("rows"),
        f"{assign('r', local('r1'))}\n{row_start}\n{by_fours}\n{assign('q', local('p'))}\n{by_one}",
    )  # fmt: skip
    numbers = (
        "c t r r1 p q k_main panel_bytes wp wp1 wp2 wp3 wp_panel init_p y_p x_p p0 x0 x1 x2 x3"
    )
    vectors = ["xs", "w0", "w1", *(f"a{row}{half}" for row in range(ROWS) for half in range(2))]
    return "\n".join(
        [
            "(func $matmul",
            *(f"(param ${name} i32)" for name in PARAMETERS),
            *(f"(local ${name} i32)" for name in numbers.split()),
            *(f"(local ${name} v128)" for name in vectors),
            assign("k_main", kept),
            assign("panel_bytes", size),
            f"(if (i32.ge_u {local('rows')} {const(ROWS)}) (then {start}\n{many}))",
            assign("r1", f"(i32.and {local('rows')} {const(-ROWS)})"),
            singles,
            ")",
        ]
    )


MATMUL = _matmul()
