"""What a node may answer to a request, exactly: which reply, with which arrays.

The engine knows every plan that it sent and every region that it granted, so the length of an honest reply is
known before its first byte arrives. Anything else is a protocol violation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from flow_nexus_neural.errors import ProtocolViolation
from flow_nexus_neural.protocol.codec import DTYPES, Layouts
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.protocol.messages import (
    Announce,
    Build,
    Built,
    Failed,
    GetWeights,
    Grant,
    Infer,
    Observe,
    Observed,
    Predict,
    Reply,
    Request,
    Revoke,
    Train,
)
from flow_nexus_neural.protocol.plan import NetworkPlan

Described = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Arrays as (name, dtype, shape), sorted by name."""

_REPLY_KINDS = {
    "ping": "pong",
    "cancel": "done",
    "shutdown": "done",
    "grant": "done",
    "revoke": "done",
    "build": "built",
    "get_weights": "weights",
    "load": "loaded",
    "train": "trained",
    "infer": "outputs",
    "predict": "outputs",
    "announce": "done",
    "observe": "observed",
}


@dataclass(frozen=True, slots=True)
class Awaited:
    """The reply to one request.

    Attributes:
        kind: Of the reply, unless it is `failed`, which carries no arrays.
        alternatives: Array lists that are right; several only while a Build is under way.
        sizes: (n_params, n_buffers) that a `built` reply must report.
        n_sights: Sights that an `observed` reply must have.
    """

    kind: str
    alternatives: tuple[Described, ...] = ((),)
    sizes: tuple[int, int] | None = None
    n_sights: int = 0

    @property
    def body_bytes(self) -> int:
        """The longest body that is right."""
        return max((described_bytes(described) for described in self.alternatives), default=0)

    def check(self, reply: Reply, layouts: Layouts) -> None:
        """Compare a header with what is awaited.

        Raises:
            ProtocolViolation: If it is anything else.
        """
        came = describe(layouts)
        if isinstance(reply, Failed):
            if came:
                raise ProtocolViolation(f"a failure came with {len(came)} arrays")
            return
        if reply.kind != self.kind:
            raise ProtocolViolation(f"a reply is {reply.kind!r} where {self.kind!r} is awaited")
        if came not in self.alternatives:
            raise ProtocolViolation(
                f"a {reply.kind} reply brings arrays {came!r:.400}, not {self.alternatives!r:.400}"
            )
        if isinstance(reply, Built) and (reply.n_params, reply.n_buffers) != self.sizes:
            raise ProtocolViolation(
                f"a network of {reply.n_params} parameters and {reply.n_buffers} buffers was built"
                f" where the plan says {self.sizes}"
            )
        if isinstance(reply, Observed) and len(reply.sights) != self.n_sights:
            raise ProtocolViolation(
                f"{len(reply.sights)} views were observed where {self.n_sights} were asked for"
            )


READY = Awaited("ready")
"""The answer to a start."""


class Ledger:
    """What a node has been told so far, in the order in which it will have read it."""

    def __init__(self) -> None:
        self._plans: dict[str, tuple[NetworkPlan, ...]] = {}
        self._rows: dict[str, int] = {}
        self._carried: dict[str, Described] = {}

    def sent(self, request: Request, arrays: Arrays, *, carried: bool) -> Awaited:
        """Note a request and say what its reply must be.

        Args:
            request: About to be sent.
            arrays: Its arrays.
            carried: Whether this is a Grant whose frame carries the arrays.
        """
        awaited = self._awaited(request, arrays)
        match request:
            case Build():
                known = self._plans.get(request.network, ())
                self._plans[request.network] = (*known, request.plan)
            case Grant():
                self._note_grant(request, carried=carried)
            case Revoke():
                for key in request.keys:
                    self._rows.pop(key, None)
                    self._carried.pop(key, None)
        return awaited

    def answered(self, request: Request, reply: Reply) -> None:
        """Note how a Build ended: from then on one plan is in force."""
        if isinstance(request, Build):
            known = self._plans.get(request.network, ())
            if isinstance(reply, Built):
                self._plans[request.network] = (request.plan,)
            else:
                self._plans[request.network] = tuple(p for p in known if p is not request.plan)

    def _note_grant(self, grant: Grant, *, carried: bool) -> None:
        self._rows.pop(grant.key, None)
        self._carried.pop(grant.key, None)
        for layout in grant.arrays:
            if layout.name == "x" and layout.shape:
                self._rows[grant.key] = layout.shape[0]
        if carried and grant.writable:
            self._carried[grant.key] = describe(grant.arrays)

    def _awaited(self, request: Request, arrays: Arrays) -> Awaited:
        plans = () if not hasattr(request, "network") else self._plans.get(request.network, ())
        alternatives: Iterable[Described] = ((),)
        sizes = None
        n_sights = 0
        match request:
            case Build(plan=plan):
                sizes = (plan.n_params, plan.n_buffers)
            case GetWeights():
                alternatives = (_weights(plan) for plan in plans)
            case Predict():
                rows = len(arrays["x"]) if "x" in arrays and arrays["x"].ndim else 0
                alternatives = (_outputs(rows, plan) for plan in plans)
            case Infer(data=data):
                rows = self._rows.get(data, 0)
                alternatives = (_outputs(rows, plan) for plan in plans)
            case Train(publish=publish):
                alternatives = (self._carried.get(publish, ()),)
            case Announce(key=key):
                alternatives = (self._carried.get(key, ()),)
            case Observe(keys=keys):
                n_sights = len(keys)
        return Awaited(_REPLY_KINDS[request.kind], tuple(alternatives), sizes, n_sights)


def describe(layouts: Layouts) -> Described:
    """Layouts without their places and order."""
    return tuple(sorted((layout.name, layout.dtype, layout.shape) for layout in layouts))


def described_bytes(described: Described) -> int:
    """Bytes that the arrays need."""
    return sum(DTYPES[dtype].itemsize * prod(shape) for _, dtype, shape in described)


def _weights(plan: NetworkPlan) -> Described:
    return (("buffers", "f4", (plan.n_buffers,)), ("params", "f4", (plan.n_params,)))


def _outputs(rows: int, plan: NetworkPlan) -> Described:
    return (("y", "f4", (rows, plan.n_outputs)),)
