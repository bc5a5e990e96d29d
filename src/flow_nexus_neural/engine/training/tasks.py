"""What one worker is asked to do in an exchange, and how every worker of a training trains."""

from dataclasses import dataclass

from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.protocol.messages import Pass, PrivateSteps, ProofOrder, Together
from flow_nexus_neural.runtime.base import Region


@dataclass(frozen=True)
class Recipe:
    """How every worker of a training trains.

    Attributes:
        steps_of_pass: Steps of a pass over a shard of whatever size; None for its rows in batches.
    """

    learning_rate: float
    batch_size: int
    feature_dropout: float
    class_weight: tuple[float, ...]
    proximal_mu: float = 0.0
    temperature: float | None = None
    steps_of_pass: int | None = None


@dataclass(frozen=True)
class Base:
    """The state from which a worker starts.

    Attributes:
        key: Under which the worker finds it.
        region: To be granted first; None if the worker holds the state since the last exchange.
    """

    key: str
    region: Region | None


@dataclass(frozen=True)
class Task:
    """What one worker does in an exchange.

    Attributes:
        base: The state to start from, whose optimiser has made `opt_step` steps.
        copied: Whether the engine copies what the worker makes of it, and judges it.
        passes: Which steps over its shard.
        dropout_seed: Of everything that is drawn while training.
        work: Rows times steps, in any unit; makes the times of unequal shards comparable.
        proof: Orders a commitment to its course; None for none.
        private: How single rows are protected; None for not.
        together: Who is asked at the same time in its process; None for nobody.
    """

    slot: Slot
    network: NetworkGroup
    base: Base
    copied: bool
    opt_step: int
    passes: tuple[Pass, ...]
    dropout_seed: int
    work: float
    proof: ProofOrder | None = None
    private: PrivateSteps | None = None
    together: Together | None = None
