"""Formats errors for callers: one text with the code, what is wrong, what is valid, and the next call."""

import logging
import secrets

from flow_nexus_neural.errors import InternalError, NeuralError

MAX_ERROR_CHARS = 999
MAX_MESSAGE_CHARS = 600

log = logging.getLogger(__name__)

_HINTS = {
    "cluster_not_found": "Create a cluster with neural_cluster_init",
    "cluster_terminated": "Create a new cluster with neural_cluster_init",
    "not_trained": "Call neural_train_distributed first",
    "no_workers": "Deploy a worker with neural_node_deploy",
    "training_running": 'Wait for it with neural_cluster_status (wait_seconds, until "done"), or stop it'
    " with neural_cluster_terminate (training_id)",
    "shutting_down": "Start the server again",
}
_FALLBACK_HINT = "Look at the cluster with neural_cluster_status, then call again"
_RETRY_HINT = "Calling again may work; look at the cluster with neural_cluster_status"


def error_text(error: NeuralError) -> str:
    """Format an error for the calling model: one line, under 1,000 characters, always with a next step."""
    hint = _capitalised(one_line(error.hint).rstrip("."))
    if not hint:
        hint = _HINTS.get(error.code, _RETRY_HINT if error.retryable else _FALLBACK_HINT)
    message = clip(one_line(error.message).rstrip(".") or "unexplained", MAX_MESSAGE_CHARS)
    is_closed = (
        message.endswith("?") and ". " in hint
    )  # the form needs one full stop between sentences
    head = f"{error.code}: {message} " if is_closed else f"{error.code}: {message}. "
    return head + clip(hint, MAX_ERROR_CHARS - len(head) - 1) + "."


def known_error(failure: Exception, *, subject: str) -> NeuralError:
    """The error to report: the failure itself if it is a NeuralError, else an InternalError.

    Task groups wrap failures in exception groups; a group of one is replaced by its content.
    """
    cause: BaseException = failure
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    return cause if isinstance(cause, NeuralError) else internal_error(failure, subject=subject)


def internal_error(failure: BaseException, *, subject: str) -> InternalError:
    """Log an unexpected failure with its traceback; the caller gets only the incident id of the log entry."""
    incident = secrets.token_hex(2)
    log.error("incident %s in %s", incident, subject, exc_info=failure)
    return InternalError(
        f"unexpected failure (incident {incident})",
        hint="The server's log has the details under this incident. "
        "See what is in force with neural_cluster_status before calling again",
    )


def one_line(text: str) -> str:
    """Collapse white space; replace unprintable characters and those that UTF-8 cannot encode."""
    folded = " ".join(text.split())
    printable = "".join(char if char.isprintable() else "?" for char in folded)
    return printable.encode("utf-8", "replace").decode("utf-8")


def _capitalised(text: str) -> str:
    """Capitalise the first word, unless it is the name of a tool, file or argument."""
    first_word = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first_word.isalpha() else text


def clip(text: str, limit: int) -> str:
    """Truncate a text to `limit` characters, ending in three dots if it was truncated."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
