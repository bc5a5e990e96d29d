"""Trains copies of the workers' networks on parts of the rows, for answers to the rest: small data only.

The copies start where the training started, take as many rounds as its best one had, and are forgotten. With
three folds that is at most twice the work of the rounds; what it was is reported. A training that goes on
from trained weights makes none: its copies would start from what may have seen the held rows.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from flow_nexus_neural.data.cross_fitting import HeldFold, by_purpose, held_folds
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.training.personalisation import Personaliser
from flow_nexus_neural.engine.training.preparation import Preparation
from flow_nexus_neural.engine.training.retraining import (
    KNOWS_ROWS,
    Networks,
    Retraining,
    starts_trained,
)
from flow_nexus_neural.engine.training.rounds import Rounds
from flow_nexus_neural.engine.versions.evaluation import Evaluator
from flow_nexus_neural.engine.versions.out_of_fold import OutOfFold, nothing_out_of_fold
from flow_nexus_neural.engine.versions.personal import with_personal
from flow_nexus_neural.engine.versions.served import Logits
from flow_nexus_neural.errors import NeuralError, RoundFailed, StoreError
from flow_nexus_neural.kernels.seeds import seed64

FOLDS: Final = 3
LEAST_ROWS: Final = 125
"""Training rows below which no purpose would get fifty of them."""
LEAST_KEPT: Final = 1 / 3
"""Share of the training rows that every fold trains on: fewer make no copy of the model that answers."""
HELD: Final = "held"


@dataclass(frozen=True)
class CrossFitting:
    """Makes answers out of fold for one training whose rounds are done.

    Attributes:
        again: Trains from the start and commits nothing.
        n_rounds: Of every copy: those of the best round.
    """

    cluster: LiveCluster
    training: Training
    preparation: Preparation
    again: Retraining
    n_rounds: int

    async def run(self, networks: Mapping[str, NetworkGroup], personal: Networks) -> OutOfFold:
        """Answers to all training rows. Failures of nodes are the reason why there are none.

        Args:
            networks: With the shared weights that are to answer.
            personal: Groups of slots that are to answer with weights of their own.

        Raises:
            StoreError: That is nobody's fault here.
        """
        data, run = self.preparation.data, self.preparation.run
        rows = data.parts["train"]
        if len(rows) < LEAST_ROWS:
            return nothing_out_of_fold(f"{len(rows)} training rows are fewer than {LEAST_ROWS}")
        # As recorded before the first round: a new server may go on with a training that began anew.
        if starts_trained(self.training):
            return nothing_out_of_fold(KNOWS_ROWS)
        answering = [key for key, one in with_personal(networks, personal).items() if one.slots]
        seed, began_s = seed64(run, 0, "", 1, "partition"), self.cluster.clock()
        folds = held_folds(rows, FOLDS, seed, data.gap)
        kept = [len(fold.train) for fold in folds]
        if min(kept) < LEAST_KEPT * len(rows):
            return nothing_out_of_fold(
                f"with {data.gap} rows left out on both sides of each block of time, {FOLDS} folds keep"
                f" {', '.join(map(str, kept))} of {len(rows)} rows to train on"
            )
        made: dict[str, Logits] = {}
        try:
            for number, fold in enumerate(folds):
                await self._fold(number, fold, answering, personal, made)
        except StoreError:
            raise
        except NeuralError as failure:
            return nothing_out_of_fold(f"{failure.code}: {failure.message}")
        parts = by_purpose(rows, seed, ordered=data.schema.time_ordered)
        seconds, whole = self.cluster.clock() - began_s, sum(self.training.round_s)
        return OutOfFold(
            parts={name: rows.at(index) for name, index in parts.items()},
            logits={
                key: {name: outputs[index] for name, index in parts.items()}
                for key, outputs in made.items()
            },
            report={
                "folds": FOLDS,
                "rows": len(rows),
                "rounds": FOLDS * self.n_rounds,
                "seconds": seconds,
                "share": seconds / whole if whole > 0 else None,
            },
        )

    async def _fold(
        self,
        number: int,
        fold: HeldFold,
        answering: list[str],
        personal: Networks,
        made: dict[str, Logits],
    ) -> None:
        """Train one copy, and add what it says of the rows that were held out of it."""
        data = self.preparation.data
        rows, trusted = data.parts["train"], data.parts["select"]
        copies = await self.again.train_apart(
            rows.at(fold.train),
            trusted,
            self.n_rounds,
            _to_the_end,
            self._own_weights(personal),
            self.training.steering.rate_of,
        )
        lacking = sorted(set(answering) - copies.keys())
        if lacking:
            raise RoundFailed(
                f"{', '.join(lacking[:8])} did not make its own weights anew",
                hint="see neural_cluster_status for the nodes' errors, and train again",
            )
        evaluator = Evaluator(self.cluster, {HELD: rows.at(fold.held)}, f"out-of-fold-{number}")
        try:
            for key in answering:
                outputs = (await evaluator.infer(copies[key], [HELD]))[HELD]
                if not np.isfinite(outputs).all():
                    raise RoundFailed(
                        "a copy gives outputs that are not finite",
                        hint="train again with a lower learning_rate",
                    )
                shape = (len(rows), outputs.shape[1])
                whole = made.setdefault(key, np.zeros(shape, dtype=np.float32))
                whole[fold.held] = outputs
        finally:
            await evaluator.release()
            evaluator.close()

    def _own_weights(self, personal: Networks) -> Callable[[Rounds], Awaitable[Networks]] | None:
        """Makes own weights for the slots that are to answer with such; None where no slot is."""
        slots = [slot for network in personal.values() for slot in network.slots]
        found = self.training.personalisation
        if not slots or found is None or found.epochs is None:
            return None
        epochs = found.epochs

        async def trained(rounds: Rounds) -> Networks:
            maker = Personaliser(self.cluster, self.training, rounds)
            return await maker.trained(rounds.networks, epochs, slots)

        return trained


async def _to_the_end(_number: int, _networks: Networks) -> bool:
    return True
