"""Every error that a caller can get, as one tree.

    NeuralError
    |- InvalidRequest      the call can never work as sent
    |- InvalidState        the call is valid, but not in the cluster's present state
    |- NodeError           a node failed; retrying may work
    |- ConsensusError      too few answers to decide
    |- StoreError          the state directory cannot be read or written
    '- InternalError       a bug of this program; the caller only sees an incident id

`code` is the class name in snake_case. Codes are part of the wire contract: never renamed, never reused.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

from pydantic import JsonValue
from typing_extensions import override


class NeuralError(Exception):
    """Base of all errors: a stable code, what is wrong, what would be right.

    Attributes:
        message: Subject, what happened, and the values involved. No trailing period.
        hint: What is valid now and which tool to call next. No trailing period.
        details: JSON for logs and tests; never rows of data, never paths outside the state directory.
        retryable: Whether the same call may succeed later without a change.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, hint: str = "", details: Mapping[str, JsonValue] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, JsonValue] = dict(details or {})

    @property
    def code(self) -> str:
        """The wire code: the class name in snake_case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @override
    def __str__(self) -> str:
        stop = "" if self.message.endswith("?") else "."
        return f"{self.code}: {self.message}{stop}" + (f" {self.hint}." if self.hint else "")


class InvalidRequest(NeuralError):
    """The call can never work as sent."""


class InvalidArguments(InvalidRequest):
    """An argument is unknown, missing, badly typed, out of range or contradicts another."""


class ClusterNotFound(InvalidRequest):
    """No cluster has this id or name."""


class AmbiguousCluster(InvalidRequest):
    """A name matches several live clusters."""


class NodeNotFound(InvalidRequest):
    """No node or slot of the cluster has this id."""


class TrainingNotFound(InvalidRequest):
    """No training of the cluster has this id."""


class DatasetNotFound(InvalidRequest):
    """Neither a built-in data set nor a readable file has this name."""


class InvalidDataset(InvalidRequest):
    """Data that cannot be used, for example one class only or a non-finite target."""


class DataTooSmall(InvalidRequest):
    """Fewer than 30 usable rows."""


class PathNotAllowed(InvalidRequest):
    """A path outside the allowed roots, or a link leading out of them."""


class SourceUnavailable(InvalidRequest):
    """A source that would have to be downloaded; nothing is downloaded."""


class InvalidRecord(InvalidRequest):
    """Input of a prediction that is not JSON, not finite, or of the wrong width."""


class NoKnownFeature(InvalidRequest):
    """Input of a prediction in which no feature was recognised."""


class InvalidArchitecture(InvalidRequest):
    """A layer list that cannot work; the message names the layer's index."""


class InvalidTopology(InvalidRequest):
    """A topology that this number of nodes cannot form."""


class UnsupportedCombination(InvalidRequest):
    """Two settings that exclude each other."""


class LimitExceeded(InvalidRequest):
    """More nodes, clusters, parameters, rows or bytes than allowed."""


class IsolationUnavailable(InvalidRequest):
    """The required isolation level cannot be met on this machine."""


class NotAvailable(InvalidRequest):
    """A known feature that this version does not have."""


class InvalidState(NeuralError):
    """The call is valid, but not in the cluster's present state."""


class PrivacyBudgetSpent(InvalidState):
    """Another round would exceed the privacy budget of the training or of its data set."""


class ClusterExists(InvalidState):
    """`reuse` found a live cluster of this name with other settings."""


class ClusterTerminated(InvalidState):
    """The cluster has been terminated."""


class NotTrained(InvalidState):
    """No version of the model has been committed yet."""


class TrainingRunning(InvalidState):
    """The cluster has a running training, and may have only one at a time."""


class NoWorkers(InvalidState):
    """Too few healthy workers for the operation."""


class NoServingNode(InvalidState):
    """No node answered before the deadline."""


class Overloaded(InvalidState):
    """The queue of predictions is full."""

    retryable = True


class ShuttingDown(InvalidState):
    """The server is stopping."""


class NodeError(NeuralError):
    """A node failed; retrying may work."""

    retryable = True


class NodeStartFailed(NodeError):
    """The node could not be started; nothing of it is left behind."""


class NodeDied(NodeError):
    """The node's process ended after the request was sent: the request may have run."""


class NodeUnavailable(NodeError):
    """The request was not delivered."""


class NodeTimeout(NodeError):
    """The node did not answer before its deadline."""


class NodeFault(NodeError):
    """The operation raised inside the node; the node itself is fine."""

    retryable = False


class Fenced(NodeError):
    """A message from or to an older incarnation of the slot."""


class ProtocolViolation(NodeError):
    """A node sent data that violates the protocol; it has been killed."""


class SyncMismatch(NodeError):
    """A replacement did not reproduce the committed version."""


class RuntimeUnavailable(NodeError):
    """The process that starts nodes is not available."""


class ConsensusError(NeuralError):
    """Too few answers to decide."""


class RoundFailed(ConsensusError):
    """A round could not be closed after its retries."""

    retryable = True


class QuorumLost(ConsensusError):
    """Fewer answers than the mode needs."""

    retryable = True


class UpdateRejected(ConsensusError):
    """One worker's update was not admitted."""


class ConsensusUnavailable(ConsensusError):
    """No majority of voters."""

    retryable = True


class StoreError(NeuralError):
    """The state directory cannot be read or written."""


class StateDirLocked(StoreError):
    """Another server holds the state directory."""


class StoreUnavailable(StoreError):
    """A write failed, for example on a full disk."""

    retryable = True


class StoreCorrupt(StoreError):
    """Stored state fails verification; the message names the entry."""


class InternalError(NeuralError):
    """A bug of this program: logged under an incident id; the caller sees only the id."""
