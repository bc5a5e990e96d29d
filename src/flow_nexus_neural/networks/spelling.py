"""Comparison of names without case and separators, suggestions, and values as shown in errors."""

import difflib
import json
from collections.abc import Iterable

_SHOWN_CHARACTERS = 40


def fold(name: str) -> str:
    """Lower case without separators: `Multi_Head-Attention` and `multiheadattention` are one name."""
    return "".join(character for character in name.lower() if character.isalnum())


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`; None if none is similar enough."""
    by_fold = {fold(candidate): candidate for candidate in known}
    close = difflib.get_close_matches(fold(name)[:80], by_fold, n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or an empty text if no known name is similar."""
    candidate = nearest(name, known)
    return f"; did you mean '{candidate}'?" if candidate else ""


def shown(value: object) -> str:
    """A caller's value as JSON, truncated for use in an error."""
    try:
        text = json.dumps(value, ensure_ascii=False).replace('"', "'")
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
