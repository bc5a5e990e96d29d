"""All that nodes of other roles learn at the end of a training, in order: each rests on those before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import override

from flow_nexus_neural.coordination.role_gates import closed
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.roles import ROLE_OF, Learnt, Purpose, Roles
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.roles.confidence import Doubting
from flow_nexus_neural.engine.training.roles.lesson import Taught, teach
from flow_nexus_neural.engine.training.roles.stacker import Stacking
from flow_nexus_neural.engine.training.roles.student import Distilling, flaw
from flow_nexus_neural.engine.versions.members import Members, RoleTeacher, RoleWork
from flow_nexus_neural.engine.versions.served import Logits

PRIVATE = "the training is private, and this network would learn from rows without noise"


@dataclass
class RoleLearning(RoleTeacher):
    """The roles of one training.

    Attributes:
        run: Root of every seed of the training.
        private: Whether privacy covers all that is learnt from the training's rows. Role networks learn from
            rows without noise, so they learn nothing then.
    """

    cluster: LiveCluster
    run: tuple[int, int]
    private: bool = False

    @override
    async def learn(self, members: Members) -> RoleWork:
        work = RoleWork(members.bundle)
        if self.private:
            for purpose, role in ROLE_OF.items():
                if self.cluster.slots.of_role(role):
                    work = self._untaught(work, purpose, PRIVATE)
            return work
        work = await self._student(members, work)
        work = await self._stacker(members, work)
        return self._with_absent(await self._confidence(members, work))

    async def _student(self, members: Members, work: RoleWork) -> RoleWork:
        """Distil the served model into the parameter servers; use them where they are near enough."""
        slots = self.cluster.slots.healthy(ROLE_OF["student"])
        if not slots:
            return work
        why = flaw(members)
        if why is not None:
            return self._untaught(work, "student", why)
        offload = self.cluster.context.offload
        asked = ("select",) if members.crossed else ("train", "select")
        distilling = Distilling(members, await members.infer(asked))
        lesson = await offload(distilling.lesson, self.run)
        taught = {}
        for slot in slots:
            taught[slot.name] = await teach(self.cluster, slot, lesson)
            self.cluster.changed()
        student, roles = mean_outputs(list(taught.values())), with_taught(work.bundle.roles, taught)
        gate = closed("no parameter server could be trained")
        if student:
            gate = await offload(distilling.gate, student)
        roles = replace(roles, gates={**roles.gates, "student": gate})
        return replace(work, bundle=replace(work.bundle, roles=roles), student=student)

    async def _stacker(self, members: Members, work: RoleWork) -> RoleWork:
        """Train the aggregators; let them decide `ensemble` where that is better."""
        slots = self.cluster.slots.healthy(ROLE_OF["stacker"])
        if not slots:
            return work
        offload = self.cluster.context.offload
        # Out of fold the student has learnt from meta rows, and knows them better than it will others.
        counts = work.bundle.roles.uses("student") and not members.crossed
        stacking = Stacking(members, work.student if counts else {})
        if stacking.flaw is not None:
            return self._untaught(work, "stacker", stacking.flaw)
        taught = {}
        for slot in slots:
            lesson = await offload(
                lambda name=slot.name: stacking.lesson(name, self.run, resampled=len(slots) > 1)
            )
            taught[slot.name] = await teach(self.cluster, slot, lesson)
            self.cluster.changed()
        stacked = mean_outputs(list(taught.values()))
        roles = with_taught(work.bundle.roles, taught)
        if not stacked:
            gates = {**roles.gates, "stacker": closed("no aggregator could be trained")}
            return replace(work, bundle=replace(work.bundle, roles=replace(roles, gates=gates)))
        fitted = await offload(members.refitted, stacked)
        gate = await offload(stacking.gate, stacked, fitted)
        roles = replace(roles, layout=stacking.layout, gates={**roles.gates, "stacker": gate})
        bundle = replace(fitted if gate.used else work.bundle, roles=roles)
        return replace(work, bundle=bundle, stacked=stacked)

    async def _confidence(self, members: Members, work: RoleWork) -> RoleWork:
        """Train the validators on decisions of the bundle; let them say how sure these are where they can."""
        slots = self.cluster.slots.healthy(ROLE_OF["confidence"])
        if not slots:
            return work
        offload, doubting = self.cluster.context.offload, Doubting(members, work)
        flaw = await offload(lambda: doubting.flaw)
        if flaw is not None:
            return self._untaught(work, "confidence", flaw)
        lesson = await offload(doubting.lesson, self.run)
        taught = {}
        for slot in slots:
            taught[slot.name] = await teach(self.cluster, slot, lesson)
            self.cluster.changed()
        outputs, roles = mean_outputs(list(taught.values())), with_taught(work.bundle.roles, taught)
        if not outputs:
            gates = {**roles.gates, "confidence": closed("no validator could be trained")}
            return replace(work, bundle=replace(work.bundle, roles=replace(roles, gates=gates)))
        found = await offload(doubting.admitted, outputs)
        roles = replace(roles, gates={**roles.gates, **found.gates}, calibrators=found.calibrators)
        return replace(work, bundle=replace(work.bundle, roles=roles), sure=found.sure)

    def _with_absent(self, work: RoleWork) -> RoleWork:
        """Also why nodes learnt nothing that could not be asked."""
        found = work.bundle.roles.learnt
        absent = {
            slot.name: Taught(Learnt(purpose, reason=_absence(slot)))
            for purpose, role in ROLE_OF.items()
            for slot in self.cluster.slots.of_role(role)
            if slot.name not in found
        }
        roles = with_taught(work.bundle.roles, absent)
        return replace(work, bundle=replace(work.bundle, roles=roles))

    def _untaught(self, work: RoleWork, purpose: Purpose, reason: str) -> RoleWork:
        """Nobody of a role can learn anything, for one reason."""
        slots = self.cluster.slots.of_role(ROLE_OF[purpose])
        taught = {slot.name: Taught(Learnt(purpose, reason=reason)) for slot in slots}
        roles = with_taught(work.bundle.roles, taught)
        gates = {**roles.gates, purpose: closed(reason)}
        return replace(work, bundle=replace(work.bundle, roles=replace(roles, gates=gates)))


def _absence(slot: Slot) -> str:
    if slot.healthy:
        return "it was not healthy yet when its role was taught"
    return f"it was {slot.state} when its role was taught" + (
        f": {slot.last_error}" if slot.last_error else ""
    )


def with_taught(roles: Roles, taught: Mapping[str, Taught]) -> Roles:
    """The roles with what some nodes learnt."""
    networks = {slot: one.network for slot, one in taught.items() if one.network is not None}
    learnt = {slot: one.learnt for slot, one in taught.items()}
    return replace(
        roles, networks={**roles.networks, **networks}, learnt={**roles.learnt, **learnt}
    )


def mean_outputs(taught: Sequence[Taught]) -> dict[str, Logits]:
    """The mean of the outputs of all networks that were trained, by part; {} for none."""
    known = [one.outputs for one in taught if one.outputs is not None]
    if not known:
        return {}
    return {part: mean_logits([one[part] for one in known]) for part in known[0]}


def mean_logits(outputs: Sequence[Logits]) -> Logits:
    """Mean over networks, in float64, rounded once."""
    mean: Logits = np.mean(np.asarray(outputs, dtype=np.float64), axis=0).astype(np.float32)
    return mean
