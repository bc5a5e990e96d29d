"""Explains why a node ended: maps exit status, signal and cause to a reason and a sentence."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from flow_nexus_neural.protocol.node_words import quoted
from flow_nexus_neural.runtime.base import NodeExit

_CODES: Final = {
    0: ("stopped", "ended by itself after it was asked to stop"),
    9: ("orphaned", "its parent was gone before it was confined (status 9)"),
    70: ("node_bug", "ended by an error of its own program (status 70)"),
    71: ("confinement_failed", "could not confine itself (status 71)"),
}
_SIGNALS: Final[dict[int, str]] = {
    int(getattr(signal, name)): reason
    for name, reason in {
        "SIGKILL": "killed",
        "SIGTERM": "killed",
        "SIGSEGV": "crashed",
        "SIGBUS": "crashed",
        "SIGABRT": "crashed",
        "SIGILL": "crashed",
        "SIGFPE": "crashed",
        "SIGXCPU": "cpu_limit",
    }.items()
    if hasattr(signal, name)  # Windows has only some of them
}
_SIGSYS: Final = getattr(signal, "SIGSYS", None)


MAX_LAST_WORDS: Final = 200
_UNASKED: Final = ("node_bug", "ended by itself without being asked to (status 0)")
_BEFORE_READY: Final = frozenset({9, 71})
"""Statuses with a meaning only before Ready; after it a node may choose its exit status freely."""


def with_last_words(sentence: str, stderr_tail: str) -> str:
    """Append to a sentence the last line of a process's stderr, if there is one, quoted as untrusted text."""
    lines = stderr_tail.strip().splitlines()
    return f"{sentence} (last words: {quoted(lines[-1], MAX_LAST_WORDS)})" if lines else sentence


@dataclass(frozen=True, slots=True)
class ExitReport:
    """Exit status and resource use, from the process that waited for the node; None if not measured."""

    returncode: int
    max_rss_bytes: int | None
    cpu_s: float | None


def describe_exit(
    report: ExitReport | None,
    stderr_tail: str,
    cause: str | None,
    out_of_memory: Callable[[], bool] = lambda: False,
    *,
    was_ready: bool = False,
    asked: bool = True,
) -> NodeExit:
    """Determine why a node ended.

    Args:
        report: Its exit status; None if the zygote died before it could wait for the node.
        stderr_tail: The end of the node's stderr.
        cause: Why the engine's side killed it, as `reason: sentence`; None if it did not.
        out_of_memory: Whether the kernel killed a process for lack of memory. Called only after a SIGKILL
            that this side did not send, because each kill is counted once.
        was_ready: Whether it had sent Ready.
        asked: Whether a Shutdown had been sent to it, received or not.
    """
    reason, sentence, signal_name = _from_status(report, was_ready=was_ready, asked=asked)
    # The cause of a kill only counts if the kill took effect: the node may have ended by itself before.
    if cause is not None and reason in ("killed", "runtime_lost"):
        reason, _, why = cause.partition(": ")
        sentence = f"killed by SIGKILL: {why}"
    elif signal_name == "SIGKILL" and out_of_memory():
        reason = "out_of_memory"
        sentence = "killed by SIGKILL: the kernel reports that it was out of memory"
    return NodeExit(
        reason=reason,
        sentence=sentence,
        returncode=None if report is None else report.returncode,
        signal=signal_name,
        stderr_tail=stderr_tail,
        max_rss_bytes=None if report is None else report.max_rss_bytes,
        cpu_s=None if report is None else report.cpu_s,
    )


def unwatched(exit_: NodeExit) -> NodeExit:
    """Correct an exit for a zygote that lives but does not answer: the cause of the end is then unknown."""
    if exit_.reason != "runtime_lost":
        return exit_
    return replace(
        exit_,
        reason="unexplained",
        sentence="ended; how is not known, because the process that started it does not answer",
    )


def _from_status(
    report: ExitReport | None, *, was_ready: bool, asked: bool
) -> tuple[str, str, str | None]:
    if report is None:
        return "runtime_lost", "ended together with the process that starts nodes", None
    if report.returncode >= 0:
        known = _CODES.get(report.returncode)
        if report.returncode == 0 and not asked:
            known = _UNASKED
        elif known is None or (was_ready and report.returncode in _BEFORE_READY):
            known = ("node_bug", f"ended with the unexpected status {report.returncode}")
        return (*known, None)
    number = -report.returncode
    if number == _SIGSYS:
        return (
            "sandbox_violation",
            "killed by SIGSYS: it made a system call that is forbidden",
            "SIGSYS",
        )
    try:
        name = signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        name = f"signal {number}"
    return _SIGNALS.get(number, "crashed"), f"killed by {name}", name
