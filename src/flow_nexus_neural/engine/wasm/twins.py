"""Networks of the committed version as WebAssembly instances: compiled once a shape, loaded once a state."""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.protocol.plan import NetworkPlan
from flow_nexus_neural.wasm.compile.network import CompiledNetwork, compile_network
from flow_nexus_neural.wasm.compile.writer import NotCompilable
from flow_nexus_neural.wasm.machine import LoadedNetwork, WasmUnavailable, assemble

MAX_PAGES: Final = 4096
"""256 MiB of 64 KiB pages for all instances of a cluster."""
SHAPES_KEPT: Final = 32

Assembled = tuple[CompiledNetwork, bytes]


class Twins:
    """The instances of one cluster, by digest of their weights."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._loaded: dict[str, LoadedNetwork] = {}
        self._shapes: OrderedDict[str, Assembled | str] = OrderedDict()

    def get(self, digest: str | None) -> LoadedNetwork | None:
        """The instance with these weights, if there is one."""
        return self._loaded.get(digest or "")

    def drop(self, digest: str | None) -> None:
        """Never ask this instance again."""
        self._loaded.pop(digest or "", None)

    def keep_only(self, digests: Collection[str]) -> None:
        """Give up the instances of other versions."""
        for digest in [one for one in self._loaded if one not in digests]:
            del self._loaded[digest]

    async def bring(self, network: NetworkGroup) -> str | None:
        """Make an instance with a network's weights, if there is none.

        Returns:
            Why there can be none; None where there is one.
        """
        if network.state is None or network.digest is None:
            return "its weights are not in memory"
        if network.digest in self._loaded:
            return None
        shape = await self._shape(network)
        if isinstance(shape, str):
            return shape
        compiled, binary = shape
        pages = sum(one.compiled.pages for one in self._loaded.values())
        if pages + compiled.pages > MAX_PAGES:
            return f"the modules of the cluster would need more than {MAX_PAGES // 16} MiB"
        tensors = network.tensors(network.state)

        def load() -> LoadedNetwork:
            made = LoadedNetwork(compiled, binary)
            made.load(tensors)
            return made

        try:
            made = await self._context.offload(load)
        except WasmUnavailable as failure:
            return str(failure)
        self._loaded[network.digest] = made
        return None

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
