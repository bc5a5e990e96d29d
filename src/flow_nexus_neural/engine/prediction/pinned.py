"""One version that goes on answering while others are committed, for what takes longer than a round.

The version in force is asked where it is. As soon as another one is in force, the next commit would overwrite
it in the nodes, so it is loaded once more, into a third serving copy that no commit touches.
"""

from dataclasses import replace

from flow_nexus_neural.data.schema import Adapted
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.fan_out import FanOut
from flow_nexus_neural.engine.prediction.predict import gather
from flow_nexus_neural.engine.prediction.question import MAX_DEADLINE_S
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.loading import (
    expected_slots,
    holds_version,
    load_everywhere,
    serving_slots,
)
from flow_nexus_neural.errors import NoServingNode

PINNED = 2
"""The parity of the copy that holds a pinned version; those of versions in force are 0 and 1."""


class PinnedVersion:
    """Asks the serving nodes for the answers of one version, whatever is committed meanwhile.

    Attributes:
        version: The version, where the nodes have it now.
    """

    def __init__(self, cluster: LiveCluster, version: CommittedVersion) -> None:
        self.version = version
        self._cluster = cluster
        self._first = version

    async def ask(self, request: PredictRequest, adapted: Adapted) -> FanOut:
        """The nodes' answers to some rows. Raises `NoServingNode`."""
        await self._keep()
        try:
            found = await gather(self._cluster, self.version, request, adapted, MAX_DEADLINE_S)
        except NoServingNode:
            if not await self._keep():
                raise
        else:
            # A node that was left out may have got a later version in the meantime.
            if not (found.excluded and await self._keep()):
                return found
        return await gather(self._cluster, self.version, request, adapted, MAX_DEADLINE_S)

    async def _keep(self) -> bool:
        """Load the version again where a commit threatens it; returns whether anything was loaded."""
        cluster = self._cluster
        cluster.state.refuse_ended()
        if self.version is self._first:
            if cluster.committed is self._first:
                return False
            bundle = replace(self._first.bundle, parity=PINNED)
            self.version = replace(self._first, bundle=bundle)
        serving = serving_slots(cluster, self.version)
        lacking = {
            slot.name
            for slot in expected_slots(cluster, self.version)
            if slot.healthy and slot not in serving
        }
        # Also those of aggregators and validators: else a file would be combined in two ways.
        roles = self.version.bundle.roles.networks
        lacking |= {
            slot.name
            for slot in cluster.slots.healthy()
            if slot.name in roles and not holds_version(cluster, slot, self.version)
        }
        known = [*self.version.networks.values(), *roles.values()]
        networks = [n for n in known if lacking & set(n.slots)]
        await load_everywhere(cluster, networks, PINNED)
        return bool(networks)
