"""Proof-of-learning in a round: commitments, a challenge, segments executed again, cheats excluded.

Only digests are compared. Whoever folds the updates says which digest each had as it was read, so that an
update cannot be one thing for its proof and another for the sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import anyio

from flow_nexus_neural.coordination.consensus.proof_of_learning import (
    VALID,
    Assignment,
    Cost,
    Standing,
    Verdict,
    challenge,
    challenges_per_update,
    check_commitment,
    check_delivered,
    check_repeated,
    is_to_be_quarantined,
    least_contributors,
    majority,
    prescribed_steps,
    segment_steps,
)
from flow_nexus_neural.coordination.proof_record import (
    ProofRecord,
    ProvedExchange,
    ProvedUpdate,
)
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.attention import attended
from flow_nexus_neural.engine.training.collect import Collected
from flow_nexus_neural.engine.training.exchange import Exchange, state_layout
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.segment_states import SegmentStates
from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.engine.training.verifiers import ENGINE, Segment, Verifiers
from flow_nexus_neural.errors import NodeError, NodeFault, RoundFailed
from flow_nexus_neural.networks.batches import smallest_batch
from flow_nexus_neural.protocol.digest import json_digest, training_digest
from flow_nexus_neural.protocol.messages import Commitment, ProofOrder
from flow_nexus_neural.runtime.base import Region

BEACON_BITS = 256
NAMES = frozenset({"network", "base", "shard", "publish", "control", "proof", "kind"})
"""Fields of an assignment that only name things in one node."""


@dataclass(frozen=True)
class _Case:
    """One update, and what it has to prove."""

    number: int
    task: Task
    update: Update
    commitment: Commitment
    asked: Assignment
    drawn: tuple[int, ...]
    delivered: str


@dataclass
class _Checked:
    """What the checks of one update have shown so far; `cpu_s` is what revealing and executing again took."""

    verified: int = 0
    cpu_s: float = 0.0
    verifiers: dict[str, None] = field(default_factory=dict)


class Proofs:
    """Proof-of-learning of one course of rounds; `close` ends what was started for it."""

    def __init__(
        self, cluster: LiveCluster, exchange: Exchange, left_out: LeftOut, run: tuple[int, int]
    ) -> None:
        self._cluster = cluster
        self._context = cluster.context
        self._exchange = exchange
        self._left_out = left_out
        self._run = run
        self._verifiers = Verifiers(cluster)
        self._states = SegmentStates(cluster, exchange)
        self._bases: dict[str, str] = {}
        self._standings: dict[str, Standing] = {}
        self._costs: dict[str, Cost] = {}
        self._proved: list[ProvedExchange] = []

    def go_on_from(self, seen: ProofRecord, networks: Mapping[str, NetworkGroup]) -> None:
        """Continue with what the proofs of the rounds before showed, which a former server saw.

        Strikes of an incarnation end with it. What proofs cost is known of all networks together only: with
        several, each begins as dear as the first challenge is.
        """
        if len(networks) == 1:
            self._costs = dict.fromkeys(networks, seen.cost)

    async def ordered(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks of an exchange, each with an order of a commitment."""
        self._bases = {}
        for network in {task.network.key: task.network for task in tasks}.values():
            if network.state is not None:
                self._bases[network.key] = await self._context.offload(
                    training_digest, network.state.arrays, network.state.opt_step
                )
        return [replace(task, proof=self._order(task)) for task in tasks]

    async def admitted(
        self,
        tasks: Sequence[Task],
        collected: Collected,
        *,
        least: int = 1,
        delivered: Mapping[str, str] | None = None,
    ) -> Collected:
        """The updates of an exchange whose proofs are valid; cheats are accused.

        To be called when every update of the exchange is there and its base is still granted.

        Args:
            tasks: As `ordered` made them.
            collected: The updates, which are no proof of anything yet.
            least: Fewest updates that the caller of the training insists on.
            delivered: Training digest of each update by slot, as whoever folds it read it; None lets the
                engine compute it of the copy that it holds.

        Raises:
            RoundFailed: Too few are admitted, or nobody can execute a segment again.
        """
        if delivered is None:
            delivered = await self._context.offload(_delivered, collected.updates)
        began_s = self._context.clock()
        # Drawn only here: a worker that knew it before it committed would be honest where it is looked at.
        beacon = f"{self._context.ports.random_bits(BEACON_BITS):064x}"
        cases = self._cases(tasks, collected, delivered, beacon)
        proved: dict[str, tuple[ProvedUpdate, float]] = {}
        failures: list[NodeError] = []

        async def prove(case: _Case) -> None:
            try:
                proved[case.update.slot] = await self._prove(case)
            except NodeError as failure:  # of every verifier; nothing is known of the update
                failures.append(failure)

        async with self._states, anyio.create_task_group() as group:
            for case in cases:
                group.start_soon(prove, case)
        found = [(case, *proved[case.update.slot]) for case in cases if case.update.slot in proved]
        updates = tuple(update for _, update, _ in found)
        total = Cost()
        for case, update, cpu_s in found:
            cost, key = _cost_of(case, update, cpu_s), case.task.network.key
            self._costs[key] = self._costs.get(key, Cost()) + cost
            total += cost
        seconds = self._context.clock() - began_s
        self._proved.append(ProvedExchange(beacon, updates, total, seconds))
        excluded = await self._excluded(updates)
        if failures:
            raise RoundFailed(
                f"no node could execute the challenged segments again: {failures[0].message}",
                hint="see neural_cluster_status, or deploy a validator with neural_node_deploy",
            )
        return _closed(len(tasks), collected, excluded, least)

    def take(self) -> tuple[ProvedExchange, ...]:
        """The exchanges that were proved since this was last called, those of failed tries included."""
        taken, self._proved = tuple(self._proved), []
        return taken

    async def close(self) -> None:
        """Let workers and verifiers forget what they were granted; end the engine's own process."""
        await self._states.release()
        await self._verifiers.close()
        self._states.close()

    def _order(self, task: Task) -> ProofOrder:
        n_steps, steps = self._steps(task)
        return ProofOrder(steps=n_steps, segment_steps=steps, context=self._context_of(task))

    def _steps(self, task: Task) -> tuple[int, int]:
        """Steps that a task prescribes, and those of its segments."""
        request, plan = self._exchange.request(task), task.network.plan
        # Drawn rows leave no last batch that is too small: every step of a pass is made.
        rows = (
            self._exchange.rows_of(task.slot.name)
            if request.private is None
            else request.private.steps * request.batch_size
        )
        n_steps = prescribed_steps(task.passes, rows, request.batch_size, smallest_batch(plan))
        nbytes = sum(4 * prod(shape) for _, _, shape in state_layout(task.network))
        return n_steps, segment_steps(n_steps, nbytes, self._cost_of(task.network))

    def _cost_of(self, network: NetworkGroup) -> Cost:
        """What the proofs of a network group have cost so far."""
        return self._costs.get(network.key, Cost())

    def _context_of(self, task: Task) -> str:
        """Digest of a task: its seeds name the training, the round and the slot."""
        request = self._exchange.request(task).model_dump(mode="json", exclude=set(NAMES))
        return json_digest({"run": list(self._run), "slot": task.slot.name, "work": request})

    def _cases(
        self,
        tasks: Sequence[Task],
        collected: Collected,
        delivered: Mapping[str, str],
        beacon: str,
    ) -> list[_Case]:
        by_slot = {task.slot.name: task for task in tasks}
        cases = []
        for number, update in enumerate(collected.updates):
            task, commitment = by_slot[update.slot], update.commitment
            if commitment is None or task.proof is None:  # the reply would have been refused
                raise ValueError(f"the update of {update.slot} came without a commitment")
            order = task.proof
            asked = Assignment(
                context=order.context,
                base=self._bases[task.network.key],
                n_steps=order.steps,
                segment_steps=order.segment_steps,
            )
            k = challenges_per_update(asked.n_segments, self._cost_of(task.network))
            drawn = challenge(beacon, commitment.head, asked.n_segments, k)
            digest = delivered[update.slot]
            cases.append(_Case(number, task, update, commitment, asked, drawn, digest))
        return cases

    async def _prove(self, case: _Case) -> tuple[ProvedUpdate, float]:
        """The proof of one update, and what it cost. Raises `NodeError`: of all verifiers."""
        checked = _Checked()
        verdict = await self._verdict(case, checked)
        update = ProvedUpdate(
            slot=case.update.slot,
            node_id=case.task.slot.node_id,
            head=case.commitment.head,
            n_segments=case.asked.n_segments,
            challenged=case.drawn,
            verified=checked.verified,
            verdict=verdict,
            verifiers=tuple(checked.verifiers),
        )
        return update, checked.cpu_s

    async def _verdict(self, case: _Case, checked: _Checked) -> Verdict:
        wrong = check_commitment(case.commitment, case.update.steps, case.asked)
        if wrong is not None:
            return Verdict("invalid", wrong)
        for number in case.drawn:
            try:
                state, cpu_s = await self._states.before(case.task, number)
            except NodeError as failure:
                reason = f"segment {number} was not revealed: {failure.code}: {failure.message}"
                return Verdict("unavailable", reason)
            checked.cpu_s += cpu_s
            verdict = await self._repeated(case, number, state, checked)
            if verdict.kind != "valid":
                return verdict
            checked.verified += 1
        wrong = check_delivered(case.commitment, case.delivered)
        return VALID if wrong is None else Verdict("invalid", wrong)

    async def _repeated(
        self, case: _Case, number: int, state: Region, checked: _Checked
    ) -> Verdict:
        """What verifiers find of one segment.

        One that finds it right is enough. That it is wrong has to be found by a majority of the validators,
        or by the engine's own process, since it ends a worker's membership.
        """
        task = case.task
        segment = await self._segment(task, number, state)
        votes: list[Verdict] = []
        used: list[str] = []
        while True:
            done = await self._verifiers.repeat(segment, case.number, used)
            if done is None:
                return _last_vote(votes, task.slot.name)
            used.append(done.verifier)
            if number == 0 and done.repeated.before != case.asked.base:
                continue  # the engine's own base: whoever read something else is not the worker
            checked.verifiers[done.verifier] = None
            checked.cpu_s += done.cpu_s
            wrong = check_repeated(case.commitment, done.repeated)
            votes.append(VALID if wrong is None else Verdict("invalid", wrong))
            decided = majority(votes, self._verifiers.count)
            if done.verifier == ENGINE or votes[0].kind == "valid":
                return votes[-1]
            if decided is not None:
                return decided

    async def _segment(self, task: Task, number: int, state: Region) -> Segment:
        """A segment as a verifier is asked for it: all but the state comes from the engine."""
        work, besides = self._exchange.request(task), []
        if work.proximal_mu:
            besides.append(await self._states.base(task.network))
            work = work.model_copy(update={"base": besides[0].key})
        control = self._exchange.control_region(task.slot.name)
        if control is not None:
            besides.append(control)
        return Segment(
            network=task.network,
            work=work,
            number=number,
            shard=self._exchange.shard_region(task.slot.name),
            state=state,
            besides=tuple(besides),
        )

    async def _excluded(self, updates: Sequence[ProvedUpdate]) -> dict[str, str]:
        """Why updates are not admitted, by slot; their workers are struck, or accused."""
        excluded: dict[str, str] = {}
        for update in updates:
            slot = self._cluster.slots[update.slot]
            before = self._standings.get(update.node_id, Standing())
            standing = before.after(
                update.verdict, update.n_segments, len(update.challenged), update.verified
            )
            self._standings[update.node_id] = standing
            if update.verdict.kind == "valid":
                continue
            reason = f"proof of learning {update.verdict.kind}: {update.verdict.reason}"
            excluded[update.slot] = reason
            self._left_out.add(slot, reason)
            caught = is_to_be_quarantined(update.verdict, standing)
            if caught and slot.node_id == update.node_id:
                slot.accuse(reason)
                self._cluster.changed()
                # Whether it is quarantined depends on autonomy; it is left out of this round in any case.
                await attended(self._cluster)
        return excluded


def _cost_of(case: _Case, update: ProvedUpdate, cpu_s: float) -> Cost:
    return Cost(
        training_s=case.update.cpu_s,
        committing_s=case.commitment.cpu_s,
        repeating_s=cpu_s,
        challenged=len(update.challenged),
        updates=1,
        steps=case.asked.n_steps,
        states=case.asked.n_segments + 1,
    )


def _last_vote(votes: Sequence[Verdict], slot: str) -> Verdict:
    """What the last verifier said. Raises `NodeFault` if none said anything that concerns the worker."""
    if votes:
        return votes[-1]
    raise NodeFault(f"no verifier read the base of {slot} as it is", hint="train again")


def _delivered(updates: Sequence[Update]) -> dict[str, str]:
    """Training digest of every update as the engine copied it. Blocking."""
    return {
        update.slot: training_digest(update.copied.arrays, update.opt_step) for update in updates
    }


def _closed(
    n_asked: int, collected: Collected, excluded: Mapping[str, str], least: int
) -> Collected:
    """What was collected without the updates that were not admitted. Raises `RoundFailed`."""
    if not excluded:
        return collected
    admitted = [update for update in collected.updates if update.slot not in excluded]
    needed = max(least, least_contributors(n_asked))
    if len(admitted) < needed:
        reasons = "; ".join(f"{slot}: {why}" for slot, why in list(excluded.items())[:4])
        raise RoundFailed(
            f"{len(admitted)} of {n_asked} updates were admitted, and a round needs {needed} ({reasons})",
            hint="see neural_cluster_status; replace quarantined nodes with neural_node_deploy",
        )
    return Collected(admitted, {**collected.excluded, **excluded})
