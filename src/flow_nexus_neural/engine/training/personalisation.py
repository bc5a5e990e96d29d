"""After the rounds: every slot trains on from the shared weights, on its own rows, where that may help.

What a slot makes is its own unproved work, under every consensus mode. So it is computed again by another
node on validation rows, and answers only where that shows that it helps; the shared weights stay what they
are, and a later training starts from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import Personalisation, PersonalSlot
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.base_states import BaseStates
from flow_nexus_neural.engine.training.collect import Pace, collect, prepare_all
from flow_nexus_neural.engine.training.rounds import Rounds
from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.engine.versions.commit import is_robust, plain_bundle
from flow_nexus_neural.engine.versions.judge import Judge
from flow_nexus_neural.engine.versions.personal import Choice, Outputs, choose
from flow_nexus_neural.errors import NeuralError, RoundFailed
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.vocabulary import EACH_CLIENT

Groups = dict[str, NetworkGroup]

TENTH = 10
"""Own weights take a tenth of the epochs that the shared ones took: that is what they may cost."""
MOST_EPOCHS = 10
LEAST_ROWS = 30
"""Fewer validation rows cannot show that anything helps."""
MOST_ROWS = 4_000
"""Validation rows that decide; of more, so many at equal distances."""
MOST_BYTES = 256_000_000
"""Of all own weights together: each is held by the engine and stored as a file."""
LEAST_OWN_ROWS = 10
NOT_MEASURED = dict.fromkeys(
    (
        "epochs",
        "validation_rows",
        "shared_loss",
        "personal_loss",
        "standard_error",
        "seconds",
        "share",
        "slots",
    )
)


@dataclass
class Personaliser:
    """Makes own weights for the slots of one training whose rounds are done.

    Attributes:
        rounds: Have the workers with their rows.
        made: What slots trained, by slot.
    """

    cluster: LiveCluster
    training: Training
    rounds: Rounds
    made: dict[str, Update] = field(default_factory=dict)

    async def run(self, networks: Mapping[str, NetworkGroup], judge: Judge) -> Groups:
        """Groups of the slots whose own weights are to answer; none where those do not help.

        Never fails the training: what went wrong is noted in it, and the shared weights answer.

        Args:
            networks: Groups with the shared weights that are to answer.
            judge: Measures on the training's own validation rows.
        """
        select = judge.data.parts["select"]
        why_not, began_s = self._why_not(networks, len(select)), self.cluster.clock()
        if why_not is not None:
            self._note(kept=False, reason=why_not)
            return {}
        try:
            personal = await self.trained(networks, self._epochs)
            shown = _shown(len(select))
            choice = await self._choice(networks, personal, judge, shown)
        except NeuralError as failure:
            self._note(kept=False, reason=f"{failure.code}: {failure.message}")
            return {}
        seconds = self.cluster.clock() - began_s
        whole = sum(self.training.round_s)
        self._note(
            kept=bool(choice.kept),
            reason=choice.reason,
            epochs=self._epochs,
            validation_rows=len(shown),
            shared_loss=choice.shared_loss,
            personal_loss=choice.personal_loss,
            standard_error=choice.standard_error,
            seconds=seconds,
            share=seconds / whole if whole > 0 else None,
            slots=self._of_slots(choice),
        )
        return {
            key: network for key, network in personal.items() if network.slots[0] in choice.kept
        }

    async def trained(
        self,
        networks: Mapping[str, NetworkGroup],
        epochs: int,
        slots: Sequence[str] | None = None,
    ) -> Groups:
        """Groups of one slot each with what the slot made of the shared weights.

        Args:
            networks: Groups with the shared weights.
            epochs: Passes of every slot over its own rows.
            slots: Who trains; None for all that can.

        Raises:
            RoundFailed: Too few delivered.
        """
        members = [(slot, networks[network.key]) for slot, network in self.rounds.members()]
        members = [one for one in members if slots is None or one[0].name in slots]
        await prepare_all(self.rounds.exchange, members, self.rounds.left_out)
        ready = self.rounds.exchange.is_ready
        members = [(slot, network) for slot, network in members if slot.healthy and ready(slot)]
        if not members:
            raise RoundFailed("no worker is left to train on", hint="see neural_cluster_status")
        updates = await self._updates(members, epochs)
        self.made = {update.slot: update for update in updates}
        of_slot = {slot.name: network for slot, network in members}
        version = self.cluster.state.ledger_head.version
        found: Groups = {}
        for update in updates:
            shared = of_slot[update.slot]
            if update.state is not None and update.steps > 0:
                key = shared.personal_key(update.slot)
                found[key] = shared.personal_to(update.slot, update.state, version(key))
        return found

    async def _updates(
        self, members: Sequence[tuple[Slot, NetworkGroup]], epochs: int
    ) -> list[Update]:
        """What the slots make, as the engine copied and checked it, in slot order."""
        run, number = self.rounds.course.run, self.training.config.rounds + 1  # as of no round
        exchange = self.rounds.exchange
        async with BaseStates(exchange, members) as bases:
            tasks = [
                Task(
                    slot=slot,
                    network=network,
                    base=bases.of(slot, network),
                    copied=True,
                    opt_step=network.state.opt_step if network.state else 0,
                    passes=tuple(
                        Pass(order_seed=seed64(run, number, slot.name, epoch, "order"))
                        for epoch in range(epochs)
                    ),
                    dropout_seed=seed64(run, number, slot.name, 0, "dropout"),
                    work=float(exchange.rows_of(slot.name)) * epochs,
                )
                for slot, network in members
            ]
            collected = await collect(
                exchange,
                tasks,
                min_contributors=1,
                pace=Pace(),
                left_out=self.rounds.left_out,
                context=self.cluster.context,
            )
        return collected.updates

    async def _choice(
        self,
        networks: Mapping[str, NetworkGroup],
        personal: Mapping[str, NetworkGroup],
        judge: Judge,
        shown: NDArray[np.int64],
    ) -> Choice:
        """Let other nodes compute what the slots' weights say of validation rows, and decide."""
        infer, rows = judge.evaluator.infer, judge.data.parts["select"].at(shown)
        shared = {
            key: (await infer(network, ("select",)))["select"][shown]
            for key, network in networks.items()
            if network.slots
        }
        said = {}
        for network in personal.values():
            logits = (await infer(network, ("select",)))["select"][shown]
            if np.isfinite(logits).all():
                said[network.slots[0]] = logits
        if not said:
            raise RoundFailed(
                "no slot made weights whose outputs are finite",
                hint="train again with a lower learning_rate",
            )
        robust = is_robust(self.cluster)
        bundle = plain_bundle(networks, 0, judge.rule, robust=robust)
        key_of = {slot: key for key, network in networks.items() for slot in network.slots}
        outputs = Outputs(
            shared={slot: shared[key_of[slot]] for slot in sorted(key_of, key=slot_order)},
            personal=said,
            own_rows={slot: self._own_rows(slot, rows) for slot in said},
        )
        return await self.cluster.context.offload(choose, bundle, judge.schema, rows, outputs)

    @property
    def _epochs(self) -> int:
        config, done = self.training.config, self.training.advance.rounds_done
        return min(MOST_EPOCHS, done * config.local_epochs // TENTH)

    def _own_rows(self, slot: str, rows: Rows) -> NDArray[np.bool_]:
        """Which of them are of the symbols, and where clients divide the rows, of the clients of a shard."""
        shard = self.rounds.course.rows.at(self.rounds.exchange.shards[slot])
        own = np.isin(rows.symbols, np.unique(shard.symbols))
        if self.training.config.partition == "client":
            own &= np.isin(rows.clients, np.unique(shard.clients))
        return own if own.sum() >= LEAST_OWN_ROWS else np.ones(len(rows), dtype=np.bool_)

    def _why_not(self, networks: Mapping[str, NetworkGroup], select: int) -> str | None:
        """The rule by which nothing is tried; None where it is."""
        members = self.rounds.members()
        nbytes = sum(4 * (n.plan.n_params + n.plan.n_buffers) for _, n in members)
        rules = (
            (
                self.training.config.privacy is not None,
                "privacy: own weights would tell of one worker's rows",
            ),
            (
                self.training.config.secure_aggregation,
                "secure_aggregation: own weights are single updates, which the engine is not to see",
            ),
            (
                self.training.config.partition == EACH_CLIENT,
                "each client of the data trains by itself: workers have no rows of their own",
            ),
            (
                len(members) < 2,
                f"{len(members)} worker has rows of its own: there is no other to differ from",
            ),
            (
                self._epochs < 1,
                f"fewer than {TENTH} epochs were trained, of which own weights may take a tenth",
            ),
            (
                select < LEAST_ROWS,
                f"{select} validation rows cannot show whether it helps; {LEAST_ROWS} are needed",
            ),
            (nbytes > MOST_BYTES, f"own weights would take {nbytes} bytes, more than {MOST_BYTES}"),
            (
                any(network.state is None for network in networks.values()),
                "there are no shared weights to go on from",
            ),
        )
        return next((why for holds, why in rules if holds), None)

    def _of_slots(self, choice: Choice) -> list[PersonalSlot]:
        return [
            PersonalSlot(
                slot=slot,
                steps=update.steps,
                rows=update.rows,
                loss=choice.own[slot][0] if slot in choice.own else None,
                shared_loss=choice.own[slot][1] if slot in choice.own else None,
                kept=slot in choice.kept,
            )
            for slot, update in self.made.items()
        ]

    def _note(self, **found: object) -> None:
        self.training.note_personalisation(
            Personalisation.model_validate({**NOT_MEASURED, **found})
        )


def _shown(n: int) -> NDArray[np.int64]:
    """Which of n validation rows decide."""
    most = min(n, MOST_ROWS)
    return np.arange(most) * n // max(1, most)
