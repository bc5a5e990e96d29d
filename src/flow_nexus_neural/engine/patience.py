"""How long the engine waits for what may never come, as data: times that a test can shorten.

Every value is what a real server uses. Tests and simulations pass others through `Ports`.
"""

from dataclasses import dataclass

from flow_nexus_neural.coordination.rounds import USUAL_PATIENCE as USUAL_ROUND_PATIENCE
from flow_nexus_neural.coordination.rounds import RoundPatience


@dataclass(frozen=True, slots=True)
class Deadline:
    """Seconds to wait for an answer, and seconds after which silence means a frozen node.

    `hang_s` None never kills: the caller has other means to tell slow from dead.
    """

    answer_s: float
    hang_s: float | None


@dataclass(frozen=True, slots=True)
class Patience:
    """Waiting times of the engine, in seconds.

    Attributes:
        silence_s: A node that has said nothing for so long is pinged.
        ping_s: One that does not answer the ping in this time becomes `suspect`.
        min_grace_s: A suspect node gets at least so long for a second ping; then it is killed.
        max_grace_s: And at most so long, however long the node says its steps take: it times them itself
            and may say anything.
        first_step_s: Grace of a node at work whose steps nobody has timed yet: the first step of a large
            network is long.
        prediction_s: A node that has not answered a prediction in this time is pinged behind it: one that
            answers the ping alone withholds the prediction.
        grant: For granting or revoking a region, which a node does between two steps. It kills, because
            supervision does not notice a node that answers pings but never this.
        link: For everything that is asked of a node while links change. It does not kill: a node that
            answers nothing at all is found out by supervision.
        rounds: When a round is closed without the late workers.
        attempts: How often a training tries a round before it fails.
        comeback_s: How long a training waits for nodes that are being restarted before it tries again.
        pause_s: How long autonomy keeps a training waiting for workers before it fails.
        respawn_delays_s: Pauses before each restart of a node that lost its runtime; after the last it
            stays failed.
        raft: For one step of a voter, which a node does between two steps of its training.
        majority_s: How long a decision waits for a majority of voters before it fails.
        data_s: Time in which a data set has to be read and prepared. Reading ends by itself sooner, unless
            the system holds it.
        deduplication_s: A deploy that would fit a slot restarted within this time is taken for a repeated
            request for it.
    """

    silence_s: float = 3.0
    ping_s: float = 2.0
    min_grace_s: float = 1.0
    max_grace_s: float = 60.0
    first_step_s: float = 10.0
    prediction_s: float = 5.0
    grant: Deadline = Deadline(30.0, 30.0)
    link: Deadline = Deadline(5.0, None)
    rounds: RoundPatience = USUAL_ROUND_PATIENCE
    attempts: int = 3
    comeback_s: float = 20.0
    pause_s: float = 600.0
    respawn_delays_s: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
    raft: Deadline = Deadline(1.0, None)
    majority_s: float = 20.0
    data_s: float = 130.0
    deduplication_s: float = 10.0


USUAL_PATIENCE = Patience()
"""That of every real server."""
