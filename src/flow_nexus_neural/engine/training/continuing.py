"""From the rounds of a training to what the next one rests on, as files and rows, and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flow_nexus_neural.coordination.consensus.federated_methods import SCAFFOLD
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.continuation import Continuation, StateFiles
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup, ServerState
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.version_rows import load_network, stored_network
from flow_nexus_neural.engine.storage.worker_vectors import (
    CONTROLS,
    OWN_STATES,
    read_controls,
    read_states,
    write_controls,
    write_states,
)
from flow_nexus_neural.engine.training.rounds import Rounds
from flow_nexus_neural.engine.versions.commit import Blobs

Networks = Mapping[str, NetworkGroup]


@dataclass(frozen=True)
class Standpoint:
    """From where a training goes on.

    Attributes:
        networks: With the states from which the next round starts.
        best: After the best round; None where that is not known.
        own_states: By network group, what each worker holds; under gossip only.
    """

    networks: dict[str, NetworkGroup]
    best: dict[str, NetworkGroup] | None = None
    own_states: Mapping[str, Mapping[str, ModelState]] = field(default_factory=dict)


async def continuation_after(
    cluster: LiveCluster,
    training: Training,
    rounds: Rounds,
    networks: Networks,
    best: Networks | None,
) -> tuple[Continuation, Blobs]:
    """What the round after this one rests on; its files are durable when this returns.

    Args:
        cluster: Whose training it is.
        training: It.
        rounds: Which have just made the round.
        networks: As the round left them.
        best: Committed network groups of the best of the rounds before.

    Raises:
        StoreUnavailable: A file cannot be written.
    """
    own: dict[str, str] = {}
    controls: dict[str, str] = {}
    blobs: Blobs = []
    offload, files = cluster.context.offload, cluster.context.checkpoints
    for key, network in networks.items():
        owner = {
            "cluster_id": cluster.cluster_id,
            "training_id": training.training_id,
            "cohort": key,
        }
        held = rounds.own_states(key)
        if held:
            own[key], nbytes = await offload(write_states, files, owner, held)
            blobs.append((own[key], nbytes, OWN_STATES))
        server = network.state.server if network.state is not None else None
        if server is not None and server.controls:
            controls[key], nbytes = await offload(write_controls, files, owner, server.controls)
            blobs.append((controls[key], nbytes, CONTROLS))
    named = {key: StateFiles.of(network) for key, network in (best or {}).items()}
    continuation = Continuation(
        dealt=tuple(rounds.exchange.shards),
        asked=rounds.asked.known(),
        best={key: found for key, found in named.items() if found is not None},
        mixing_steps=rounds.mixing_steps(),
        own_states=own,
        controls=controls,
    )
    return continuation, blobs


async def read_standpoint(cluster: LiveCluster, training: Training) -> Standpoint:
    """From where a training goes on whose server has ended.

    Raises:
        StoreCorrupt: A file is missing or altered.
    """
    committed, done = cluster.committed, training.advance.rounds_done
    context = cluster.context
    if committed is None or not done:
        starts = {
            key: await context.offload(_started, context.checkpoints, network)
            for key, network in training.starts.items()
        }
        return Standpoint(starts)
    known = training.advance.continuation
    networks, own = {}, {}
    for key, network in committed.shared_networks.items():
        networks[key] = await _with_controls(context, network, known.controls.get(key))
        if key in known.own_states:
            own[key] = await context.offload(
                read_states, context.checkpoints, known.own_states[key], network
            )
    best = {}
    for key, files in known.best.items():
        if key in networks:
            wanted = stored_network(files.put_into(networks[key]))
            best[key] = await context.offload(load_network, wanted, context.checkpoints)
    if training.advance.best_round == done:
        best = dict(networks)
    return Standpoint(networks, best or None, own)


async def read_starts(cluster: LiveCluster, training: Training) -> dict[str, NetworkGroup]:
    """The network groups before the first round; those that nobody had trained are without a state.

    Raises:
        StoreCorrupt: A file is missing or altered.
    """
    context, committed = cluster.context, cluster.committed
    serving = committed.shared_networks if committed is not None else {}
    found = {}
    for key, network in training.starts.items():
        read = await context.offload(_started, context.checkpoints, network)
        found[key] = replace(read, slots=serving[key].slots) if key in serving else read
    return found


def _started(files: CheckpointFiles, network: NetworkGroup) -> NetworkGroup:
    """A group as it was before the first round. Blocking."""
    read = load_network(stored_network(network), files)
    if read.state is not None and network.moments_blob is None:
        return replace(read, state=read.state.with_fresh_moments(network.optimizer))
    return read


async def _with_controls(
    context: EngineContext, network: NetworkGroup, sha: str | None
) -> NetworkGroup:
    if sha is None or network.state is None:
        return network
    controls = await context.offload(read_controls, context.checkpoints, sha, network)
    state = replace(network.state, server=ServerState(SCAFFOLD.name, {}, controls))
    return replace(network, state=state)
