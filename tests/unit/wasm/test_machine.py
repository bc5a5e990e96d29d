"""What runs modules: its self-test, modules from elsewhere, and life without the extra."""

import importlib.util
import threading

import numpy as np
import pytest
import wasmtime

from flow_nexus_neural.wasm import machine
from flow_nexus_neural.wasm.machine import WasmTrap, WasmUnavailable, assemble, run_foreign
from tests.doubles.limits import HANG_S
from tests.unit.node.building import FLAT, plan_of, rows
from tests.unit.wasm.reference import loaded, random_state

MEMORY = '(memory (export "memory") 1 1)'
IMPORTS = f'(module (import "a" "b" (func)) {MEMORY} (func (export "run") (param i32)))'
LARGE = '(module (memory (export "memory") 2000) (func (export "run") (param i32)))'
GLOBALS = "".join(
    f'(global (export "{name}") i32 (i32.const {value}))'
    for name, value in {"input": 0, "output": 64, "in_ld": 2, "out_ld": 1, "max_batch": 2}.items()
)
WRITES = (
    f'(module {MEMORY} {GLOBALS} (func (export "run") (param $n i32)'
    " (f32.store (i32.const 64) (f32.convert_i32_s (local.get $n)))))"
)
ENDLESS = f'(module {MEMORY} {GLOBALS} (func (export "run") (param i32) (loop $l (br $l))))'
RUN = '(func (export "run") (param i32))'
ENDLESS_START = f"(module {MEMORY} {GLOBALS} (func $f (loop $l (br $l))) {RUN} (start $f))"
ENDLESS_RECURSION = (
    f'(module {MEMORY} {GLOBALS} (func $f (export "run") (param i32) (call $f (i32.const 1))))'
)
NO_INTERFACE = {
    "no run": f"(module {MEMORY})",
    "imports": IMPORTS,
    "much memory": LARGE,
    "a second memory": f"(module {MEMORY} (memory 1) {GLOBALS} {RUN})",
    "a table": f"(module {MEMORY} (table 1000000000 funcref) {GLOBALS} {RUN})",
    "a function as memory": f'(module (func (export "memory")) {GLOBALS} {RUN})',
    "a memory as run": f'(module {MEMORY} {GLOBALS} (memory (export "run") 1))',
    "a run of nothing": f'(module {MEMORY} {GLOBALS} (func (export "run")))',
    "a function as number": f'(module {MEMORY} (func (export "input")) {RUN})',
    "an input beyond its memory": WRITES.replace("(i32.const 0)", "(i32.const 2000000000)", 1),
    "an output beyond its memory": WRITES.replace("(i32.const 64)", "(i32.const 2000000000)", 1),
    "no batch": WRITES.replace('"max_batch") i32 (i32.const 2)', '"max_batch") i32 (i32.const 0)'),
}
ASKED = np.zeros((1, 2), np.float32)


@pytest.fixture
def afresh():
    machine.availability.cache_clear()
    yield
    machine.availability.cache_clear()


def test_the_private_call_passes_its_self_test_with_the_pinned_wasmtime():
    assert machine.availability() == machine.Availability(None, fast_call=True)


def test_a_wasmtime_without_the_private_call_is_used_through_the_public_one(monkeypatch, afresh):
    plan = plan_of([{"type": "dense", "units": 3}], FLAT)
    state, asked = random_state(plan), rows(5, FLAT)
    wanted = loaded(plan, state).infer(asked)
    machine.availability.cache_clear()
    bindings = importlib.import_module("wasmtime._bindings")
    monkeypatch.delattr(bindings, "_wasmtime_func_call_unchecked")
    assert machine.availability() == machine.Availability(None, fast_call=False)
    np.testing.assert_array_equal(loaded(plan, state).infer(asked), wanted)


def test_a_private_call_that_computes_nothing_is_found_out(monkeypatch, afresh):
    bindings = importlib.import_module("wasmtime._bindings")
    nothing = machine._UNCHECKED(lambda *_: None)
    monkeypatch.setattr(bindings, "_wasmtime_func_call_unchecked", nothing)
    assert machine.availability() == machine.Availability(None, fast_call=False)


def test_without_the_extra_the_reason_names_the_install_command(monkeypatch, afresh):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert machine.availability().reason == machine.MISSING
    assert "flow-nexus-neural[wasm]" in machine.MISSING
    with pytest.raises(WasmUnavailable, match="not installed"):
        assemble(WRITES)


def test_memory_that_cannot_be_had_is_said(monkeypatch):
    assert machine.availability().reason is None
    monkeypatch.setattr(machine, "FOREIGN_PAGES", 0)
    plan = plan_of([{"type": "dense", "units": 3}], FLAT)
    with pytest.raises(WasmUnavailable, match="memory"):
        loaded(plan, random_state(plan))


def test_a_foreign_module_runs_with_a_deadline_as_many_rows_at_a_time_as_it_takes():
    outputs = run_foreign(assemble(WRITES), np.zeros((3, 2), np.float32), deadline_s=10)
    assert outputs[:, 0].tolist() == [2, 0, 1]


@pytest.mark.parametrize("text", [ENDLESS, ENDLESS_START, ENDLESS_RECURSION])
def test_a_foreign_module_that_does_not_end_is_ended(text):
    with pytest.raises(WasmTrap):
        run_foreign(assemble(text), ASKED, deadline_s=0.05)


def test_a_foreign_module_whose_deadline_came_before_its_run_is_ended_too(monkeypatch):
    """As where it takes long to compile: the deadline is one of the run, not of its beginning."""
    ticked = threading.Event()
    tick = wasmtime.Engine.increment_epoch

    def noted(engine):
        tick(engine)
        ticked.set()

    class Slow(machine.Instance):
        def __init__(self, *given, **more):
            assert ticked.wait(HANG_S)
            super().__init__(*given, **more)

    monkeypatch.setattr(wasmtime.Engine, "increment_epoch", noted)
    monkeypatch.setattr(machine, "Instance", Slow)
    with pytest.raises(WasmTrap):
        run_foreign(assemble(ENDLESS), ASKED, deadline_s=0.05)


def test_a_tick_just_before_a_foreign_module_runs_takes_none_of_its_time(monkeypatch):
    """As where compiling took nearly the whole deadline."""

    class Ticked(machine.Instance):
        def __init__(self, engine, *given, **more):
            super().__init__(engine, *given, **more)
            engine.increment_epoch()

    monkeypatch.setattr(machine, "Instance", Ticked)
    outputs = run_foreign(assemble(WRITES), np.zeros((3, 2), np.float32), deadline_s=HANG_S)
    assert outputs[:, 0].tolist() == [2, 0, 1]


@pytest.mark.parametrize("name", NO_INTERFACE)
def test_a_foreign_module_with_imports_much_memory_or_another_interface_is_not_run(name):
    with pytest.raises((WasmUnavailable, WasmTrap)):
        run_foreign(assemble(NO_INTERFACE[name]), ASKED, deadline_s=10)


def test_bytes_that_are_no_module_are_not_run():
    with pytest.raises(WasmUnavailable):
        run_foreign(b"\0asm nonsense", ASKED, deadline_s=10)


def test_nothing_of_ours_can_grow_or_call_out():
    plan = plan_of([{"type": "lstm", "units": 3}])
    from flow_nexus_neural.wasm.compile.network import compile_network

    compiled = compile_network(plan)
    module = wasmtime.Module(wasmtime.Engine(), assemble(compiled.text))
    assert list(module.imports) == []
    (memory,) = [e.type for e in module.exports if e.name == "memory"]
    assert memory.limits.min == memory.limits.max == compiled.pages
    assert "memory.grow" not in compiled.text
