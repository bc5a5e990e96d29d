"""Networks of the committed version as WebAssembly instances: compiled once a shape, loaded once a state."""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

import numpy as np

from flow_nexus_neural.coordination.backend_choice import FAR_TOO_LONG_MS, TOO_LONG
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.protocol.plan import NetworkPlan
from flow_nexus_neural.wasm.compile.network import CompiledNetwork, compile_network
from flow_nexus_neural.wasm.compile.writer import NotCompilable
from flow_nexus_neural.wasm.machine import LoadedNetwork, WasmTrap, WasmUnavailable, assemble

MAX_PAGES: Final = 4096
"""256 MiB of 64 KiB pages for all instances of a cluster."""
SHAPES_KEPT: Final = 32
RUNS: Final = 3

Assembled = tuple[CompiledNetwork, bytes]


class Twins:
    """The instances of one cluster, by digest of their weights."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._loaded: dict[str, LoadedNetwork] = {}
        self._shapes: OrderedDict[str, Assembled | str] = OrderedDict()
        self._too_long: set[str] = set()
        """Weights with which a run for one record took too long; tried again with the next version."""

    def get(self, digest: str | None) -> LoadedNetwork | None:
        """The instance with these weights, if there is one."""
        return self._loaded.get(digest or "")

    def drop(self, digest: str | None) -> None:
        """Never ask this instance again."""
        self._loaded.pop(digest or "", None)

    def keep_only(self, digests: Collection[str]) -> None:
        """Give up the instances of other versions."""
        self._too_long.intersection_update(digests)
        for digest in [one for one in self._loaded if one not in digests]:
            del self._loaded[digest]

    async def bring(self, network: NetworkGroup) -> str | None:
        """Make an instance with a network's weights, if there is none.

        Returns:
            Why there can be none; None where there is one.
        """
        if network.digest in self._loaded:
            return None
        if network.state is None or network.digest is None:
            return "its weights are not in memory"
        try:
            made = await self._load(network, network.state)
            run_s = await self._shortest_run_s(made, network)
        except WasmUnavailable as failure:
            return str(failure)
        except WasmTrap as trap:
            return f"the module trapped: {trap}"
        if run_s * 1e3 > FAR_TOO_LONG_MS:
            self._too_long.add(network.digest)
            return TOO_LONG
        self._loaded[network.digest] = made
        return None

    async def _load(self, network: NetworkGroup, state: ModelState) -> LoadedNetwork:
        """An instance of its own. Raises `WasmUnavailable`."""
        if network.digest in self._too_long:
            raise WasmUnavailable(TOO_LONG)
        shape = await self._shape(network)
        if isinstance(shape, str):
            raise WasmUnavailable(shape)
        compiled, binary = shape
        pages = sum(one.compiled.pages for one in self._loaded.values())
        if pages + compiled.pages > MAX_PAGES:
            raise WasmUnavailable(
                f"the modules of the cluster would need more than {MAX_PAGES // 16} MiB"
            )
        tensors = network.tensors(state)

        def load() -> LoadedNetwork:
            made = LoadedNetwork(compiled, binary)
            made.load(tensors)
            return made

        return await self._context.offload(load)

    async def _shortest_run_s(self, made: LoadedNetwork, network: NetworkGroup) -> float:
        """Of some runs for one record, beside the event loop, which a long one would hold up."""
        row = np.zeros((1, *network.plan.input.row_shape), np.float32)
        taken: list[float] = []
        for _ in range(RUNS):
            began_s = self._context.clock()
            await self._context.offload(made.infer, row)
            taken.append(self._context.clock() - began_s)
        return min(taken)

    async def _shape(self, network: NetworkGroup) -> Assembled | str:
        """The module of a network's shape, or why there is none."""
        key = network.plan_digest
        if key not in self._shapes:
            self._shapes[key] = await self._context.offload(_assembled, network.plan)
        self._shapes.move_to_end(key)
        while len(self._shapes) > SHAPES_KEPT:
            self._shapes.popitem(last=False)
        return self._shapes[key]


def _assembled(plan: NetworkPlan) -> Assembled | str:
    try:
        compiled = compile_network(plan)
        return compiled, assemble(compiled.text)
    except (NotCompilable, WasmUnavailable) as failure:
        return str(failure)
