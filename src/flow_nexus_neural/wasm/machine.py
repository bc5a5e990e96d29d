"""Runs modules in this process: the only place that knows `wasmtime`, which the extra `wasm` brings.

A module that was written here (`compile`) has no imports, a memory that cannot grow and loops with bounds, so
it is run without interruption points, which would cost half of its speed. Any other module runs with an epoch
deadline, and still without imports.
"""

import atexit
import ctypes
import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.wasm.compile.network import CompiledNetwork

if TYPE_CHECKING:
    import wasmtime

INSTALL: Final = "pip install 'flow-nexus-neural[wasm]'"
MISSING: Final = f"wasmtime is not installed: {INSTALL}"
SELF_TEST = """
(module (memory (export "memory") 1 1) (func (export "run") (param $n i32)
  (if (i32.le_s (local.get $n) (i32.const 0)) (then unreachable))
  (i32.store (i32.const 0) (i32.mul (local.get $n) (i32.const 3)))))
"""
FOREIGN_PAGES = 1024
KEPT_MODULES = 64
_NO_MODULE: Final = (AttributeError, KeyError, TypeError, ValueError)
"""What exports of other kinds, or none, fail with."""

Floats = NDArray[np.float32]
_UNCHECKED: Final = ctypes.CFUNCTYPE(
    ctypes.c_void_p,
    *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p),
)
"""`wasmtime_func_call_unchecked`: context, function, parameters and results, how many, place of a trap."""


class WasmUnavailable(RuntimeError):
    """Modules cannot be run here, and why."""


class WasmTrap(RuntimeError):
    """A run ended in a trap; what it wrote is not valid."""


@dataclass(frozen=True)
class Availability:
    """Whether modules can be run here.

    Attributes:
        reason: Why not; None where they can.
        fast_call: Whether the private call of wasmtime gave the right results; else the public one is used.
    """

    reason: str | None
    fast_call: bool


@cache
def availability() -> Availability:
    """Whether modules can be run here: looked up and tried once."""
    if importlib.util.find_spec("wasmtime") is None:
        return Availability(MISSING, fast_call=False)
    try:
        engine = _engine()
        module = _wasmtime().Module(engine, _wasmtime().wat2wasm(SELF_TEST))
        plain = Instance(engine, module, fast=False)
        if not _gives_right_results(plain):
            return Availability("wasmtime's self-test gave wrong results", fast_call=False)
    except Exception as failure:  # noqa: BLE001 - whatever is wrong with it, torch answers
        return Availability(f"wasmtime cannot be used: {failure}"[:200], fast_call=False)
    try:
        fast = _gives_right_results(Instance(engine, module, fast=True))
    except Exception:  # noqa: BLE001 - a private call, which another release may not have
        fast = False
    return Availability(None, fast_call=fast)


def _gives_right_results(instance: "Instance") -> bool:
    """Results, a trap, and results after it."""
    words = instance.memory.view(np.int32)
    for number in (1, 7):
        instance.run(number)
        if words[0] != 3 * number:
            return False
        try:
            instance.run(0)
        except WasmTrap:
            continue
        return False
    return True


def assemble(text: str) -> bytes:
    """The binary form of a module.

    Raises:
        WasmUnavailable: wasmtime is not installed.
    """
    _require()
    return bytes(_wasmtime().wat2wasm(text))


class Instance:
    """One instance of a module with the interface of `compile`: `memory` and `run(n)`.

    Not for use by two threads at one time.

    Attributes:
        memory: All of it, as floats; a view that stays valid, since the memory cannot grow.
    """

    def __init__(
        self,
        engine: "wasmtime.Engine",
        module: "wasmtime.Module",
        *,
        fast: bool,
        with_deadline: bool = False,
    ) -> None:
        wasmtime = _wasmtime()
        if module.imports:
            raise WasmUnavailable(f"the module imports {module.imports[0].name!r}; none may")
        self._store = wasmtime.Store(engine)
        self._store.set_limits(
            memory_size=FOREIGN_PAGES << 16, table_elements=0, tables=0, memories=1
        )
        if with_deadline:
            self._store.set_epoch_deadline(2)  # the first tick may come at once
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        memory, run = exports["memory"], exports["run"]
        self._exports = exports
        pointer = ctypes.cast(memory.data_ptr(self._store), ctypes.POINTER(ctypes.c_float))
        self.memory: Floats = np.ctypeslib.as_array(pointer, (memory.data_len(self._store) // 4,))
        self.run: Callable[[int], None] = self._fast(run) if fast else self._public(run)

    def number(self, name: str) -> int:
        """An exported i32 global. Raises `KeyError` where there is none."""
        return int(self._exports[name].value(self._store))

    def _public(self, run: Any) -> Callable[[int], None]:
        wasmtime, store = _wasmtime(), self._store

        def call(n: int) -> None:
            try:
                run(store, n)
            except (wasmtime.Trap, wasmtime.WasmtimeError) as failure:
                raise WasmTrap(str(failure).splitlines()[0]) from None

        return call

    def _fast(self, run: Any) -> Callable[[int], None]:
        """`wasmtime_func_call_unchecked` with memory of its own: a tenth of the public call's time.

        It checks nothing, so it is used for `run(i32)` only, and what it needs is kept alive here.
        """
        wasmtime = _wasmtime()
        bindings = importlib.import_module("wasmtime._bindings")
        address = ctypes.cast(bindings._wasmtime_func_call_unchecked, ctypes.c_void_p)  # noqa: SLF001 - pinned, and tested at start
        # Numbers made once in place of the binding's pointers: their conversions took longer than the call.
        call_unchecked = _UNCHECKED(address.value or 0)
        function, parameters = run._func, (bindings.wasmtime_val_raw_t * 1)()  # noqa: SLF001
        parameter, trap = parameters[0], ctypes.c_void_p()
        context = ctypes.cast(self._store._context(), ctypes.c_void_p)  # noqa: SLF001
        places = (ctypes.c_void_p(ctypes.addressof(one)) for one in (function, parameters, trap))
        function_at, parameters_at, trap_at = places
        arguments = context, function_at, parameters_at, ctypes.c_size_t(1), trap_at

        def call(n: int) -> None:
            parameter.i32 = n
            error = call_unchecked(*arguments)
            if error or trap.value:
                raise WasmTrap(ended(error))

        def ended(error: int | None) -> str:
            """What went wrong; the trap is freed, so that the next call starts without one."""
            if error:
                owned = ctypes.cast(error, ctypes.POINTER(bindings.wasmtime_error_t))
                return str(wasmtime.WasmtimeError._from_ptr(owned)).splitlines()[0]  # noqa: SLF001
            owned = ctypes.cast(trap, ctypes.POINTER(bindings.wasm_trap_t))
            trap.value = None
            return str(wasmtime.Trap._from_ptr(owned)).splitlines()[0]  # noqa: SLF001

        self._kept = run, function, parameters, trap
        return call


class LoadedNetwork:
    """A network that was written here, with weights, ready to run.

    Args:
        compiled: Its module.
        binary: The module assembled.

    Raises:
        WasmUnavailable: Modules cannot be run here, or the memory cannot be had.
    """

    def __init__(self, compiled: CompiledNetwork, binary: bytes) -> None:
        _require()
        self.compiled = compiled
        try:
            self._instance = Instance(_engine(), _module(binary), fast=availability().fast_call)
        except (_wasmtime().WasmtimeError, _wasmtime().Trap) as failure:
            raise WasmUnavailable(f"the module cannot be run: {failure}"[:200]) from None
        memory, batch = self._instance.memory, compiled.max_batch
        self._most, self._width = batch, compiled.row_width
        start, row = compiled.input_at // 4, compiled.row_width
        self._input = memory[start : start + batch * row].reshape(batch, row)
        start, row = compiled.output_at // 4, compiled.output_row
        self._output = memory[start : start + batch * row].reshape(batch, row)[
            :, : compiled.n_outputs
        ]

    def load(self, tensors: Mapping[str, Floats]) -> None:
        """Copy weights into the module: by full name, in Keras' shapes."""
        self.compiled.fill(self._instance.memory, tensors)

    def infer(self, rows: Floats) -> Floats:
        """Outputs [n, n_outputs] of rows [n, ...]; a row's result does not depend on the others.

        Raises:
            ValueError: There is no row, rows are not finite, or have another size than the network's.
            WasmTrap: A run ended in a trap.
        """
        n = len(rows)
        if rows.shape != (n, self._width):
            if rows.size != n * self._width:
                raise ValueError(
                    f"rows of shape {rows.shape} do not fit {self._width} floats a row"
                )
            rows = rows.reshape(n, self._width)
        if 0 < n <= self._most:
            return self._run(rows, n)
        if not n:
            raise ValueError("there are no rows")
        parts = [rows[start : start + self._most] for start in range(0, n, self._most)]
        return np.concatenate([self._run(part, len(part)) for part in parts])

    def _run(self, rows: Floats, n: int) -> Floats:
        """Outputs of rows that one run can take."""
        self._input[:n] = rows
        try:
            self._instance.run(n)
        except WasmTrap:  # the module looks at its input, faster than it could be done here
            if np.isfinite(self._input[:n]).all():
                raise
            raise ValueError("rows are not finite") from None
        return self._output[:n].copy()


def run_foreign(binary: bytes, rows: Floats, deadline_s: float) -> Floats:
    """Outputs [n, out_ld] of a module with the interface of `compile` that was not written here.

    It has no imports, 64 MiB at most, and is ended between one and two deadlines after it was compiled. Its
    globals `input`, `output`, `in_ld`, `out_ld` and `max_batch` say where rows and outputs lie.

    Raises:
        WasmUnavailable: It is no module with this interface, imports something or wants more memory.
        WasmTrap: It trapped, or did not end in time.
    """
    _require()
    wasmtime = _wasmtime()
    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    with _ticking(engine, deadline_s):
        try:
            module = wasmtime.Module(engine, binary)
            instance = Instance(engine, module, fast=False, with_deadline=True)
            return _outputs_of(instance, rows.reshape(len(rows), -1))
        except WasmTrap:
            raise
        except wasmtime.Trap as trap:  # by what it does when it is started
            raise WasmTrap(str(trap).splitlines()[0]) from None
        except (wasmtime.WasmtimeError, *_NO_MODULE) as failure:
            raise WasmUnavailable(f"not a module that can be run: {failure}"[:200]) from None


@contextmanager
def _ticking(engine: "wasmtime.Engine", every_s: float) -> Iterator[None]:
    """Advance an engine's epoch again and again: a single time might come before a run has its deadline."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(every_s):
            engine.increment_epoch()

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        ended.set()
        ticker.join()


def _outputs_of(instance: Instance, rows: Floats) -> Floats:
    """Run a module on rows, as many at a time as it takes."""
    at = {
        name: instance.number(name) for name in ("input", "output", "in_ld", "out_ld", "max_batch")
    }
    if rows.shape[1] != at["in_ld"] or min(at.values()) < 0 or not at["max_batch"]:
        raise ValueError(f"it takes rows of {at['in_ld']} floats, not of {rows.shape[1]}")
    outputs = []
    for start in range(0, len(rows), at["max_batch"]):
        part = rows[start : start + at["max_batch"]]
        begin, size = at["input"] // 4, part.size
        instance.memory[begin : begin + size] = part.ravel()
        instance.run(len(part))
        begin, size = at["output"] // 4, len(part) * at["out_ld"]
        found = instance.memory[begin : begin + size]
        outputs.append(found.reshape(len(part), at["out_ld"]).copy())
    return np.concatenate(outputs)


@cache
def _engine() -> "wasmtime.Engine":
    engine: wasmtime.Engine = _wasmtime().Engine()
    return engine


@lru_cache(maxsize=KEPT_MODULES)
def _module(binary: bytes) -> "wasmtime.Module":
    module: wasmtime.Module = _wasmtime().Module(_engine(), binary)
    return module


def _wasmtime() -> Any:
    return importlib.import_module("wasmtime")


def _require() -> None:
    reason = None if importlib.util.find_spec("wasmtime") else MISSING
    if reason is not None:
        raise WasmUnavailable(reason)


@atexit.register
def _forget() -> None:
    """Free what is cached while wasmtime is still there: its objects fail when they outlive its module."""
    _module.cache_clear()
    _engine.cache_clear()
