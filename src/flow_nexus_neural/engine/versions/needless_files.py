"""Which files nothing needs any more, once a version is in force."""

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.version import CommittedVersion


def needless_files(
    cluster: LiveCluster, committed: CommittedVersion, advance: Advance | None
) -> list[str]:
    """Files that no prediction needs, and no training that goes on, in order of their names.

    Args:
        cluster: With the former version in force.
        committed: The version that takes its place.
        advance: How far the running training is with it, if it is the result of a round.
    """
    former, training = cluster.committed, cluster.state.latest_training
    before = set(former.blobs) if former else set()
    after = set(committed.blobs)
    if training is not None:
        before |= training.files
        after |= training.files_with(advance or training.advance)
    return sorted(before - after)
