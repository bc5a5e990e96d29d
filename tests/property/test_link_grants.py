"""Whatever happens to a cluster's links, and however badly nodes obey: who ends up with which keys."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flow_nexus_neural.coordination.link_grants import GrantBook

SLOTS = tuple(f"worker-{number}" for number in range(5))
EDGES = [(one, other) for one in SLOTS for other in SLOTS if one < other]
some_slot = st.sampled_from(SLOTS)


class Links(RuleBasedStateMachine):
    """A cluster whose nodes obey in part, die, come back, and are taken out while they live.

    `mapped` is what each incarnation was ever granted: it may read that for ever, whatever it was told.
    """

    def __init__(self):
        super().__init__()
        self.book = GrantBook()
        self.epoch = 0
        self.edges = set()
        self.members = {slot: f"{slot}#1" for slot in SLOTS}
        self.mapped = {}
        self.used = []
        self.outcasts = set()

    def publish(self, slot):
        self.used.append(self.book.publish(slot, self.members[slot]).key)

    def obey(self, fraction):
        """Carry out what is due, but of every list only this fraction."""
        for change in self.book.due(self.members):
            kept = change.grant[: round(fraction * len(change.grant))]
            for publication in kept:
                self.book.granted(change, publication)
                self.mapped.setdefault(change.node_id, set()).add(publication.key)
            self.book.revoked(change, change.revoke[: round(fraction * len(change.revoke))])

    @initialize(edges=st.sets(st.sampled_from(EDGES)))
    def connect_first(self, edges):
        self.rewire(edges)

    @rule(edges=st.sets(st.sampled_from(EDGES)))
    def rewire(self, edges):
        self.epoch += 1
        self.edges, self.outcasts = set(edges), set()
        for slot in self.book.published():
            self.book.withdraw(slot)
        self.book.want(sorted(edges), self.epoch)
        for slot in self.members:
            self.publish(slot)

    @rule(slot=some_slot)
    def die_and_come_back(self, slot):
        self.book.leave(slot, lives_on=False)
        self.members[slot] = f"{slot}#{int(self.members[slot].partition('#')[2]) + 1}"
        self.outcasts.discard(slot)
        self.publish(slot)

    @rule(slot=some_slot)
    def take_out_alive(self, slot):
        for neighbour in self.book.leave(slot, lives_on=True):
            if self.book.publication(neighbour) is not None:
                self.publish(neighbour)
        self.outcasts.add(slot)

    @rule(fraction=st.sampled_from((0.0, 0.3, 0.7)))
    def obey_in_part(self, fraction):
        self.obey(fraction)

    @rule()
    def obey_in_full(self):
        self.obey(1.0)
        assert self.book.due(self.members) == ()
        for slot in SLOTS:
            assert self.book.held(slot) == self.wanted(slot)

    def wanted(self, slot):
        """By definition: its own key and those of its neighbours, if it takes part."""
        if slot in self.outcasts:
            return set()
        names = {slot, *(name for edge in self.edges if slot in edge for name in edge)}
        found = [self.book.publication(name) for name in names]
        return {publication.key for publication in found if publication is not None}

    @invariant()
    def no_key_is_ever_used_twice(self):
        assert len(set(self.used)) == len(self.used)

    @invariant()
    def nobody_can_read_what_it_should_not(self):
        current = {slot: self.book.publication(slot) for slot in SLOTS}
        for reader, node_id in self.members.items():
            readable = self.mapped.get(node_id, set())
            for publication in current.values():
                if publication is not None and publication.key in readable:
                    assert publication.key in self.wanted(reader)

    @invariant()
    def what_is_due_is_sorted_the_same_when_asked_twice_and_nothing_that_is_held(self):
        due = self.book.due(self.members)
        assert due == self.book.due(self.members)
        for change in due:
            granted = [publication.key for publication in change.grant]
            assert granted == sorted(granted)
            assert list(change.revoke) == sorted(change.revoke)
            held = self.book.held(change.reader)
            assert held >= set(change.revoke)
            assert held.isdisjoint(granted)


TestLinks = Links.TestCase
TestLinks.settings = settings(
    max_examples=100, stateful_step_count=20, derandomize=True, deadline=None
)
