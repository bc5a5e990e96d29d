"""Raft voters in one process over a network that loses, delays and repeats, and disks that survive a crash.

A seed decides everything. What must hold is checked while it runs; what does not hold raises `Violation`.
"""

import heapq
import random  # noqa: TID251  a seed decides what goes wrong
from dataclasses import dataclass

from flow_nexus_neural.coordination.consensus.raft.voter import Appended, RaftVoter
from flow_nexus_neural.protocol.raft_records import Records, Snapshot

TICK_MS = 50


class Violation(AssertionError):
    """Something that raft promises did not hold."""


@dataclass(frozen=True)
class Odds:
    """Chances per message, or per tick of the whole cluster, and the longest delay in ticks."""

    drop: float = 0.10
    repeat: float = 0.1
    longest_delay: int = 12
    crash: float = 0.02
    crash_unsaved: float = 0.3
    restart: float = 0.08
    cut: float = 0.03
    heal: float = 0.06
    propose: float = 0.6
    change: float = 0.03
    hand_over: float = 0.005
    compact: float = 0.02
    weigh: float = 0.3


@dataclass
class Proposal:
    """A record that a client asked for, and when it was acknowledged."""

    body: str
    asked: int
    index: int
    term: int
    leader: RaftVoter
    acknowledged: int | None = None


class RaftCluster:
    """Voters `a`, `b`, ..., of which the first `n_voters` are configured at the start."""

    def __init__(self, seed, n_voters=3, *, spare=1, odds=Odds(), voter=RaftVoter):
        self.random = random.Random(f"raft {seed}")
        self.seed, self.odds, self.voter = seed, odds, voter
        self.names = [chr(ord("a") + place) for place in range(n_voters + spare)]
        first = tuple(self.names[:n_voters])
        self.disks = {
            name: Records(snapshot=Snapshot(voters=first if name in first else ()))
            for name in self.names
        }
        self.alive, self.weights, self.ever = {}, {n: set() for n in self.names}, {}
        self.network, self.sent, self.now = [], 0, 0
        self.groups = None
        self.proposals, self.acknowledged = [], []
        self.leaders, self.entries, self.committed, self.seen_commit = {}, {}, {}, {}
        self.needed, self.promised = {}, {}
        for name in self.names:
            self.start(name)

    # -- the world

    def start(self, name):
        """A voter comes up with what its disk has; weights are gone with the process before."""
        self.alive[name] = self.voter(name, self.disks[name], self.seed, preferred=self.names[:1])
        self.weights[name] = set()
        self.seen_commit[name] = 0

    def crash(self, name):
        self.alive.pop(name, None)

    def cut(self, *groups):
        """Only within a group messages arrive; without groups everywhere."""
        self.groups = [set(group) for group in groups] or None

    def connected(self, one, other):
        return self.groups is None or any(one in g and other in g for g in self.groups)

    def send(self, message):
        draw = self.random.random
        copies = 0 if draw() < self.odds.drop else 1 + (draw() < self.odds.repeat)
        for _ in range(copies):
            due = self.now + self.random.randint(1, self.odds.longest_delay)
            self.sent += 1
            heapq.heappush(self.network, (due, self.sent, message))

    def save(self, name, output):
        """What a disk does; raises where a step does not continue what is stored."""
        self.disks[name] = self.disks[name].after(output.hard, output.snapshot, output.log)

    def finish(self, name):
        """Make a voter's step durable, then send. It may crash before, or between the two."""
        output = self.alive[name].take_output()
        if output.hard or output.log or output.snapshot:
            fate = self.random.random() if self.odds.crash else 1.0
            if fate < self.odds.crash * self.odds.crash_unsaved:
                self.crash(name)
                return
            self.save(name, output)
            self.note_entries(name, output)
            if fate < self.odds.crash:
                self.crash(name)
                return
        for message in output.outbox:
            if message.kind == "append_reply" and message.granted:
                kept = max(message.index, self.promised.get((name, message.term), 0))
                self.promised[name, message.term] = kept
            self.send(message)

    def tick(self):
        """One interval: what is due arrives, time passes, the world acts, everything is checked."""
        self.now += 1
        inbox = {name: [] for name in self.names}
        while self.network and self.network[0][0] <= self.now:
            _, _, message = heapq.heappop(self.network)
            if self.connected(message.sender, message.to):
                inbox[message.to].append(message)
        for name in self.names:
            voter = self.alive.get(name)
            if voter is None:
                continue
            voter.hold(self.weights[name])
            for message in inbox[name]:
                voter.receive(message)
            voter.tick(TICK_MS)
            self.finish(name)
        self.check()

    def act(self):
        """Whatever goes wrong, and what clients ask for."""
        odds, draw = self.odds, self.random.random
        for name in self.names:
            if name not in self.alive and draw() < odds.restart:
                self.start(name)
        if draw() < odds.crash and self.alive:
            self.crash(self.random.choice(sorted(self.alive)))
        if self.groups is None and draw() < odds.cut:
            mixed = self.random.sample(self.names, len(self.names))
            middle = self.random.randint(1, len(mixed) - 1)
            self.cut(mixed[:middle], mixed[middle:])
        elif self.groups is not None and draw() < odds.heal:
            self.cut()
        for digest, name in ((d, n) for d in self.needed for n in self.names):
            if digest not in self.weights[name] and draw() < odds.weigh:
                self.give(name, digest)
        if draw() < odds.propose:
            self.propose()
        leaders = self.leading()
        if leaders and draw() < odds.change:
            self.change(self.random.choice(leaders))
        if leaders and draw() < odds.hand_over:
            self.alive[self.random.choice(leaders)].hand_over(self.random.choice(self.names))
        if self.alive and draw() < odds.compact:
            voter = self.alive[self.random.choice(sorted(self.alive))]
            voter.compact(voter.commit, f"up to {voter.commit}")

    def give(self, name, digest):
        """A voter holds weights from now on, until it ends."""
        if name in self.alive:
            self.weights[name].add(digest)
            self.ever.setdefault(digest, set()).add(name)

    # -- clients

    def leading(self):
        return [name for name in sorted(self.alive) if self.alive[name].role == "leader"]

    def propose(self, body=None, name=None, needs=None):
        """A client asks a voter that says it leads; returns the proposal, or None where nobody does."""
        leaders = self.leading()
        if name is None and not leaders:
            return None
        name = name or self.random.choice(leaders)
        body = body or f"record {len(self.proposals)}"
        if needs is None:
            needs = (f"{len(self.proposals):064x}",)
        voter = self.alive[name]
        made = voter.propose(body, needs)
        if not isinstance(made, Appended):
            return None
        self.needed = dict.fromkeys([*list(self.needed)[-20:], *needs])
        proposal = Proposal(body, self.now, made.index, made.term, voter)
        self.proposals.append(proposal)
        return proposal

    def change(self, name):
        """Add or remove one voter at random, never below two."""
        voter = self.alive[name]
        other = self.random.choice(self.names)
        wanted = voter.voters ^ {other}
        if len(wanted) >= 2:
            voter.change(wanted)

    # -- what must hold

    def note_entries(self, name, output):
        """Log matching: entries of one index and term are one entry, and follow entries of one term."""
        log = self.alive[name].log
        for entry in output.log.entries if output.log else ():
            before = log.term_at(entry.index - 1)
            known = self.entries.setdefault((entry.index, entry.term), (entry, before))
            if known[0] != entry or (None not in (before, known[1]) and before != known[1]):
                raise Violation(f"seed {self.seed}: two entries {entry.index} of term {entry.term}")

    def check(self):
        for name, voter in self.alive.items():
            self.check_commits(name, voter)
            if voter.log.last_index < self.promised.get((name, voter.term), 0):
                raise Violation(f"seed {self.seed}: {name} lost what it acknowledged in this term")
            if voter.role == "leader":
                self.check_leader(name, voter)
        for proposal in self.proposals[-60:]:
            self.check_proposal(proposal)

    def check_leader(self, name, voter):
        """One leader a term, which has every entry that was committed before it was elected."""
        if self.leaders.setdefault(voter.term, name) != name:
            raise Violation(f"seed {self.seed}: two leaders of term {voter.term}")
        if (voter.term, name, "checked") in self.leaders:
            return
        self.leaders[voter.term, name, "checked"] = True
        for index, entry in self.committed.items():
            if entry.term < voter.term and index > voter.log.snapshot.index:
                own = voter.log.entry(index)
                if own != entry:
                    raise Violation(f"seed {self.seed}: leader {name} lacks entry {index}")

    def check_commits(self, name, voter):
        """State-machine safety: no two voters take different entries for committed."""
        for index in range(self.seen_commit[name] + 1, voter.commit + 1):
            entry = voter.log.entry(index)
            if entry is None:  # in a snapshot, whose state says up to where it goes
                continue
            if self.committed.setdefault(index, entry) != entry:
                raise Violation(f"seed {self.seed}: two entries {index} are committed")
        if (
            voter.log.snapshot.index
            and voter.log.snapshot.state != f"up to {voter.log.snapshot.index}"
        ):
            raise Violation(f"seed {self.seed}: a snapshot of another index")
        self.seen_commit[name] = max(self.seen_commit[name], voter.commit)

    def check_proposal(self, proposal):
        """Acknowledge what is committed where its leader put it."""
        voter = proposal.leader
        if proposal.acknowledged is not None or voter not in self.alive.values():
            return
        if voter.commit < proposal.index or voter.log.term_at(proposal.index) != proposal.term:
            return
        proposal.acknowledged = self.now
        self.acknowledged.append(proposal)
        # Whoever sees the commit may have a later configuration in its log than the one that decided.
        configurations = [voter.voters, self.voters_at(voter.log, proposal.index)]
        if not any(self.most_hold(voters, proposal.index) for voters in configurations):
            raise Violation(f"seed {self.seed}: committed without the weights")

    @staticmethod
    def voters_at(log, index):
        """The configuration that a log had at an index."""
        voters = log.snapshot.voters
        for place in range(log.snapshot.index + 1, index + 1):
            entry = log.entry(place)
            voters = entry.voters if entry is not None and entry.kind == "voters" else voters
        return voters

    def most_hold(self, voters, index):
        holders = [name for name in voters if self.holds_from(name, index)]
        return len(holders) > len(voters) // 2

    def holds_from(self, name, index):
        """Whether a voter ever held the weights of a record at an index, or of a later one that it has."""
        disk = self.disks[name]
        return disk.snapshot.index >= index or any(
            entry.kind == "record" and all(name in self.ever.get(d, ()) for d in entry.needs)
            for entry in disk.entries[index - disk.snapshot.index - 1 :]
        )

    def check_history(self):
        """Acknowledged records are there, once each, in an order that agrees with real time."""
        for proposal in self.acknowledged:
            entry = self.committed.get(proposal.index)
            if entry is None or entry.body != proposal.body:
                raise Violation(f"seed {self.seed}: {proposal.body} was acknowledged and is lost")
        latest = 0
        finished = sorted((p.acknowledged, p.index) for p in self.acknowledged)
        place = 0
        for asked, index in sorted((p.asked, p.index) for p in self.acknowledged):
            while place < len(finished) and finished[place][0] < asked:
                latest = max(latest, finished[place][1])
                place += 1
            if index < latest:
                raise Violation(f"seed {self.seed}: order differs from real time")

    # -- a whole run

    def run(self, ticks):
        for _ in range(ticks):
            self.act()
            self.tick()

    def settle(self, ticks=200):
        """Everything works again: a record that is asked for now has to be acknowledged."""
        calm = Odds(0.0, 0.0, 1, crash=0.0)
        self.odds = calm
        self.cut()
        for name in self.names:
            if name not in self.alive:
                self.start(name)
        last = None
        for _ in range(ticks):
            for name in self.names:
                for entry in self.alive[name].log.batch(
                    self.alive[name].log.snapshot.index + 1, 10**6
                ):
                    for digest in entry.needs:
                        self.give(name, digest)
            leaders = self.leading()
            if leaders and (last is None or last.leader.role != "leader"):
                last = self.propose("last", needs=())
            self.tick()
            if last is not None and last.acknowledged is not None:
                break
        else:
            raise Violation(f"seed {self.seed}: no leader commits although everything works")
        self.check_history()
        return len(self.acknowledged)
