"""What a server answers while another one has its state directory: what is stored, and nothing else.

Its own engine cannot be opened then. The tools that only read show a copy; what only the server that has the
directory knows is null, and the reply says so. All others are refused with the reason and the way out. Every
call tries to open the engine first, so that this server takes over once the other has ended.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import JsonValue

from flow_nexus_neural.engine.requests import EngineRequest, ListRequest, StatusRequest

Content = dict[str, JsonValue]

NULL_WHERE_STORED = (
    "active_nodes",
    "failed_nodes",
    "recovering_nodes",
    "guarantees",
    "recent_predictions",
    "exchange",
    "uptime",
    "uptime_seconds",
)
"""Fields of a status that are null in one from a copy while a server has the original."""


class StoredAnswers(Protocol):
    """Reads a state directory that another server has. Both raise `NeuralError` leaves."""

    async def status(self, request: StatusRequest) -> Content:
        """As `neural_cluster_status`; waiting, it waits for what is stored to change."""
        ...

    async def clusters(self, request: ListRequest) -> Content:
        """As `neural_cluster_list`."""
        ...


async def stored_status(stored: StoredAnswers, request: EngineRequest) -> Content:
    """The status of a cluster. `request` has at least its `cluster_id`."""
    if isinstance(request, StatusRequest):
        return await stored.status(request)
    named = str(getattr(request, "cluster_id", ""))
    return await stored.status(StatusRequest(cluster_id=named, detail="full"))


async def stored_clusters(stored: StoredAnswers, request: EngineRequest) -> Content:
    """The list of clusters."""
    return await stored.clusters(ListRequest.model_validate(request.model_dump()))


def stored_summary(status: Mapping[str, Any]) -> str:
    """A stored cluster in a sentence, for a reader who is shown the rest."""
    training = status["training"]
    told = "not trained"
    if training is not None:
        done, total = training["current_round"], training["total_rounds"]
        told = f"training {status['training_status']}, round {done} of {total} stored"
    known_elsewhere = " Another server has it and alone knows how its nodes are."
    return (
        f"Cluster {status['name']} ({status['cluster_id']}) as it is stored, with {status['total_nodes']}"
        f" nodes; {told}.{known_elsewhere if status['active_nodes'] is None else ''}"
    )
