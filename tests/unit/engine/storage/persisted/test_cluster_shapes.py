"""What is stored of a cluster comes back as it was."""

from flow_nexus_neural.engine.storage.persisted.cluster_shapes import StoredCluster, StoredState
from flow_nexus_neural.engine.storage.persisted.reading import read


def test_a_cluster_is_read_as_it_was_declared():
    cluster = StoredCluster(topology="ring", architecture="rnn", consensus="gossip", seed=7)
    assert read(StoredCluster, cluster.to_json()) == cluster


def test_a_state_without_a_version_names_none():
    assert read(StoredState, {"networks_made": 1}).committed is None
