"""A runtime without nodes, sufficient to show and to remove stored clusters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from flow_nexus_neural.errors import RuntimeUnavailable
from flow_nexus_neural.runtime.base import Buffer, Capabilities, Isolation, NodeSpec, Region

if TYPE_CHECKING:
    from flow_nexus_neural.runtime.base import Arrays


class NoNodes:
    """A `NodeRuntime` without nodes."""

    name = "none"
    capabilities = Capabilities(places=1, isolation="unknown")

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> NoReturn:
        """Refuse: the command `clusters` starts no nodes."""
        del ready_timeout_s  # there is nothing to wait for
        raise RuntimeUnavailable(
            f"node {spec.slot} cannot be started by this command",
            hint="start the server and call neural_node_deploy",
        )

    def share(self, key: str, arrays: "Arrays") -> Region:
        """Refuse: there are no nodes."""
        raise RuntimeUnavailable(
            f"there are no nodes to share the {len(arrays)} arrays of {key} with"
        )

    def buffer(self, key: str, layout: Sequence[tuple[str, str, tuple[int, ...]]]) -> Buffer:
        """Refuse: there are no nodes."""
        raise RuntimeUnavailable(f"there are no nodes to fill the {len(layout)} arrays of {key}")

    def view(self, buffer: Buffer) -> Region:
        """Refuse: there are no nodes."""
        raise RuntimeUnavailable(f"there are no nodes to read buffer {buffer.key}")

    def isolation_preview(self) -> Isolation:
        """Unknown, as no node is started."""
        return Isolation(level="unknown")

    async def aclose(self) -> None:
        """Nothing to close."""
