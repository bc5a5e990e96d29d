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

UNROLLED = 4
"""Channels per turn of the inner loop."""
PANEL_BYTES = 32
ROWS = 4
PANELS = 4

PARAMETERS = (
    "x", "x_row", "w", "init", "init_row", "y", "y_row", "rows", "k", "taps", "tap_bytes", "panels",
)  # fmt: skip


def _accumulate(accumulator: str, weight: Expression) -> str:
    product = f"(f32x4.mul {local('xs')} {weight})"
    return assign(accumulator, f"(f32x4.add {local(accumulator)} {product})")


def _spread_input(channel: int, row: int) -> str:
    """One channel of one row in all lanes; `load32_splat` would go by an integer register (wasmtime 50)."""
    return assign("xs", f"(f32x4.splat (f32.load offset={4 * channel} {local(f'x{row}')}))")


def _tile_channel(channel: int) -> list[str]:
    """One channel of four rows and one panel."""
    lines = [
        assign(f"w{half}", f"(v128.load offset={channel * PANEL_BYTES + 16 * half} {local('wp')})")
        for half in range(2)
    ]
    for row in range(ROWS):
        lines.append(_spread_input(channel, row))
        lines += [_accumulate(f"a{row}{half}", local(f"w{half}")) for half in range(2)]
    return ["\n".join(lines)]


def _row_channel(channel: int, panels: int) -> list[str]:
    """One channel of one row and several panels, in parts of two panels."""
    parts = [[_spread_input(channel, 0)]]
    for panel in range(panels):
        pointer = local("wp" if panel == 0 else f"wp{panel}")
        if panel and panel % 2 == 0:
            parts.append([])
        for half in range(2):
            offset = channel * PANEL_BYTES + 16 * half
            weight = f"(v128.load offset={offset} {pointer})"
            parts[-1].append(_accumulate(f"a{panel}{half}", weight))
    return ["\n".join(lines) for lines in parts]


def _over_channels(channels: "list[list[str]]", move: "dict[str, int]") -> str:
    """The loops over taps and channels.

    After every part stands a test that may leave the loop, also where it never does: Cranelift (wasmtime 50)
    does all loads of a block first and its arithmetic last, and spills to the stack what sixteen registers
    do not hold, which cost a third of the speed (measured).

    Args:
        channels: Texts of `UNROLLED` channels, each in parts.
        move: Bytes that each pointer moves per channel.
    """
    turn: list[str] = []
    for done, parts in enumerate(channels, 1):
        for part in parts[:-1]:
            turn += [part, f"(br_if $end_c (i32.eqz {local('k')}))"]
        turn += [parts[-1], f"(br_if $end_c (i32.eq {local('c')} {const(done)}))"]
    turn += [assign(p, add(local(p), UNROLLED * n_bytes)) for p, n_bytes in move.items()]
    tap = [
        assign("c", local("k")),
        "(block $end_c (loop $next_c",
        *turn,
        assign("c", f"(i32.sub {local('c')} {const(UNROLLED)})"),
        "(br $next_c)))",
        # The last turn has not moved them.
        *(
            assign(p, add(local(p), local("to_next_x" if p.startswith("x") else "to_next_w")))
            for p in move
        ),
    ]
    return "\n".join([assign("t", const(0)), counted("t", local("taps"), "\n".join(tap))])


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
    in_full_turns = f"(i32.and (i32.sub {local('k')} {const(1)}) {const(-UNROLLED)})"
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
        "c t r r1 p q k_last to_next_x to_next_w panel_bytes wp wp1 wp2 wp3 wp_panel init_p y_p x_p p0"
        " x0 x1 x2 x3"
    )
    vectors = ["xs", "w0", "w1", *(f"a{row}{half}" for row in range(ROWS) for half in range(2))]
    return "\n".join(
        [
            "(func $matmul",
            *(f"(param ${name} i32)" for name in PARAMETERS),
            *(f"(local ${name} i32)" for name in numbers.split()),
            *(f"(local ${name} v128)" for name in vectors),
            assign("k_last", f"(i32.sub {local('k')} {in_full_turns})"),
            assign("to_next_x", f"(i32.sub {local('tap_bytes')} {times(in_full_turns, 4)})"),
            assign("to_next_w", times(local("k_last"), PANEL_BYTES)),
            assign("panel_bytes", size),
            f"(if (i32.ge_u {local('rows')} {const(ROWS)}) (then {start}\n{many}))",
            assign("r1", f"(i32.and {local('rows')} {const(-ROWS)})"),
            singles,
            ")",
        ]
    )


MATMUL = _matmul()
