"""`flow-nexus-neural clusters watch`: the latest training of a stored cluster, round by round, until it ends.

It looks at copies of what a running server stored, as `clusters show` does, and takes no lock that the server
needs. A terminal gets a bar where rich is installed, anything else a plain line per round.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol, Self, TextIO

import anyio
import anyio.to_thread
from typing_extensions import override

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.stored_source import StoredSource
from flow_nexus_neural.engine.storage.state_dir import holder
from flow_nexus_neural.errors import NotTrained
from flow_nexus_neural.server.dashboard.sources import Shown
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.settings import Settings

PAUSE_S = 0.5
"""Between two looks: rounds of milliseconds are shown together."""
QUIET_S = 5.0
"""A journal that nobody writes to for so long may have lost its server."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

Round = Mapping[str, Any]


class Screen(AbstractContextManager["Screen"], Protocol):
    """Where rounds are shown."""

    def say(self, line: str) -> None:
        """A line that stays."""
        ...

    def round(self, point: Round, total: int, left_s: float | None) -> None:
        """A committed round; `left_s` is the estimate for the rounds to come, None where it is not known."""
        ...


class PlainScreen(Screen):
    """A line per round, for files, pipes, and terminals without rich.

    Args:
        out: Where they go.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    @override
    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    @override
    def say(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()

    @override
    def round(self, point: Round, total: int, left_s: float | None) -> None:
        said = [f"round {point['round']}/{total}", *measured(point), *time_left(left_s)]
        self.say("  ".join(said))


class RichScreen(Screen):
    """A bar below the lines of the rounds.

    Args:
        out: A terminal.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("round", markup=False),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=Console(file=out, highlight=False),
        )
        self._bar = self._progress.add_task("", total=None, left="")
        self._held = ExitStack()

    @override
    def __enter__(self) -> Self:
        self._held.enter_context(self._progress)
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self._held.close()

    @override
    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, soft_wrap=True)

    @override
    def round(self, point: Round, total: int, left_s: float | None) -> None:
        self.say("  ".join([f"round {point['round']}/{total}", *measured(point)]))
        left = "".join(time_left(left_s))
        self._progress.update(self._bar, completed=point["round"], total=total, left=left)


def measured(point: Round) -> Iterator[str]:
    """What a round was measured to be; what was not measured is left out."""
    for words, key in (("train loss", "train_loss"), ("validation loss", "val_loss")):
        if point[key] is not None:
            yield f"{words} {point[key]:.4f}"
    if point["accuracy"] is not None:
        yield f"accuracy {point['accuracy']:.3f}"
    yield f"{point['seconds']:.2f} s"


def time_left(left_s: float | None) -> Iterator[str]:
    """The estimate in words."""
    if left_s is not None:
        yield f"about {left_s:.0f} s of rounds left"


def screen_for(out: TextIO) -> Screen:
    """A bar on a terminal where rich is installed, else plain lines."""
    if out.isatty():
        try:
            return RichScreen(out)
        except ImportError:
            pass
    return PlainScreen(out)


def watch(settings: Settings, cluster_id: str, out: TextIO | None = None) -> int:
    """Show the rounds of a cluster's latest training, those that are to come too, until it ends.

    Args:
        settings: Where the state is.
        cluster_id: Id or name.
        out: Where rounds are shown; standard output by default.

    Returns:
        0 when the training ended or was stopped; 1 when it failed or waits for a server, or after an error;
        130 after Ctrl-C.
    """
    configure_logging(settings)
    try:
        return anyio.run(follow, settings, cluster_id, screen_for(out or sys.stdout))
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: no longer watching; the training is not touched\n")
        return INTERRUPTED
    except BrokenPipeError:
        raise  # nobody reads: the command line's own matter
    except Exception as failure:  # noqa: BLE001 - the command's boundary: every failure is worded
        sys.stderr.write(f"{PROGRAM}: {error_text(known_error(failure, subject='watch'))}\n")
        return 1


async def follow(settings: Settings, cluster_id: str, screen: Screen) -> int:
    """`watch`, on a screen.

    Raises:
        ClusterNotFound, NotTrained: There is nothing to watch.
        StoreUnavailable, StoreCorrupt: The state directory cannot be read.
    """
    source = StoredSource(settings)
    shown = await source.show(cluster_id)
    if shown.status["training"] is None:
        raise NotTrained(
            f"cluster {shown.status['cluster_id']} has no training to watch",
            hint="start one with neural_train_distributed, then watch again",
        )
    training_id, seen = shown.status["training"]["training_id"], 0
    with screen:
        screen.say(f"training {training_id} of cluster {shown.status['cluster_id']}")
        while True:
            if shown.status["training"]["training_id"] == training_id:
                seen = _show_new(shown, seen, screen)
            session = _session(shown, training_id)
            if session is None or session["status"] != "running":
                break
            await anyio.sleep(PAUSE_S)
            await source.wait(QUIET_S)
            if await anyio.to_thread.run_sync(holder, settings.state_dir) is None:
                source.forget()
            shown = await source.show(cluster_id)
        return _show_end(session, shown.status, screen)


def _show_new(shown: Shown, seen: int, screen: Screen) -> int:
    """Show the rounds after the first `seen` ones; how many there are."""
    training = shown.status["training"]
    total, per_round_s = training["total_rounds"], training["seconds_per_round"]
    is_running = shown.status["training_status"] == "running"
    for point in shown.rounds[seen:]:
        newest = point is shown.rounds[-1]
        rest = total - point["round"]
        knows = is_running and newest and rest > 0 and per_round_s is not None
        screen.round(point, total, per_round_s * rest if knows else None)
    return len(shown.rounds)


def _session(shown: Shown, training_id: str) -> Mapping[str, Any] | None:
    sessions: Sequence[Mapping[str, Any]] = shown.status["training_sessions"]
    return next((one for one in sessions if one["training_id"] == training_id), None)


def _show_end(session: Mapping[str, Any] | None, status: Mapping[str, Any], screen: Screen) -> int:
    """How the training ended, and what answers now; the exit status."""
    if session is None:
        screen.say("the training is no longer kept")
        return 1
    said = [
        f"{session['status']} after {session['rounds_done']} of {session['total_rounds']} rounds"
    ]
    if session["error"]:
        said.append("".join(c if c.isprintable() else " " for c in session["error"]))
    is_latest = status["training"]["training_id"] == session["training_id"]
    evaluation, accuracy = status["evaluation"], status["global_accuracy"]
    if is_latest and evaluation is not None and accuracy is not None:
        said.append(f"accuracy {accuracy:.3f} on {evaluation['test_rows']} test rows")
    screen.say("; ".join(said))
    return 1 if session["status"] == "failed" else 0
