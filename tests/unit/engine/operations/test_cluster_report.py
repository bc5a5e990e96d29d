"""What is said of a cluster that a request means, and of one that it does not."""

import pytest

from flow_nexus_neural.engine.operations.cluster_report import reused
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.errors import ClusterExists
from tests.unit.engine.building import cluster_state, live


def test_a_cluster_with_other_settings_is_not_the_one_that_was_meant():
    cluster = live(cluster_state())
    asked = InitRequest(
        name=cluster.spec.name,
        topology=cluster.spec.topology,
        architecture="cnn" if cluster.spec.architecture != "cnn" else "rnn",
        reuse=True,
    )
    with pytest.raises(ClusterExists, match="architecture: has"):
        reused(cluster, asked)
