"""What validators make of rows that no worker has: losses of candidate weights, and an update."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.consensus.validated_selection import LEAST_ROWS, fold_of
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.tasks import Base, Recipe, Task
from flow_nexus_neural.engine.versions.evaluation import Evaluator
from flow_nexus_neural.errors import InvalidArguments, NodeTimeout, NoWorkers
from flow_nexus_neural.kernels.class_weight import without_class_weight
from flow_nexus_neural.kernels.row_losses import row_losses
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.vocabulary import Role
from flow_nexus_neural.vocabulary import Task as LearningTask

ROLE: Role = "validator"
UPDATE_S = 120.0
"""A validator has as long for its update; its rows are fewer than a worker's."""
DEPLOY_ONE = (
    "deploy one with neural_node_deploy (role: validator), or choose aggregation_method auto"
)


@dataclass(frozen=True)
class Trusted:
    """Rows that no worker gets in a course of rounds, and how networks are trained and judged on them.

    Attributes:
        rows: Of the `select` part.
        task: What outputs mean.
        recipe: How workers train; the trusted update is made in the same way.
    """

    rows: Rows
    task: LearningTask
    recipe: Recipe


def can_select(n_rows: int, validators: int, partition: str) -> bool:
    """Whether rules can be selected by validation rows without anybody asking for it.

    Not where each worker has the rows of whole clients: validation rows come from the same clients, and
    whoever lies in one is part of the other.
    """
    return validators > 0 and n_rows >= LEAST_ROWS and partition != "client"


def require_trusted(method: str, n_rows: int, validators: int) -> None:
    """Refuse a rule that needs trusted rows where there are too few, or nobody to compute on them.

    Raises:
        InvalidArguments: That is so.
    """
    if not validators:
        raise InvalidArguments(
            f"aggregation_method {method!r} needs a healthy validator and the cluster has none",
            hint=DEPLOY_ONE,
        )
    if n_rows < LEAST_ROWS:
        raise InvalidArguments(
            f"aggregation_method {method!r} needs {LEAST_ROWS} validation rows and the data leave {n_rows}",
            hint="give more rows or a larger validation_size, or choose aggregation_method auto",
        )


@dataclass
class TrustedRows:
    """The validators of one course of rounds, at work on its trusted rows; `close` gives these up."""

    cluster: LiveCluster
    trusted: Trusted
    _evaluators: dict[str, Evaluator] = field(default_factory=dict)
    _trainer: tuple[str, Slot, Exchange] | None = None

    @property
    def enough(self) -> bool:
        """Whether there are rows enough to compare candidates by."""
        return len(self.trusted.rows) >= LEAST_ROWS

    async def losses(
        self, network: NetworkGroup, states: Mapping[str, ModelState], number: int
    ) -> dict[str, NDArray[np.float64]]:
        """The loss of every row of a round's fold under each candidate's weights.

        Raises:
            NoWorkers: No validator could compute them.
        """
        fold = fold_of(len(self.trusted.rows), number)
        if fold is None:
            raise NoWorkers(f"there are fewer than {LEAST_ROWS} trusted rows", hint=DEPLOY_ONE)
        part = f"fold-{fold.start}"
        if part not in self._evaluators:
            rows = {part: self.trusted.rows.at(fold)}
            self._evaluators[part] = Evaluator(self.cluster, rows, "trusted", roles=(ROLE,))
        evaluator, found = self._evaluators[part], {}
        for name, state in states.items():
            outputs = await evaluator.infer(replace(network, state=state), [part])
            logits = without_class_weight(outputs[part], self.trusted.recipe.class_weight)
            found[name] = row_losses(logits, evaluator.parts[part].y, self.trusted.task)
        return found

    async def update(
        self, network: NetworkGroup, passes: Callable[[str], tuple[Pass, ...]], dropout_seed: int
    ) -> ModelState:
        """The state after training on all trusted rows from the network's present one.

        Args:
            network: With the state from which the round's updates start too.
            passes: Over the rows, by slot.
            dropout_seed: Of everything that is drawn while training.

        Raises:
            NoWorkers: There is no healthy validator.
            NodeError, UpdateRejected: The validator failed.
        """
        validators = self.cluster.slots.healthy(ROLE)
        if not validators or network.state is None:
            raise NoWorkers(
                "no healthy validator is left to train on trusted rows", hint=DEPLOY_ONE
            )
        slot = validators[0]
        exchange = await self._exchange(slot, network)
        base = await exchange.publish(network, network.state, "trusted")
        task = Task(
            slot=slot,
            network=network,
            base=Base(base.key, base),
            copied=True,
            opt_step=network.state.opt_step,
            passes=passes(slot.name),
            dropout_seed=dropout_seed,
            work=float(len(self.trusted.rows)),
        )
        try:
            with anyio.move_on_after(UPDATE_S):
                return (await exchange.train(task)).copied
            await exchange.cancel(slot)
            raise NodeTimeout(
                f"{slot.name} did not train on the trusted rows within {UPDATE_S:g} s",
                hint="call neural_cluster_status to see the node's state",
            )
        finally:
            with anyio.CancelScope(shield=True):
                await exchange.calls.revoke(slot, base.key)
                base.close()

    async def release(self) -> None:
        """Make validators forget the rows, then give them up."""
        for evaluator in self._evaluators.values():
            await evaluator.release()
        if self._trainer is not None:
            _, slot, exchange = self._trainer
            await exchange.release([slot])
        self.close()

    def close(self) -> None:
        """Give up every region and buffer."""
        for evaluator in self._evaluators.values():
            evaluator.close()
        if self._trainer is not None:
            self._trainer[2].close()
        self._evaluators.clear()
        self._trainer = None

    async def _exchange(self, slot: Slot, network: NetworkGroup) -> Exchange:
        """The exchange with a validator, which trains one network at a time."""
        if self._trainer is not None:
            key, last, exchange = self._trainer
            if (key, last) == (network.key, slot):
                await exchange.prepare(slot, network)
                return exchange
            await exchange.release([last])
            exchange.close()
        every = np.arange(len(self.trusted.rows), dtype=np.int64)
        made = Exchange(self.cluster, self.trusted.rows, {slot.name: every}, self.trusted.recipe)
        self._trainer = network.key, slot, made
        await made.prepare(slot, network)
        return made
